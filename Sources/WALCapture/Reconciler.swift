import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// Compares the tree with the catalog and alone emits changes: the catalog is changed in its transaction and the same
/// change is written as an entry. Between ``begin(_:)`` and ``finish()`` it belongs to one transaction.
final class Reconciler {
    /// Where the state folder stands unless told otherwise; never replicated in either direction.
    static let reservedName = Name(".wal")

    private let rootStatus: FileStatus
    private let stateIdentity: FileIdentity
    private let watcher: Watcher
    private let settings: CaptureSettings
    private let progress: CaptureProgress
    private let sink: any CaptureSink
    private let handles: TreeHandles
    private let content: ContentCapture

    private var catalog: CatalogTransaction!
    private var changes = ChangeWriter()
    private var flags: SegmentHeader.Flags = []
    /// The first scan of a history: what is found is where the history begins, so nothing of it goes into the log.
    private var isBaseline = false
    /// Objects that lost a name in this batch: dropped at its end unless they have another by then.
    private var orphans: Set<ObjectID> = []
    /// Directories whose entries are still to be compared.
    private var unlisted: [ObjectID] = []
    private var isScan = false
    /// Files that changed while the scan read them.
    private var unstable: [Place] = []

    init(
        root: Directory, rootStatus: FileStatus, stateIdentity: FileIdentity, watcher: Watcher,
        settings: CaptureSettings, progress: CaptureProgress, sink: any CaptureSink
    ) {
        self.rootStatus = rootStatus
        self.stateIdentity = stateIdentity
        self.watcher = watcher
        self.settings = settings
        self.progress = progress
        self.sink = sink
        handles = TreeHandles(root: root)
        content = ContentCapture(reader: ContentReader())
    }

    func begin(_ transaction: CatalogTransaction) throws {
        catalog = transaction
        changes.removeAll()
        flags = []
        orphans.removeAll()
        unlisted.removeAll()
        isScan = false
        isBaseline = try transaction.identity(of: .root) == nil
        if isBaseline {
            try transaction.insert(
                ObjectRow(id: .root, kind: .directory, metadata: rootStatus.metadata, identity: rootStatus.identity))
            changes.directory(.root, rootStatus.metadata)
        }
        try watcher.watch(.root, handles.root)
    }

    /// Ends the batch: drops what has no name, emits what is left.
    func finish() throws {
        try listUnlisted { }
        try dropOrphans()
        if isBaseline {
            changes.removeAll()
            flags = .baseline
            try emit()
        } else if !changes.isEmpty {
            try emit()
        }
        catalog = nil
    }

    private func emit() throws {
        catalog.state.position = try sink.emit(changes, state: catalog.state, flags: flags)
        catalog.state.isComplete = true
        changes.removeAll()
        flags = []
    }

    private func emitIfFull() throws {
        guard changes.rawBytes >= Limits.targetSegmentRawBytes || changes.entryCount >= Limits.maxSegmentEntries / 4
        else { return }
        if isBaseline { changes.removeAll() } else { try emit() }
    }

    func takeUnstable() -> [Place] {
        defer { unstable.removeAll() }
        return unstable
    }

    // MARK: Directories

    /// Compares every directory's entries with the catalog. `pause` is called now and then.
    func scan(pause: () throws -> Void) throws {
        isScan = true
        _ = try directory(.root)
        unlisted.append(.root)
        try listUnlisted(pause)
    }

    private func listUnlisted(_ pause: () throws -> Void) throws {
        var count = 0
        while let object = unlisted.popLast() {
            try list(object)
            count += 1
            if count % 64 == 0 { try pause() }
        }
    }

    private func list(_ object: ObjectID) throws {
        guard let directory = try open(object) else { return }
        // Watch first, then list: what comes after the listing raises an event.
        try watcher.watch(object, directory)
        var entries: [DirectoryEntry]
        do throws(SystemError) {
            entries = try directory.entries()
        } catch {
            try reportUnreadable(object, error)
            return
        }
        entries.sort { $0.name < $1.name }
        progress.namesSeen.add(UInt64(entries.count), ordering: .relaxed)
        let known = try catalog.children(of: object)
        var next = 0
        for entry in entries {
            if object == .root, entry.name == Self.reservedName { continue }
            while next < known.count, known[next].name < entry.name {
                try removed(Place(parent: object, name: known[next].name))
                next += 1
            }
            let place = Place(parent: object, name: entry.name)
            if next < known.count, known[next].name == entry.name {
                let row = known[next]
                next += 1
                if try isUnchanged(row, directory) {
                    if isScan, row.kind == .directory { unlisted.append(row.object) }
                    continue
                }
            }
            if try !name(place, content: true, evenIfFuzzy: false) { unstable.append(place) }
            try emitIfFull()
        }
        while next < known.count {
            try removed(Place(parent: object, name: known[next].name))
            next += 1
        }
    }

    private func isUnchanged(_ row: ChildRow, _ directory: Directory) throws -> Bool {
        do throws(SystemError) {
            let status = try directory.status(of: row.name)
            return status.kind == row.kind && status.identity == row.identity && status.metadata == row.metadata
                && (row.kind == .directory
                    || (status.size == row.size && status.ctime.clampedNanoseconds == row.stamp))
        } catch {
            if error.isNotFound { return false }
            throw error
        }
    }

