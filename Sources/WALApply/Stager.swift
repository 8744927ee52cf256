import WALCatalog
import WALFormat
import WALSystem

/// Writes what a batch needs before anything of it is seen: new content into `staging/s<object>`, or straight into a
/// directory that is itself not yet published; patches of large files into files of their own. Nothing that was there
/// before the batch is touched, and nothing is synced: one `syncfs` follows for all of it.
final class Stager {
    /// From this size on a file that changes in part is patched where it stands, unless the file system can clone it.
    /// Rewriting a smaller one costs less than it is worth to show a reader half a patch.
    static let patchBytes: UInt64 = 4 << 20

    let disk: DiskTree
    let staging: Directory
    let bodies: [[UInt8]]
    /// See ``Applier/ready``; nil on a replica.
    private let ready: Set<ObjectID>?
    let blocks: (any BlockSource)?
    let metadata: MetadataWriter
    /// The tree is not seen by anybody yet, so everything new goes straight to its name.
    private let isHidden: Bool
    /// See ``Applier/isShort``.
    private let isShort: Bool
    let fault: (() throws -> Void)?
    let writeback: Writeback
    let written: WrittenBytes
    var patches: [(object: ObjectID, patch: Name)] = []
    /// Files that the patches take from.
    var asides: [Name] = []
    /// Whether the file system has reflinks, once that was tried.
    var clones: Bool?
    /// Files of the replica that are not what the catalog knew: their content was not used, and must be healed.
    var drifted: Set<ObjectID> = []
    /// Those with another mode or owner than the catalog knew.
    var restamped: Set<ObjectID> = []
    /// Where there was no room before: something was to be had from elsewhere.
    private(set) var hasFetched = false
    private var stagedDirectories: Set<ObjectID> = []

    init(
        disk: DiskTree, bodies: [[UInt8]], ready: Set<ObjectID>?, blocks: (any BlockSource)?, metadata: MetadataWriter,
        isHidden: Bool, isShort: Bool, fault: (() throws -> Void)?, writeback: Writeback, written: WrittenBytes
    ) {
        self.disk = disk
        staging = disk.staging
        self.bodies = bodies
        self.ready = ready
        self.blocks = blocks
        self.metadata = metadata
        self.isHidden = isHidden
        self.isShort = isShort
        self.fault = fault
        self.writeback = writeback
        self.written = written
    }

    /// Of files that are waiting to be written.
    private static let maxOpenDirectories = ProcessFacts.openDirectories

    func stageAll(_ fold: inout Fold) throws {
        for object in fold.newDirectories.sorted() { try stageDirectories(object, fold) }
        var simple: [SimpleFile] = []
        let tasks = try fold.takeTasks().map { try keepingEnd($0, fold) }
        if isShort {
            hasFetched = tasks.contains { $0.content?.fetchedBytes ?? 0 > 0 }
            try staging.requireRoom(for: tasks.reduce(0) { try $0 + lackingBytes($1) })
        }
        var expected = tasks[...]
        var directories = 0
        for task in tasks {
            while let blocks, blocks.canExpect, let next = expected.popFirst() { blocks.expect(next.fetches) }
            if ready?.contains(task.row.id) == true {
                try stageReady(task, fold)
            } else if let file = try simpleFile(task, fold) {
                // Each holds its directory open, and a tree may have any number of them.
                if simple.last?.directory !== file.directory { directories += 1 }
                if directories > Self.maxOpenDirectories {
                    try writeSimple(simple)
                    simple.removeAll()
                    directories = 1
                }
                simple.append(file)
            } else {
                try stage(task, fold, isLast: true)
            }
        }
        try blocks?.forgetExpected()
        try writeSimple(simple)
        // An edit of an application has its own event, and is captured. A hidden tree is nobody's to edit.
        guard ready == nil, !isHidden else { return }
        try checkMetadata(&fold)
        try checkTouched(&fold)
        try checkParents(fold)
    }

    // MARK: Directories

    /// Makes a new directory and the new ones above it. Owner, mode and times are set last: until then we write into it.
    private func stageDirectories(_ object: ObjectID, _ fold: Fold) throws {
        var chain: [ObjectID] = []
        var next: ObjectID? = object
        // Each is entered once, so a loop, which is no tree, ends here.
        while let current = next, fold.newDirectories.contains(current), stagedDirectories.insert(current).inserted {
            chain.append(current)
            next = try fold.catalog.places(of: current).first?.parent
        }
        for current in chain.reversed() { try stageDirectory(current, fold) }
    }

