import WALCatalog
import WALFormat
import WALSystem

/// Turns a client's write into the entries of a segment: checks it against the catalog, which holds all that was written
/// to the tree so far, and against the disk, where things stand that no catalog knows. Changes neither.
package struct WriteBuilder {
    private let catalog: CatalogTransaction
    private let handles: TreeHandles
    private let root: FileStatus
    private let uploads: Directory
    private let maxInlineBytes: Int
    private let isPrivileged = ProcessFacts.isPrivileged
    private let now: Timestamp
    private var changes = ChangeWriter()
    /// Directories that have other names in them than before.
    private var restamped: Set<ObjectID> = []
    /// Of directories, for whoever watches them.
    package private(set) var dropped: [ObjectID] = []
    /// The object that a put makes of the upload.
    package private(set) var made: ObjectID?

    package init(_ catalog: CatalogTransaction, root: Directory, uploads: Directory, maxInlineBytes: Int) throws {
        self.catalog = catalog
        self.root = try root.status()
        self.uploads = uploads
        self.maxInlineBytes = maxInlineBytes
        handles = TreeHandles(root: root)
        let nanoseconds = Clock.realtimeNanoseconds()
        let (seconds, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        now = Timestamp(seconds: seconds, nanoseconds: UInt32(max(0, rest)))
    }

    /// nil when all is as it should be already.
    package mutating func build(_ write: TreeWrite) throws -> ChangeWriter? {
        let path = write.path
        guard let name = path.last else { throw WriteRefusal(.failed, "the root itself cannot be written") }
        switch write.operation {
        case .put(let put, let upload): try self.put(path, name, put, upload)
        case .remove(let isRecursive): try remove(path, name, isRecursive: isRecursive)
        case .move(let target, let replaces): try move(path, name, to: target, replaces: replaces)
        case .makeDirectory(let mode, let makesParents):
            guard try makeDirectory(path, name, mode, makesParents: makesParents) else { return nil }
        case .removeDirectory: try removeDirectory(path, name)
        case .setMode(let mode): guard try setMode(path, name, mode) else { return nil }
        case .makeSymlink(let target): try makeSymlink(path, name, target)
        }
        for object in restamped.sorted() where !dropped.contains(object) {
            guard var row = try catalog.object(object) else { continue }
            row.metadata.mtime = now
            changes.metadata(object, row.metadata)
        }
        changes.request(write.request)
        guard UInt64(changes.rawBytes) <= Limits.maxSegmentRawBytes, changes.entryCount <= Limits.maxSegmentEntries
        else { throw WriteRefusal(.failed, "\(text(path)): this is more than one segment can tell; do it in parts") }
        return changes
    }

    private func text(_ path: [Name]) -> String { PathText.joined(path) }

    // MARK: Looking

    private mutating func nextObject() -> ObjectID {
        catalog.state.lastObject = max(catalog.state.lastObject, .root) + 1
        return catalog.state.lastObject
    }

    private func requireIncluded(_ path: [Name], isDirectory: Bool) throws {
        guard try !catalog.filter().matcher.excludes(path: path, isDirectory: isDirectory) else {
            throw WriteRefusal(.failed, "\(text(path)) is excluded by the filter, so it is not replicated")
        }
    }

    /// The directory that a name is in, where names can be changed.
    private mutating func parent(_ path: [Name], makesParents: Bool = false) throws -> ObjectID {
        var current = ObjectID.root
        for (index, name) in path.dropLast().enumerated() {
            let above = Array(path[...index])
            guard let next = try catalog.lookup(Place(parent: current, name: name)) else {
                guard makesParents else { throw WriteRefusal(.failed, "\(text(above)) does not exist") }
                try requireFree(current, name, above)
                return try makeMissing(path, from: index, in: current)
            }
            guard try catalog.occupant(next)?.kind == .directory else {
                throw WriteRefusal(.failed, "\(text(above)) is not a directory")
            }
            current = next
        }
        _ = try open(current, Array(path.dropLast()))
        return current
    }

    /// Directories that are not there yet, from one component on to the one before the last.
    private mutating func makeMissing(_ path: [Name], from index: Int, in start: ObjectID) throws -> ObjectID {
        _ = try open(start, Array(path[..<index]))
        var parent = start
        for next in index..<path.count - 1 {
            try requireIncluded(Array(path[...next]), isDirectory: true)
            parent = try makeDirectory(path[next], in: parent, mode: 0o755)
        }
        return parent
    }

    private mutating func makeDirectory(_ name: Name, in parent: ObjectID, mode: UInt16) throws -> ObjectID {
        let object = nextObject()
        changes.directory(object, metadata(mode | (isPrivileged ? 0 : Kind.directory.ownersLeastMode)))
        changes.bind(parent: parent, name, object)
        restamped.insert(parent)
        return object
    }

    private func metadata(_ mode: UInt16) -> Metadata {
        Metadata(
            mode: mode, uid: ProcessFacts.effectiveUserID, gid: ProcessFacts.effectiveGroupID, mtime: now)
    }

    /// As it stands on the disk now.
    private func open(_ object: ObjectID, _ path: [Name]) throws -> Directory {
        guard let directory = try handles.directory(object, catalog) else {
            throw WriteRefusal(.busy, "\(text(path)) was moved or replaced in this moment; try again")
        }
        let status = try directory.status()
        guard status.dev == root.dev, object == .root || !status.isMountRoot else {
            throw WriteRefusal(.failed, "\(text(path)) is on another file system, so it is not replicated")
        }
        guard !status.isImmutable else { throw WriteRefusal(.failed, "\(text(path)) is immutable or append-only") }
        let isOwn = status.uid == ProcessFacts.effectiveUserID
        guard isOwn || directory.mayChangeNames else {
            throw WriteRefusal(.failed, "the primary has no permission to change names in \(text(path))")
        }
        return directory
    }

    private func status(_ directory: Directory, _ name: Name) throws -> FileStatus? {
        do throws(SystemError) {
            return try directory.status(of: name)
        } catch {
            if error.isNotFound { return nil }
            throw error
        }
    }

    /// Nothing stands there, be it replicated or not.
    private func requireFree(_ parent: ObjectID, _ name: Name, _ path: [Name]) throws {
        guard let directory = try handles.directory(parent, catalog), try status(directory, name) != nil else { return }
        throw WriteRefusal(.busy, "\(text(path)) is there and is not replicated, or was made in this moment")
    }

    /// What the catalog has at the name, and the disk, too.
    private func occupant(_ parent: ObjectID, _ name: Name, _ path: [Name]) throws -> ObjectRow? {
        // Of a parent that is made by this very segment.
        guard try catalog.identity(of: parent) != nil else { return nil }
        guard let object = try catalog.lookup(Place(parent: parent, name: name)),
            let row = try catalog.object(object)
        else {
            try requireFree(parent, name, path)
            return nil
        }
        let directory = try open(parent, Array(path.dropLast()))
        guard let now = try status(directory, name) else {
            throw WriteRefusal(.busy, "\(text(path)) was removed in this moment; try again")
        }
        guard !now.isMountRoot, now.dev == root.dev else {
            throw WriteRefusal(.failed, "something is mounted at \(text(path))")
        }
        guard !now.isImmutable else { throw WriteRefusal(.failed, "\(text(path)) is immutable or append-only") }
        guard now.kind == row.kind, row.identity == .unknown || now.identity == row.identity,
            !Occupant(row).isEdited(now)
        else { throw WriteRefusal(.busy, "\(text(path)) is being changed in this moment; try again") }
        return row
    }

    private func existing(_ parent: ObjectID, _ name: Name, _ path: [Name]) throws -> ObjectRow {
        guard let row = try occupant(parent, name, path) else {
            throw WriteRefusal(.failed, "\(text(path)) does not exist")
        }
        return row
    }

    /// The name of `row` is gone or means something else; that it was its last makes it go.
    private mutating func lost(_ row: ObjectRow) throws {
        if try catalog.nameCount(of: row.id) <= 1 {
            changes.drop(row.id)
            if row.kind == .directory { dropped.append(row.id) }
        }
    }

    // MARK: Files

    private mutating func put(_ path: [Name], _ name: Name, _ put: TreeWrite.Put, _ upload: Name) throws {
        try requireIncluded(path, isDirectory: false)
        let parent = try parent(path, makesParents: put.makesParents)
        let before = try occupant(parent, name, path)
        if let before {
            guard !put.isCreation else { throw WriteRefusal(.notMet, "\(text(path)) exists") }
            guard before.kind == .file || before.kind == .symlink else {
                throw WriteRefusal(.failed, "\(text(path)) is a \(before.kind); only files and symlinks are replaced")
            }
        }
        let replaced = before?.kind == .file ? before : nil
        let object = nextObject()
        made = object
        let file = try uploads.openFile(upload)
        var status = try file.status()
        // New content does not get the rights of what was there before it: the kernel takes them from a file that is
        // written to as well.
        var mode = put.mode ?? replaced.map { $0.metadata.mode & 0o1777 } ?? 0o644
        if !isPrivileged { mode |= Kind.file.ownersLeastMode }
        status.mode = mode
        status.uid = isPrivileged ? replaced?.metadata.uid ?? 0 : ProcessFacts.effectiveUserID
        status.gid =
            isPrivileged ? replaced?.metadata.gid ?? ProcessFacts.effectiveGroupID : ProcessFacts.effectiveGroupID
        status.mtime = put.mtime ?? now
        status.attributes = try replaced.map { try kept($0.metadata.attributes) } ?? .none
        let isIndexed = status.size >= CatalogTransaction.minIndexedBytes
        let sources = CopySources(of: object, old: nil, before: replaced, catalog: isIndexed ? catalog : nil)
        _ = try ContentCapture(reader: ContentReader()).write(
            file, status: status, object: object, known: sources, maxInlineBytes: maxInlineBytes, longer: nil,
            to: &changes)
        try file.close()
        changes.bind(parent: parent, name, object)
        restamped.insert(parent)
        if let before { try lost(before) }
    }

    /// An access control list belongs to the mode, which is kept; a capability belongs to the content, which is not.
    private func kept(_ attributes: Attributes) throws -> Attributes {
        let capability = Array("security.capability".utf8)
        return try Attributes(attributes.pairs.filter { $0.name != capability }.map { ($0.name, $0.value) })
    }

    private mutating func makeSymlink(_ path: [Name], _ name: Name, _ target: [UInt8]) throws {
        try requireIncluded(path, isDirectory: false)
        let parent = try parent(path)
        guard try occupant(parent, name, path) == nil else { throw WriteRefusal(.notMet, "\(text(path)) exists") }
        let object = nextObject()
        // What Linux says of every symlink.
        changes.symlink(object, metadata(0o777), target: target)
        changes.bind(parent: parent, name, object)
        restamped.insert(parent)
    }

    private mutating func setMode(_ path: [Name], _ name: Name, _ mode: UInt16) throws -> Bool {
        let row = try existing(try parent(path), name, path)
        guard row.kind != .symlink else { throw WriteRefusal(.failed, "\(text(path)) is a symlink, which has no mode") }
        guard isPrivileged || row.metadata.uid == ProcessFacts.effectiveUserID else {
            throw WriteRefusal(.failed, "the primary does not own \(text(path)), so it cannot change its mode")
        }
        var metadata = row.metadata
        metadata.mode = mode | (isPrivileged ? 0 : row.kind.ownersLeastMode)
        guard metadata.mode != row.metadata.mode else { return false }
        guard !metadata.attributes.pairs.contains(where: { $0.name == Array("system.posix_acl_access".utf8) }) else {
            throw WriteRefusal(.failed, "\(text(path)) has an access control list; its mode is part of that")
        }
        changes.metadata(row.id, metadata)
        return true
    }

    // MARK: Names

    private mutating func remove(_ path: [Name], _ name: Name, isRecursive: Bool) throws {
        let parent = try parent(path)
        let row = try existing(parent, name, path)
        if row.kind == .directory {
            guard isRecursive else {
                throw WriteRefusal(.failed, "\(text(path)) is a directory; remove it with -r, or with rmdir")
            }
            try removeTree(row, path)
        }
        changes.unbind(parent: parent, name)
        restamped.insert(parent)
        try lost(row)
    }

    private mutating func removeTree(_ top: ObjectRow, _ path: [Name]) throws {
        var waiting = [(top.id, path)]
        var lostNames: [ObjectID: Int] = [:]
        var files: [ObjectID] = []
        while let (object, path) = waiting.popLast() {
            let children = try catalog.children(of: object)
            try requireAllKnown(object, path, children)
            for child in children {
                changes.unbind(parent: object, child.name)
                if lostNames.updateValue(lostNames[child.object, default: 0] + 1, forKey: child.object) == nil {
                    files.append(child.object)
                }
                if child.kind == .directory {
                    waiting.append((child.object, path + [child.name]))
                    dropped.append(child.object)
                }
            }
        }
        for object in files where try catalog.nameCount(of: object) <= lostNames[object, default: 0] {
            changes.drop(object)
        }
    }

    /// What is not replicated is not removed with what is.
    private func requireAllKnown(_ object: ObjectID, _ path: [Name], _ children: [ChildRow]) throws {
        let names = Set(children.map(\.name))
        for entry in try open(object, path).entries() where !names.contains(entry.name) {
            throw WriteRefusal(
                .notMet, "\(text(path + [entry.name])) is not replicated, or was made in this moment; remove it first")
        }
    }

    private mutating func removeDirectory(_ path: [Name], _ name: Name) throws {
        let parent = try parent(path)
        let row = try existing(parent, name, path)
        guard row.kind == .directory else { throw WriteRefusal(.failed, "\(text(path)) is not a directory") }
        guard try catalog.children(of: row.id).isEmpty else {
            throw WriteRefusal(.notMet, "\(text(path)) is not empty")
        }
        try requireAllKnown(row.id, path, [])
        changes.unbind(parent: parent, name)
        restamped.insert(parent)
        try lost(row)
    }

    /// False when it is there already, and may be.
    private mutating func makeDirectory(
        _ path: [Name], _ name: Name, _ mode: UInt16, makesParents: Bool
    ) throws -> Bool {
        try requireIncluded(path, isDirectory: true)
        let parent = try parent(path, makesParents: makesParents)
        if let here = try occupant(parent, name, path) {
            guard makesParents, here.kind == .directory else {
                throw WriteRefusal(.notMet, "\(text(path)) exists")
            }
            return false
        }
        _ = try makeDirectory(name, in: parent, mode: mode)
        return true
    }

    private mutating func move(_ path: [Name], _ name: Name, to target: [Name], replaces: Bool) throws {
        let from = try parent(path)
        let row = try existing(from, name, path)
        guard let newName = target.last else { throw WriteRefusal(.failed, "the root itself cannot be replaced") }
        try requireIncluded(target, isDirectory: row.kind == .directory)
        if row.kind == .directory, try !catalog.filter().isEmpty {
            // Names below it may be others to the filter then, which only a scan finds out.
            throw WriteRefusal(
                .failed, "\(text(path)) is a directory, and this tree has a filter; move it on the primary itself")
        }
        let to = try parent(target)
        if from == to, name == newName { return }
        var above = to
        while above != .root {
            guard above != row.id else {
                throw WriteRefusal(.failed, "\(text(path)) cannot be moved into itself")
            }
            guard let place = try catalog.places(of: above, limit: 1).first else { break }
            above = place.parent
        }
        let here = try occupant(to, newName, target)
        if let here, here.id != row.id {
            guard replaces else { throw WriteRefusal(.notMet, "\(text(target)) exists") }
            guard here.kind != .directory, row.kind != .directory else {
                throw WriteRefusal(.failed, "\(text(target)) exists, and a directory neither replaces nor is replaced")
            }
        }
        changes.bind(parent: to, newName, row.id)
        changes.unbind(parent: from, name)
        restamped.formUnion([from, to])
        if let here, here.id != row.id { try lost(here) }
    }
}