    /// The directory's own metadata. True, for there is nothing to wait for.
    func directory(_ object: ObjectID) throws -> Bool {
        guard let row = try catalog.object(object), row.kind == .directory, let directory = try open(object) else {
            return true
        }
        let status = try directory.status()
        if status.metadata != row.metadata {
            try update(row, status.metadata, status)
        }
        return true
    }

    private func open(_ object: ObjectID) throws -> Directory? {
        do {
            return try handles.directory(object, catalog)
        } catch let error as SystemError {
            try reportUnreadable(object, error)
            return nil
        }
    }

    private func reportUnreadable(_ object: ObjectID, _ error: SystemError) throws {
        let path = try catalog.path(of: object) ?? []
        progress.report(PathText.joined(path), "\(error)")
    }

    // MARK: Names

    /// Looks at one name. False when its file changed while it was read: the name is to be looked at again, and until
    /// then the catalog keeps what it had.
    func name(_ place: Place, content mayHaveChanged: Bool, evenIfFuzzy: Bool) throws -> Bool {
        guard try catalog.identity(of: place.parent) != nil, let directory = try open(place.parent) else { return true }
        let status: FileStatus
        do throws(SystemError) {
            status = try directory.status(of: place.name)
        } catch {
            guard error.isNotFound else {
                progress.report(place.name.description, "\(error)")
                return true
            }
            try removed(place)
            return true
        }
        guard let kind = status.kind else {
            progress.skippedSpecial.add(1, ordering: .relaxed)
            try removed(place)
            return true
        }
        if kind == .directory, status.identity == stateIdentity { return true }

        if let known = try catalog.lookup(place), let row = try catalog.object(known), row.kind == kind,
            row.identity == status.identity || row.identity == .unknown
        {
            return try look(
                row, place, status, directory, content: mayHaveChanged, evenIfFuzzy: evenIfFuzzy)
        }
        if let known = try catalog.find(status.identity), let row = try catalog.object(known), row.kind == kind {
            return try named(row, place, status, directory, content: mayHaveChanged, evenIfFuzzy: evenIfFuzzy)
        }
        return try appeared(place, kind, status, directory, evenIfFuzzy: evenIfFuzzy)
    }

    private func removed(_ place: Place) throws {
        guard let object = try catalog.lookup(place) else { return }
        try catalog.unbind(place)
        changes.unbind(parent: place.parent, place.name)
        orphans.insert(object)
    }

    private func bind(_ place: Place, _ object: ObjectID) throws {
        if let old = try catalog.lookup(place), old != object { orphans.insert(old) }
        try catalog.bind(place, to: object)
        changes.bind(parent: place.parent, place.name, object)
    }

    /// A known object under a name that is new to it: moved here, or linked.
    private func named(
        _ row: ObjectRow, _ place: Place, _ status: FileStatus, _ directory: Directory, content: Bool,
        evenIfFuzzy: Bool
    ) throws -> Bool {
        let others = try catalog.places(of: row.id)
        try bind(place, row.id)
        // At once, so that no segment holds a directory under two names.
        for other in others where other != place {
            if try !name(other, content: false, evenIfFuzzy: evenIfFuzzy) { unstable.append(other) }
        }
        if row.kind == .directory, isScan { unlisted.append(row.id) }
        return try look(row, place, status, directory, content: content, evenIfFuzzy: evenIfFuzzy)
    }

    /// A known object under a known name: whether it changed.
    private func look(
        _ row: ObjectRow, _ place: Place, _ status: FileStatus, _ directory: Directory, content: Bool,
        evenIfFuzzy: Bool
    ) throws -> Bool {
        let stamp = status.ctime.clampedNanoseconds
        switch row.kind {
        case .directory:
            if row.metadata != status.metadata || row.identity != status.identity {
                try update(row, status.metadata, status)
            }
            if isScan { unlisted.append(row.id) }
            return true
        case .symlink:
            let target: [UInt8]
            do throws(SystemError) { target = try directory.readLink(place.name) } catch { return !error.isNotFound }
            if target != row.target {
                try put(.symlink(id: row.id, metadata: status.metadata, target: target), status)
                changes.symlink(row.id, status.metadata, target: target)
            } else if row.metadata != status.metadata || row.stamp != stamp || row.identity != status.identity {
                try update(row, status.metadata, status)
            }
            return true
        case .file:
            // A change time alone says that something changed; only reading tells whether the content did. Times can be
            // set back, so equal times prove nothing where there was a write.
            let isSame =
                row.size == status.size && row.metadata.mtime == status.mtime && row.identity == status.identity
            if isSame, row.stamp == stamp { return true }
            if isSame, !content {
                try update(row, status.metadata, status)
                return true
            }
            return try file(place, status, directory, row.id, old: row, evenIfFuzzy: evenIfFuzzy)
        }
    }