    private func stageDirectory(_ object: ObjectID, _ fold: Fold) throws {
        try fault?()
        var parent = staging
        var name = DiskTree.name(.staged, object)
        if let place = try fold.catalog.places(of: object).first,
            isHidden || fold.newDirectories.contains(place.parent), let handle = try disk.directory(place.parent)
        {
            (parent, name) = (handle, place.name)
        }
        do throws(SystemError) {
            try parent.makeDirectory(name, permissions: 0o700)
        } catch {
            // Left by a batch that did not come to its end. A hidden tree goes on with what it has.
            guard error.isExisting else { throw error }
            if try !isHidden || parent.status(of: name).kind != .directory {
                try parent.removeTree(name)
                try parent.makeDirectory(name, permissions: 0o700)
            }
        }
        let handle = try parent.openDirectory(name)
        try fold.catalog.setLocal(object, identity: try handle.status().identity, stamp: ObjectRow.neverSeen)
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
    }

    private func simpleFile(_ task: Fold.Task, _ fold: Fold) throws -> SimpleFile? {
        // Attributes are set one by one, and few files have any.
        guard let content = task.content, task.row.metadata.attributes.isEmpty,
            try task.before == nil || !fold.catalog.isPending(task.row.id)
        else {
            return nil
        }
        var ranges: [Range<Int>] = []
        for extent in content.extents {
            guard case .data(let range) = extent else { return nil }
            ranges.append(range)
        }
        let place = task.before == nil ? try hiddenPlace(task.row.id, fold) : nil
        let (directory, name) = place ?? (staging, DiskTree.name(.staged, task.row.id))
        return SimpleFile(row: task.row, directory: directory, name: name, set: task.set, ranges: ranges)
    }

    /// Two threads: creating files is work of the kernel that two cores share well.
    private func writeSimple(_ files: [SimpleFile]) throws {
        try fault?()
        let half = files.count >= 64 ? files.count / 2 : files.count
        let bodies = bodies
        let metadata = metadata
        let written = written
        let second = Monitor<Result<[FileIdentity], SystemError>>(.success([]))
        let rest = Array(files[half...])
        var worker: WorkerThread?
        if !rest.isEmpty {
            worker = try WorkerThread.start(name: "stage") {
                let result = Self.write(rest, bodies, metadata, written)
                second.update { $0 = result }
            }
        }
        let first = Self.write(Array(files[..<half]), bodies, metadata, written)
        worker?.join()
        for (file, identity) in zip(files, try first.get() + second.withLock({ $0 }).get()) {
            try disk.catalog.setLocal(file.row.id, identity: identity, stamp: ObjectRow.neverSeen)
        }
        try writeback.wrote(files.reduce(0) { $0 + Int($1.row.size) })
    }

    private static func write(
        _ files: [SimpleFile], _ bodies: [[UInt8]], _ metadata: MetadataWriter, _ written: WrittenBytes
    ) -> Result<[FileIdentity], SystemError> {
        var identities: [FileIdentity] = []
        identities.reserveCapacity(files.count)
        var bytes: UInt64 = 0
        defer { written.wrote(Int(bytes)) }
        do throws(SystemError) {
            for item in files {
                // Most files then have their mode from the beginning; nobody else sees the directory.
                let file = try create(item.directory, item.name, permissions: item.row.metadata.mode & 0o777)
                var offset: UInt64 = 0
                for range in item.ranges {
                    try bodies[item.set].withBytes { body throws(SystemError) in
                        try file.write(UnsafeRawBufferPointer(rebasing: body[range]), at: offset)
                    }
                    offset += UInt64(range.count)
                }
                bytes += offset
                identities.append(try metadata.finish(file, item.row.metadata))
            }
        } catch {
            return .failure(error)
        }
        return .success(identities)
    }

