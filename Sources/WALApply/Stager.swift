import WALCatalog
import WALFormat
import WALSystem

/// Writes what a batch needs before anything of it is seen: new content into `staging/o<object>`, or straight into a
/// directory that is itself not yet published; patches of large files into `staging/p…`. Nothing here is synced: one
/// `syncfs` follows for all of it.
final class Stager {
    /// From this size on a file that changes in part is patched where it stands, unless the file system can clone it.
    /// Rewriting a smaller one costs less than it is worth to show a reader half a patch.
    static let patchBytes: UInt64 = 4 << 20

    let disk: DiskTree
    private let staging: Directory
    private let bodies: [[UInt8]]
    private let blocks: (any BlockSource)?
    private let setsOwner: Bool
    /// The tree is not seen by anybody yet, so everything new goes straight to its name.
    private let isHidden: Bool
    private(set) var patches: [(object: ObjectID, patch: Name)] = []
    private(set) var missing: [ObjectID: [MissingBlock]] = [:]
    private var stagedDirectories: Set<ObjectID> = []

    init(
        disk: DiskTree, bodies: [[UInt8]], blocks: (any BlockSource)?, setsOwner: Bool, isHidden: Bool
    ) {
        self.disk = disk
        staging = disk.staging
        self.bodies = bodies
        self.blocks = blocks
        self.setsOwner = setsOwner
        self.isHidden = isHidden
    }

    func stageAll(_ fold: inout Fold) throws {
        for object in fold.newDirectories { try stageDirectory(object, fold) }
        var simple: [SimpleFile] = []
        for object in fold.taskOrder {
            guard let task = fold.tasks.removeValue(forKey: object) else { continue }
            if let file = try simpleFile(task, fold) { simple.append(file) } else { try stage(task, fold, isLast: true) }
        }
        fold.taskOrder.removeAll()
        try writeSimple(simple)
    }

    // MARK: Directories

    /// Its owner, mode and times are set last: until then we write into it.
    private func stageDirectory(_ object: ObjectID, _ fold: Fold) throws {
        // Parents first; a loop of new directories is no tree, and ends here because each is entered once.
        guard stagedDirectories.insert(object).inserted else { return }
        let places = try fold.catalog.places(of: object)
        var parent = staging
        var name = DiskTree.stagedName(object)
        if let place = places.first, isHidden || fold.newDirectories.contains(place.parent) {
            if fold.newDirectories.contains(place.parent) { try stageDirectory(place.parent, fold) }
            if let handle = try disk.directory(place.parent) { (parent, name) = (handle, place.name) }
        }
        try parent.makeDirectory(name, permissions: 0o700)
        let handle = try parent.openDirectory(name)
        try fold.catalog.setLocal(object, identity: try handle.status().identity, stamp: 0)
        disk.remember(object, handle)
    }

    /// Where a new object may be written at once under its name: in a directory that nobody sees yet.
    private func hiddenPlace(_ object: ObjectID, _ fold: Fold) throws -> (Directory, Name)? {
        guard let place = try fold.catalog.places(of: object).first,
            isHidden || fold.newDirectories.contains(place.parent), let parent = try disk.directory(place.parent)
        else { return nil }
        return (parent, place.name)
    }

    // MARK: Files that are nothing but data

    private struct SimpleFile: Sendable {
        var row: ObjectRow
        var directory: Directory
        var name: Name
        var set: Int
        var ranges: [Range<Int>]
        var identity = FileIdentity.unknown
    }

    private func simpleFile(_ task: Fold.Task, _ fold: Fold) throws -> SimpleFile? {
        guard let content = task.content, try !fold.catalog.isPending(task.row.id) else { return nil }
        var ranges: [Range<Int>] = []
        for extent in content.extents {
            guard case .data(let range) = extent else { return nil }
            ranges.append(range)
        }
        let place = task.before == nil ? try hiddenPlace(task.row.id, fold) : nil
        let (directory, name) = place ?? (staging, DiskTree.stagedName(task.row.id))
        return SimpleFile(row: task.row, directory: directory, name: name, set: task.set, ranges: ranges)
    }

    /// Two threads: creating files is work of the kernel that two cores share well.
    private func writeSimple(_ files: [SimpleFile]) throws {
        let half = files.count >= 64 ? files.count / 2 : files.count
        let bodies = bodies
        let setsOwner = setsOwner
        let second = Monitor<Result<[FileIdentity], SystemError>?>(nil)
        let rest = Array(files[half...])
        var worker: WorkerThread?
        if !rest.isEmpty {
            worker = try WorkerThread.start(name: "stage") {
                let result = Self.write(rest, bodies, setsOwner)
                second.update { $0 = result }
            }
        }
        let first = Self.write(Array(files[..<half]), bodies, setsOwner)
        worker?.join()
        let others = rest.isEmpty ? .success([]) : second.withLock { $0 } ?? .success([])
        for (file, identity) in zip(files, try first.get() + others.get()) {
            try disk.catalog.setLocal(file.row.id, identity: identity, stamp: 0)
        }
    }