    private func appeared(
        _ place: Place, _ kind: Kind, _ status: FileStatus, _ directory: Directory, evenIfFuzzy: Bool
    ) throws -> Bool {
        let object = max(catalog.state.lastObject, .root) + 1
        switch kind {
        case .file:
            let before = try catalog.lookup(place).flatMap { try catalog.object($0) }
            catalog.state.lastObject = object
            guard
                try file(place, status, directory, object, old: nil, before: before, evenIfFuzzy: evenIfFuzzy)
            else {
                catalog.state.lastObject = object - 1
                return false
            }
        case .symlink:
            let target: [UInt8]
            do throws(SystemError) { target = try directory.readLink(place.name) } catch { return !error.isNotFound }
            catalog.state.lastObject = object
            try put(.symlink(id: object, metadata: status.metadata, target: target), status)
            changes.symlink(object, status.metadata, target: target)
        case .directory:
            catalog.state.lastObject = object
            try put(ObjectRow(id: object, kind: .directory, metadata: status.metadata), status)
            changes.directory(object, status.metadata)
        }
        // A file that could not be opened is not there for us, and was reported.
        guard try catalog.identity(of: object) != nil else { return true }
        try bind(place, object)
        if kind == .directory {
            // Another file system below is a boundary: the directory is replicated, what is mounted on it is not.
            if status.dev == rootStatus.dev {
                if let opened = try? directory.openDirectory(place.name) { handles.remember(object, opened) }
                unlisted.append(object)
            } else {
                progress.report(place.name.description, "is on another file system; what is below it is left out")
            }
        }
        return true
    }

    // MARK: Objects

    private func put(_ row: ObjectRow, _ status: FileStatus) throws {
        var row = row
        row.identity = status.identity
        row.stamp = status.ctime.clampedNanoseconds
        try catalog.put(row)
    }

    private func update(_ row: ObjectRow, _ metadata: Metadata, _ status: FileStatus) throws {
        var new = row
        new.metadata = metadata
        try put(new, status)
        if metadata != row.metadata { changes.metadata(row.id, metadata) }
    }

    /// Reads a file and writes what is new of it. False when it changed meanwhile and may be tried again.
    private func file(
        _ place: Place, _ status: FileStatus, _ directory: Directory, _ object: ObjectID, old: ObjectRow?,
        before: ObjectRow? = nil, evenIfFuzzy: Bool
    ) throws -> Bool {
        let mark = changes.mark
        let file: File
        do throws(SystemError) {
            file = try directory.openFile(place.name)
        } catch {
            // Gone already: its own event follows. Anything else is reported, and what was known is kept.
            if !error.isNotFound { progress.report(place.name.description, "\(error)") }
            return true
        }
        let first = try file.status()
        guard first.identity == status.identity else {
            try file.close()
            return false
        }
        let known = [old, before].compactMap { $0 }
        let result: ContentCapture.Result
        do {
            result = try content.write(
                file, status: first, object: object, known: known,
                maxInlineBytes: isBaseline ? 0 : settings.maxInlineBytes, to: &changes)
        } catch let error as SystemError {
            changes.rollback(to: mark)
            progress.report(place.name.description, "\(error)")
            return true
        }
        let second = try file.status()
        try file.close()
        progress.filesRead.add(1, ordering: .relaxed)
        progress.bytesRead.add(result.size, ordering: .relaxed)
        let isStable =
            second.size == result.size && second.size == first.size && second.mtime == first.mtime
            && second.ctime == first.ctime
        if !isStable, !evenIfFuzzy {
            changes.rollback(to: mark)
            return false
        }
        progress.clearProblem(place.name.description)
        if !isStable {
            flags.insert(.fuzzy)
            progress.fuzzyReads.add(1, ordering: .relaxed)
            unstable.append(place)
        }
        var row = ObjectRow(
            id: object, kind: .file, metadata: first.metadata, size: result.size, content: result.digest,
            blocks: result.table)
        // What was read unstably must look different at the next look.
        row.stamp = isStable ? first.ctime.clampedNanoseconds : 0
        row.identity = first.identity
        if let old, old.content == result.digest {
            changes.rollback(to: mark)
            if old.metadata != first.metadata { changes.metadata(object, first.metadata) }
        } else if known.isEmpty, result.size >= 4096, let twin = try catalog.find(content: result.digest) {
            changes.rollback(to: mark)
            let source = ContentSource(object: twin, content: result.digest)
            changes.beginFile(object, first.metadata, sources: [source])
            changes.copy(source: 0, offset: 0, length: result.size)
            changes.endFile(size: result.size, digest: result.digest)
        }
        try catalog.put(row)
        return true
    }

    // MARK: Objects without a name

    private func dropOrphans() throws {
        var waiting = Array(orphans)
        orphans.removeAll()
        while let object = waiting.popLast() {
            guard object != .root, try !catalog.hasName(object), try catalog.identity(of: object) != nil else {
                continue
            }
            for child in try catalog.children(of: object) {
                let place = Place(parent: object, name: child.name)
                try catalog.unbind(place)
                changes.unbind(parent: object, child.name)
                waiting.append(child.object)
            }
            try catalog.drop(object)
            changes.drop(object)
            handles.forget(object)
            watcher.unwatch(object)
            try emitIfFull()
        }
    }
}