    /// A fresh file; what a batch that did not come to its end left under the name is removed.
    static func create(
        _ directory: Directory, _ name: Name, permissions: UInt16 = 0o600
    ) throws(SystemError) -> File {
        do {
            return try directory.createFile(name, permissions: permissions)
        } catch {
            guard error.isExisting else { throw error }
            try directory.removeTree(name)
            return try directory.createFile(name, permissions: permissions)
        }
    }

    // MARK: Everything else

    /// Writes one object now, because another one copies from it.
    func stageEarly(_ object: ObjectID, _ fold: inout Fold) throws {
        for task in fold.takeTasks(before: object) { try stage(keepingEnd(task, fold), fold, isLast: false) }
    }

    private func stageReady(_ task: Fold.Task, _ fold: Fold) throws {
        try fault?()
        let unfinished = DiskTree.name(.unfinished, task.row.id)
        let identity = try metadata.finish(try staging.openOwnFileForWriting(unfinished), task.row.metadata)
        try fold.catalog.setLocal(task.row.id, identity: identity, stamp: ObjectRow.neverSeen)
        try staging.rename(unfinished, to: staging, DiskTree.name(.staged, task.row.id))
    }

    /// `isLast`: nothing in the batch copies from this version or replaces it.
    private func stage(_ task: Fold.Task, _ fold: Fold, isLast: Bool) throws {
        try fault?()
        let object = task.row.id
        guard let content = task.content else {
            try stageNode(task, isLast ? hiddenPlace(task, fold) : nil)
            return
        }
        if isLast, try stagePart(task, content, fold) { return }
        // Content that is fetched may come in several attempts, so it is not written where the next one starts anew.
        if isLast, isHidden || !content.extents.contains(where: \.isFetch),
            let (directory, name) = try hiddenPlace(task, fold)
        {
            if try fill(try Self.create(directory, name), task, content, fold) {
                // What lacks blocks is not shown, and waits where a later segment finds it.
                try directory.rename(name, to: staging, DiskTree.name(isHidden ? .waiting : .staged, object))
            }
            return
        }
        // Built beside what may be its own source, then put in its place.
        let unfinished = DiskTree.name(.unfinished, object)
        _ = try fill(createOrContinue(unfinished), task, content, fold)
        try staging.rename(unfinished, to: staging, DiskTree.name(.staged, object))
    }

    /// A transfer that was cut: what it holds is checked block by block and kept.
    func createOrContinue(_ unfinished: Name) throws(SystemError) -> File {
        do {
            return try staging.createFile(unfinished)
        } catch {
            guard error.isExisting else { throw error }
            return try staging.openOwnFileForWriting(unfinished)
        }
    }

    private func hiddenPlace(_ task: Fold.Task, _ fold: Fold) throws -> (Directory, Name)? {
        task.before == nil ? try hiddenPlace(task.row.id, fold) : nil
    }

    private func stageNode(_ task: Fold.Task, _ place: (Directory, Name)?) throws {
        let (directory, name) = place ?? (staging, DiskTree.name(.staged, task.row.id))
        let identity = try Self.makeNode(task.row, directory, name, metadata)
        try disk.catalog.setLocal(task.row.id, identity: identity, stamp: ObjectRow.neverSeen)
    }

    /// A symlink, a FIFO or a device.
    static func makeNode(
        _ row: ObjectRow, _ directory: Directory, _ name: Name, _ metadata: MetadataWriter
    ) throws(SystemError) -> FileIdentity {
        func make() throws(SystemError) {
            if row.kind == .symlink {
                try directory.makeSymlink(name, target: row.target)
            } else {
                try directory.makeNode(name, row.kind, row.device ?? DeviceNumber(major: 0, minor: 0))
            }
        }
        do throws(SystemError) {
            try make()
        } catch {
            guard error.isExisting else { throw error }
            try directory.removeTree(name)
            try make()
        }
        try metadata.set(row.metadata, of: name, row.kind, in: directory, isNew: true)
        return try directory.status(of: name).identity
    }

}

extension Fold.Task {
    /// The blocks that are not in the set.
    fileprivate var fetches: [BlockRequest] {
        var requests: [BlockRequest] = []
        var offset: UInt64 = 0
        for extent in content?.extents ?? [] {
            if case .fetch(let block) = extent {
                requests.append(BlockRequest(object: row.id, offset: offset, block: block))
            }
            offset += extent.length
        }
        return requests
    }
}