    private static func write(
        _ files: [SimpleFile], _ bodies: [[UInt8]], _ setsOwner: Bool
    ) -> Result<[FileIdentity], SystemError> {
        var identities: [FileIdentity] = []
        identities.reserveCapacity(files.count)
        do throws(SystemError) {
            for item in files {
                let file = try create(item.directory, item.name)
                var offset: UInt64 = 0
                for range in item.ranges {
                    try bodies[item.set].withBytes { bytes throws(SystemError) in
                        try file.write(UnsafeRawBufferPointer(rebasing: bytes[range]), at: offset)
                    }
                    offset += UInt64(range.count)
                }
                identities.append(try finish(file, item.row, setsOwner))
            }
        } catch {
            return .failure(error)
        }
        return .success(identities)
    }

    /// A fresh file; what a batch that did not come to its end left under the name is removed.
    private static func create(_ directory: Directory, _ name: Name) throws(SystemError) -> File {
        do {
            return try directory.createFile(name)
        } catch {
            guard error.isExisting else { throw error }
            try directory.unlink(name)
            return try directory.createFile(name)
        }
    }

    /// Owner before mode, for the kernel takes setuid bits away with the owner; times last.
    private static func finish(
        _ file: consuming File, _ row: ObjectRow, _ setsOwner: Bool
    ) throws(SystemError) -> FileIdentity {
        if setsOwner { try file.setOwner(uid: row.metadata.uid, gid: row.metadata.gid) }
        try file.setMode(row.metadata.mode)
        try file.setModificationTime(row.metadata.mtime)
        let identity = try file.status().identity
        try file.close()
        return identity
    }

    // MARK: Everything else

    /// Writes one object now, because another one copies from it.
    func stageEarly(_ object: ObjectID, _ fold: inout Fold) throws {
        guard let task = fold.tasks.removeValue(forKey: object) else { return }
        fold.taskOrder.removeAll { $0 == object }
        try stage(task, fold, isLast: false)
    }

    private func stage(_ task: Fold.Task, _ fold: Fold, isLast: Bool) throws {
        let object = task.row.id
        guard let content = task.content else {
            try stageSymlink(task, fold)
            return
        }
        let wasPending = try fold.catalog.isPending(object)
        if isLast, !wasPending, let before = task.before, patches.allSatisfy({ $0.object != object }),
            let patch = Patch(content, of: before), content.size >= Self.patchBytes,
            let place = try disk.locate(object, identity: before.identity), place.directory !== staging,
            try !stageClone(task, patch, place.directory, place.name, fold)
        {
            try stagePatch(task, patch, fold)
            return
        }
        let place = task.before == nil && isLast ? try hiddenPlace(object, fold) : nil
        let staged = DiskTree.stagedName(object)
        if let (directory, name) = place {
            let file = try Self.create(directory, name)
            try fill(file, task, content, fold)
            // What lacks blocks is not shown, and waits where a later segment finds it.
            if try fold.catalog.isPending(object) { try directory.rename(name, to: staging, staged) }
            return
        }
        // Built beside what may be its own source, then put in its place.
        let temporary = Name(trusted: Array("n\(object)".utf8))
        let file: File
        do throws(SystemError) {
            file = try staging.createFile(temporary)
        } catch {
            guard error.isExisting else { throw error }
            // A transfer that was cut: what it holds is checked block by block and kept.
            file = try staging.openFileForWriting(temporary)
        }
        try fill(file, task, content, fold)
        try staging.rename(temporary, to: staging, staged)
    }

    private func stageSymlink(_ task: Fold.Task, _ fold: Fold) throws {
        let place = task.before == nil ? try hiddenPlace(task.row.id, fold) : nil
        let (directory, name) = place ?? (staging, DiskTree.stagedName(task.row.id))
        do throws(SystemError) {
            try directory.makeSymlink(name, target: task.row.target)
        } catch {
            guard error.isExisting else { throw error }
            try directory.unlink(name)
            try directory.makeSymlink(name, target: task.row.target)
        }
        let metadata = task.row.metadata
        if setsOwner { try directory.setOwner(name, uid: metadata.uid, gid: metadata.gid) }
        try directory.setModificationTime(name, metadata.mtime)
        try fold.catalog.setLocal(task.row.id, identity: try directory.status(of: name).identity, stamp: 0)
    }

    /// Writes all extents. Blocks that nobody has any more are noted as missing, and the file stays unpublished.
    private func fill(_ file: consuming File, _ task: Fold.Task, _ content: FileContent, _ fold: Fold) throws {
        let object = task.row.id
        let held = try file.size()
        try file.truncate(to: content.size)
        var requests: [BlockRequest] = []
        var lacking: [MissingBlock] = []
        var offset: UInt64 = 0
        for extent in content.extents {
            switch extent {
            case .data(let range):
                try bodies[task.set].withBytes { bytes throws(SystemError) in
                    try file.write(UnsafeRawBufferPointer(rebasing: bytes[range]), at: offset)
                }
                offset += UInt64(range.count)
            case .hole(let length):
                if held > offset { try file.punchHole(offset: offset, length: length) }
                offset += length
            case .copy(let source, let from, let length):
                lacking += try copy(content.sources[source].object, from, length, to: file, offset, object, fold)
                offset += length
            case .fetch(let block):
                if try held < offset + UInt64(block.length) || !holds(file, offset, block) {
                    requests.append(BlockRequest(object: object, offset: offset, block: block))
                }
                offset += UInt64(block.length)
            }
        }
        if !requests.isEmpty {
            guard let blocks else { throw ApplyError.interrupted }
            try blocks.fetch(requests) { request, bytes in
                if let bytes {
                    try file.write(bytes, at: request.offset)
                } else {
                    lacking.append(MissingBlock(object: object, offset: request.offset, block: request.block))
                }
            }
        }
        try finish(file, task.row, lacking, fold)
    }

    private func finish(
        _ file: consuming File, _ row: ObjectRow, _ lacking: [MissingBlock], _ fold: Fold
    ) throws {
        let identity = try Self.finish(file, row, setsOwner)
        try fold.catalog.setLocal(row.id, identity: identity, stamp: 0)
        try fold.catalog.setMissing(lacking, of: row.id)
    }

    private func holds(_ file: borrowing File, _ offset: UInt64, _ block: ContentBlock) throws -> Bool {
        let bytes = try file.read(count: Int(block.length), at: offset)
        return bytes.count == Int(block.length) && Digest(of: bytes) == block.digest
    }

    /// Copies a range of another object, or of this one's last version. What that lacks, this lacks too.
    private func copy(
        _ source: ObjectID, _ from: UInt64, _ length: UInt64, to file: borrowing File, _ offset: UInt64,
        _ object: ObjectID, _ fold: Fold
    ) throws -> [MissingBlock] {
        guard let identity = try fold.catalog.identity(of: source),
            let place = try disk.locate(source, identity: identity)
        else {
            let path = try fold.catalog.path(of: source) ?? []
            throw ApplyError.lost(source, path: PathText.joined(path))
        }
        let opened = try place.directory.openFile(place.name)
        let copied = try file.copyRange(from: opened, sourceOffset: from, to: offset, length: length)
        try opened.close()
        guard copied == length else {
            let path = try fold.catalog.path(of: source) ?? []
            throw ApplyError.lost(source, path: PathText.joined(path))
        }
        return try fold.catalog.missingBlocks(of: source).compactMap { missing in
            guard missing.offset >= from, missing.offset < from + length else { return nil }
            return MissingBlock(object: object, offset: missing.offset - from + offset, block: missing.block)
        }
    }

    // MARK: Large files that change in part

    /// On a file system with reflinks the new version is a clone with the changed blocks written over it: as cheap as a
    /// patch, and published whole. False where there are none.
    private func stageClone(
        _ task: Fold.Task, _ patch: Patch, _ directory: Directory, _ name: Name, _ fold: Fold
    ) throws -> Bool {
        let temporary = Name(trusted: Array("n\(task.row.id)".utf8))
        let target = try Self.create(staging, temporary)
        let source = try directory.openFile(name)
        let isCloned = try target.cloneAll(from: source)
        try source.close()
        guard isCloned else {
            try target.close()
            try staging.unlink(temporary)
            return false
        }
        try target.truncate(to: patch.size)
        for part in patch.parts {
            try bodies[task.set].withBytes { bytes throws(SystemError) in
                try target.write(UnsafeRawBufferPointer(rebasing: bytes[part.range]), at: part.offset)
            }
        }
        try finish(target, task.row, [], fold)
        try staging.rename(temporary, to: staging, DiskTree.stagedName(task.row.id))
        return true
    }

    private func stagePatch(_ task: Fold.Task, _ patch: Patch, _ fold: Fold) throws {
        let name = temporaryName()
        let file = try staging.createFile(name)
        let encoded = patch.encoded(bodies[task.set])
        try file.write(encoded, at: 0)
        try file.close()
        patches.append((task.row.id, name))
    }
}
