import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// Compares the tree with the catalog and alone emits changes: the catalog is changed in its transaction and the same
/// change is written as an entry. Between ``begin(_:since:)`` and ``finish(arrivals:)`` it belongs to one transaction.
///
/// A segment may end anywhere between two names, but never with a directory that is below itself: no replica could make
/// that tree. So a directory that is seen at a new name loses its old one at once, whoever stands there now.
final class Reconciler {
    /// Where the state folder stands unless told otherwise; never replicated in either direction.
    static let reservedName = Name(".wal")

    /// A place that no tree has: there is no object 0.
    static let nowhere = Place(parent: 0, name: reservedName)

    /// A name to look at, and what is known of it.
    struct Glance {
        var place: Place
        /// Content may have changed, so size and times are not enough to say that it has not.
        var content: Bool
        /// When it became dirty, in monotonic nanoseconds.
        var since: UInt64
        /// It was restless for too long: take it as it is.
        var isOverdue: Bool
    }

    /// What it takes to read it after all.
    struct Unread {
        /// Its content, and not only its attributes.
        var content = true
        /// The time that it took to try, in nanoseconds.
        var cost: UInt64 = 0
    }

    let rootStatus: FileStatus
    let stateIdentity: FileIdentity
    let watcher: Watcher
    let settings: CaptureSettings
    private let deletions: DeletionGuard
    /// An operator has said that what is gone is meant to be: until the end of the next scan.
    var acceptsDeletions: Bool
    let progress: CaptureProgress
    let handles: TreeHandles
    let content: ContentCapture
    private let sink: any CaptureSink
    /// Whether a write to this name waits to be looked at. A file that is looked at by another of its names must know.
    var isContentDirty: (Place) -> Bool = { _ in false }
    /// ``DirtySet/contentMarks``.
    var contentMarks: () -> UInt64 = { 0 }

    var catalog: CatalogTransaction!
    var changes = ChangeWriter()
    var flags: SegmentHeader.Flags = []
    /// The first scan of a history: what is found is where the history begins, so nothing of it goes into the log.
    private(set) var isBaseline = false
    private(set) var isScan = false
    private var since: UInt64 = 0
    /// Objects that lost a name in this batch, with the last one that they lost: dropped at its end unless they have
    /// another by then.
    var orphans: [ObjectID: Place] = [:]
    /// Directories that got another name since the last segment.
    var movedDirectories: Set<ObjectID> = []
    /// Directories whose entries are still to be compared.
    var unlisted: [ObjectID] = []
    /// Other names of objects that were seen at a new one.
    var followUps: [Place] = []
    /// Objects with many names all of which were looked at in this batch.
    var followed: Set<ObjectID> = []
    /// How many names some objects have in the catalog.
    var nameCounts: [ObjectID: Int] = [:]
    /// Files that were written to, by whatever name.
    var written: Set<ObjectID> = []
    /// Files none of whose names waited to be read when so much content had been marked: asked of thousands of names, once
    /// for each of them, that is a question a million times.
    var unwritten: [ObjectID: UInt64] = [:]
    /// Names in directories that are not where the catalog has them: their move is looked at first.
    var unlocated: [Glance] = []
    /// Files whose last version others may be about to copy from: they are read when everything else was looked at. Who
    /// copies a file and empties it, as log rotation does, would otherwise have all of it sent again.
    var deferred: [Glance] = []
    private(set) var takesDeferred = false
    var retries: [Glance] = []
    /// Names of what is not replicated, for the count of them.
    var special: Set<Place> = []
    /// Of the catalog, before anything of this look was added to it.
    private var objectsAtBegin: UInt64 = 0
    /// Inodes that are immutable or append-only, for the count of them.
    var immutable: Set<UInt64> = []
    /// Likewise those that have more attributes than are replicated.
    var overloaded: Set<UInt64> = []
    /// Captured while they were being written; a clean look follows.
    var fuzzy: [Place] = []
    /// What could not be read, for another reason than that nobody may, until it can be. See ``isAgain(_:after:_:)``.
    private(set) var unread: [Place: Unread] = [:]
    /// Inodes of which the attributes could not be read in this batch: what is known of them stays, and is not sure.
    var unsure: Set<UInt64> = []
    /// What it took to read those that changed meanwhile, in nanoseconds.
    var readCosts: [Place: UInt64] = [:]
    /// A directory could not be found for too long: only a scan can tell where it is. Or it was moved, and the filter may
    /// see what is in it with other eyes.
    var needsScan = false
    /// That of the catalog, once the first batch has begun.
    private(set) var filter = Filter.none.matcher
    private var isFilterKnown = false
    /// The path of the directory that names were last looked at in, as the filter sees it.
    var filterPath: (directory: ObjectID, path: [UInt8])?

    init(
        root: Directory, rootStatus: FileStatus, stateIdentity: FileIdentity, watcher: Watcher,
        settings: CaptureSettings, deletions: DeletionGuard, progress: CaptureProgress, sink: any CaptureSink
    ) {
        self.rootStatus = rootStatus
        self.stateIdentity = stateIdentity
        self.watcher = watcher
        self.settings = settings
        self.deletions = deletions
        acceptsDeletions = settings.acceptsDeletions
        self.progress = progress
        self.sink = sink
        handles = TreeHandles(root: root)
        content = ContentCapture(reader: ContentReader(progress: progress))
    }

    /// `since` is when the wait for this batch began: what it finds by itself and cannot take counts as dirty from then.
    func begin(_ transaction: CatalogTransaction, since: UInt64) throws {
        catalog = transaction
        objectsAtBegin = transaction.state.objectCount
        self.since = since
        changes.removeAll()
        flags = []
        orphans.removeAll()
        movedDirectories.removeAll()
        unlisted.removeAll()
        followUps.removeAll()
        followed.removeAll()
        nameCounts.removeAll()
        written.removeAll()
        unwritten.removeAll()
        unlocated.removeAll()
        deferred.removeAll()
        takesDeferred = false
        unsure.removeAll()
        isScan = false
        needsScan = false
        filterPath = nil
        let known = try transaction.identity(of: .root)
        // Also where a first scan was cut off: what it has read is kept.
        isBaseline = known == nil || transaction.state.position.seq == 0
        if known == nil {
            // Attributes and all follow with the scan, which looks at the root first.
            try transaction.insert(
                ObjectRow(id: .root, kind: .directory, metadata: rootStatus.metadata, identity: rootStatus.identity))
            changes.directory(.root, rootStatus.metadata)
        } else if known == .unknown || (known != rootStatus.identity && acceptsDeletions) {
            try transaction.setLocal(.root, identity: rootStatus.identity, stamp: ObjectRow.neverSeen)
        } else if known != rootStatus.identity {
            throw CaptureError.otherTree
        }
        try settleFilter()
        try watcher.watch(.root, handles.root)
    }

    /// Another filter than the catalog has is the first change of the first batch, which is a scan: what that excludes is
    /// then removed, and what it does not exclude any more is found.
    private func settleFilter() throws {
        guard !isFilterKnown else { return }
        isFilterKnown = true
        var now = try catalog.filter()
        if let wanted = settings.filter, wanted != now {
            now = wanted
            try catalog.setFilter(wanted)
            changes.filter(wanted)
        }
        filter = now.matcher
    }

    /// Ends the batch: drops what has no name, emits what is left. `arrivals` are names that something came to and that
    /// were not due yet: the other halves of renames.
    func finish(arrivals: () throws -> [Glance]) throws {
        try listUnlisted {}
        // A stream of new files must not hold up the batch for ever.
        var rounds = 0
        while rounds < 3, try hasOrphans() || !unlocated.isEmpty {
            let more = try arrivals()
            let again = unlocated
            unlocated.removeAll()
            if more.isEmpty, rounds > 0 || again.isEmpty {
                unlocated = again
                break
            }
            for glance in more + again { try name(glance) }
            try listUnlisted {}
            rounds += 1
        }
        try lookAtDeferred()
        for glance in unlocated {
            if glance.isOverdue { needsScan = true }
            lookAgain(glance)
        }
        // Where the other half of a move cannot be known, all is looked at.
        if try hasLoop() { try scan {} }
        if isScan { for object in try catalog.namelessObjects() { orphans[object] = orphans[object] ?? Self.nowhere } }
        try dropOrphans()
        if isBaseline {
            if beginsAnew, !acceptsDeletions, let place = unread.keys.first {
                throw CaptureError.unread(place == Self.nowhere ? "." : try path(of: place))
            }
            changes.removeAll()
            flags = .baseline
            try emit()
        } else if !changes.isEmpty {
            try emit()
        }
        try settleProblems()
        deletions.note(objects: catalog.state.objectCount, now: Clock.monotonicNanoseconds())
        catalog = nil
    }

    /// The scan is cut off. Of a first one all that was read so far stays in the catalog, and the next goes on there; of
    /// any other nothing does, for what was not emitted must not be known. True when it is to be committed.
    func abandon() -> Bool {
        // At a position the catalog says what was emitted until there, and this was not.
        let isKept = isBaseline && catalog.state.position.seq == 0
        changes.removeAll()
        catalog = nil
        return isKept
    }

    private func lookAtDeferred() throws {
        takesDeferred = true
        for glance in deferred {
            try name(glance)
            try emitIfFull()
        }
        deferred.removeAll()
        try listUnlisted {}
    }

    /// What could not be taken: it changed while it was looked at.
    func takeRetries() -> [Glance] {
        defer { retries.removeAll() }
        return retries
    }

    func takeReadCosts() -> [Place: UInt64] {
        defer { readCosts.removeAll() }
        return readCosts
    }

    func takeFuzzy() -> [Place] {
        defer { fuzzy.removeAll() }
        return fuzzy
    }

    // MARK: Segments

    func emit() throws {
        catalog.state.position = try sink.emit(changes, state: catalog.state, flags: flags)
        catalog.state.isComplete = true
        changes.removeAll()
        flags = []
        movedDirectories.removeAll()
        // Between segments of one batch only where the tree is whole: nobody may begin with an object on its way.
        if sink.needsDurableCatalog, try !hasOrphans() { try catalog.commitDurably() }
    }

    func emitIfFull() throws {
        guard changes.rawBytes >= Limits.targetSegmentRawBytes || changes.entryCount >= Limits.maxSegmentEntries / 4
        else { return }
        try emitNow()
    }

    /// Ends the segment here, unless no replica could or should be in the state between.
    func emitNow() throws {
        if isBaseline {
            changes.removeAll()
        } else if try !changes.isEmpty && !hasLoop() && (try excessDeletions()) == nil {
            try emit()
        }
    }

    /// Of new content in one file. Nothing while the segment is too large already and cannot be ended.
    var maxInlineBytes: Int {
        isBaseline || changes.rawBytes > 2 * Limits.targetSegmentRawBytes ? 0 : settings.maxInlineBytes
    }

    /// True when a directory that was moved is below itself as far as the catalog knows: another move is not seen yet.
    private func hasLoop() throws -> Bool {
        for object in movedDirectories {
            var current = object
            var depth = 0
            while current != .root, let place = try catalog.places(of: current).first {
                current = place.parent
                depth += 1
                if current == object || depth > Limits.maxDepth { return true }
            }
        }
        return false
    }

    // MARK: Directories

    /// Compares every directory's entries with the catalog. `pause` is called now and then.
    func scan(pause: () throws -> Void) throws {
        isScan = true
        special.removeAll()
        immutable.removeAll()
        overloaded.removeAll()
        watcher.forgetUnwatched()
        try directory(.root)
        unlisted.append(.root)
        try listUnlisted(pause)
    }

    private func listUnlisted(_ pause: () throws -> Void) throws {
        var count = 0
        while let object = unlisted.popLast() {
            try progress.checkCancelled()
            try list(object)
            count += 1
            if count % 64 == 0 { try pause() }
        }
    }

    private func list(_ object: ObjectID) throws {
        guard let directory = try open(object) else { return }
        let entries: [DirectoryEntry]
        do {
            guard try object == .root || !isBoundary(directory.status()) else {
                try report(object, Self.boundaryText)
                return
            }
            // Watch first, then look: what comes after that raises an event.
            if try watcher.watch(object, directory) { try self.directory(object) }
            entries = try directory.entries().sorted { $0.name < $1.name }
        } catch let error as SystemError {
            return try leave(object, after: error)
        }
        try clearProblem(object)
        progress.namesSeen.add(UInt64(entries.count), ordering: .relaxed)
        let known = try catalog.children(of: object)
        let isFiltered = !filter.isEmpty
        let path = try pathForFilter(of: object) ?? []
        var next = 0
        for entry in entries {
            if object == .root, entry.name == Self.reservedName { continue }
            while next < known.count, known[next].name < entry.name {
                try removed(Place(parent: object, name: known[next].name))
                next += 1
            }
            if next < known.count, known[next].name == entry.name {
                let row = known[next]
                next += 1
                let isExcluded =
                    isFiltered && filter.excludes(row.name, in: path, isDirectory: row.kind == .directory)
                if !isExcluded, isUnchanged(row, directory) {
                    // One that was not reached before, because this one could not be read.
                    if row.kind == .directory, isScan || !watcher.isKnown(row.object) {
                        unlisted.append(row.object)
                    }
                    continue
                }
            } else if isFiltered, entry.type != DirectoryEntry.unknownType,
                filter.excludes(entry.name, in: path, isDirectory: entry.type == DirectoryEntry.directoryType)
            {
                continue
            }
            let place = Place(parent: object, name: entry.name)
            // There will be no second look before replicas take for deleted what is not found now.
            try name(Glance(place: place, content: true, since: since, isOverdue: beginsAnew))
            try emitIfFull()
        }
        while next < known.count {
            try removed(Place(parent: object, name: known[next].name))
            next += 1
        }
    }

    private func isUnchanged(_ row: ChildRow, _ directory: Directory) -> Bool {
        guard var status = try? directory.status(of: row.name), status.ctime.clampedNanoseconds == row.stamp,
            !row.metadata.attributes.mayBePart
        else { return false }
        setImmutable(status)
        // They do not change without the change time.
        status.attributes = row.metadata.attributes
        return status.kind == row.kind && status.identity == row.identity && status.metadata == row.metadata
            && (row.kind != .file || status.size == row.size)
    }

    /// The directory's own metadata.
    func directory(_ object: ObjectID) throws {
        guard let row = try catalog.object(object), row.kind == .directory else { return }
        guard let directory = try open(object) else {
            if let place = try catalog.places(of: object).first {
                unlocated.append(Glance(place: place, content: false, since: since, isOverdue: false))
            }
            return
        }
        var status: FileStatus
        do throws(SystemError) { status = try directory.status() } catch {
            return try leave(object, after: error)
        }
        setImmutable(status)
        if status.ctime.clampedNanoseconds == row.stamp, !row.metadata.attributes.mayBePart {
            status.attributes = row.metadata.attributes
        } else {
            do throws(SystemError) {
                try addAttributes(to: &status) { () throws(SystemError) in try directory.attributes() }
            } catch {
                status.attributes = row.metadata.attributes
                try lookAgain(at: object, after: error)
            }
        }
        if status.metadata != row.metadata { try update(row, status) }
    }

    func open(_ object: ObjectID) throws -> Directory? {
        do {
            return try handles.directory(object, catalog)
        } catch let error as SystemError {
            try leave(object, after: error)
            return nil
        }
    }

    func path(of object: ObjectID) throws -> String {
        PathText.joined(try catalog.path(of: object) ?? [])
    }

    func path(of place: Place) throws -> String {
        PathText.joined((try catalog.path(of: place.parent) ?? []) + [place.name])
    }

    // MARK: Problems

    func report(_ place: Place, _ text: String) throws {
        progress.report(place, path: try path(of: place), text)
    }

    func report(_ directory: ObjectID, _ text: String) throws {
        progress.report(try problemPlace(of: directory), path: try path(of: directory), text)
    }

    func clearProblem(_ place: Place) {
        if !unread.isEmpty { unread[place] = nil }
        if progress.hasProblems { progress.clearProblem(place) }
    }

    private func clearProblem(_ directory: ObjectID) throws {
        guard progress.hasProblems || !unread.isEmpty else { return }
        if !unsure.isEmpty, let identity = try catalog.identity(of: directory), unsure.contains(identity.ino) { return }
        clearProblem(try problemPlace(of: directory))
    }

    /// What cannot be read now may be readable in a moment: a disk or a line that fails once, another program's lease, no
    /// memory. So it is tried again as long as one that is written to would be, and who waits for all waits for that. Then it
    /// is reported, and tried again now and then.
    ///
    /// - Returns: whether it is to be looked at again at once.
    func isAgain(_ glance: Glance, after error: SystemError, _ unread: Unread) throws -> Bool {
        if !error.isDenied || beginsAnew {
            if !glance.isOverdue, self.unread[glance.place] == nil { return true }
            noteUnread(glance.place, unread)
        }
        try report(glance.place, "\(error)")
        return false
    }

    /// Nothing is known of the tree that replicas have: what is not found is deleted there.
    private var beginsAnew: Bool { isBaseline && !sink.isEmpty }

    /// A directory that could not be opened or listed. Nobody watches it then, so whoever looks at it again lists it.
    private func leave(_ directory: ObjectID, after error: SystemError) throws {
        handles.forget(directory)
        watcher.unwatch(directory)
        try lookAgain(at: directory, after: error)
    }

    /// Once, and then now and then.
    private func lookAgain(at directory: ObjectID, after error: SystemError) throws {
        try report(directory, "\(error)")
        let place = try problemPlace(of: directory)
        guard !error.isDenied || beginsAnew, noteUnread(place, Unread()) else { return }
        if place == Self.nowhere {
            needsScan = true
        } else {
            retries.append(Glance(place: place, content: false, since: since, isOverdue: false))
        }
    }

    /// Of more than these only a scan tells.
    private static let maxUnread = 100_000

    @discardableResult
    private func noteUnread(_ place: Place, _ new: Unread) -> Bool {
        guard unread.count < Self.maxUnread else { return false }
        return unread.updateValue(new, forKey: place) == nil
    }

    private func problemPlace(of directory: ObjectID) throws -> Place {
        try catalog.places(of: directory, limit: 1).first ?? Self.nowhere
    }

    /// What has a problem may be found by another path now.
    private func settleProblems() throws {
        guard progress.hasProblems else { return }
        for place in progress.problemPlaces {
            if place == Self.nowhere { continue }
            if try catalog.path(of: place.parent) == nil {
                progress.clearProblem(place)
            } else {
                progress.setProblemPath(place, try path(of: place))
            }
        }
    }

    // MARK: Names

    /// Looks at one name and at whatever that leads to. Where something changed meanwhile it is to be looked at again, and
    /// until then the catalog keeps what it had.
    func name(_ glance: Glance) throws {
        if try !look(glance) { lookAgain(glance) }
        // A list, not a recursion: a chain of renames is as long as somebody likes.
        while let place = followUps.popLast() {
            let next = Glance(
                place: place, content: isContentDirty(place), since: glance.since, isOverdue: glance.isOverdue)
            if try !look(next) { lookAgain(next) }
        }
    }

    /// It was not seen in one piece, whatever was to be seen of it.
    private func lookAgain(_ glance: Glance) {
        var glance = glance
        glance.content = true
        retries.append(glance)
    }

    /// They were dropped without having been looked at.
    func forget(directories: [ObjectID]) {
        for object in directories {
            handles.forget(object)
            watcher.unwatch(object)
        }
        deletions.accept()
    }

    // MARK: Objects without a name

    private func hasOrphans() throws -> Bool {
        for object in orphans.keys where try object != .root && !catalog.hasName(object) { return true }
        return false
    }

    /// How many objects would go with the names that are lost now, where that are more than is believed.
    private func excessDeletions() throws -> UInt64? {
        guard !isBaseline, !acceptsDeletions, !orphans.isEmpty,
            let allowed = deletions.allowance(objects: objectsBefore, now: Clock.monotonicNanoseconds())
        else { return nil }
        let gone = try lostObjects()
        return gone > allowed ? gone : nil
    }

    /// A tree that was put in the place of another does not make it less gone.
    private var objectsBefore: UInt64 { min(catalog.state.objectCount, objectsAtBegin) }

    /// Objects that are gone with their names, those below them included. What has something else in its place was
    /// replaced, as editors do and whoever restores a tree.
    private func lostObjects() throws -> UInt64 {
        var gone: UInt64 = 0
        var waiting: [ObjectID] = []
        for (object, place) in orphans where try !catalog.hasName(object) {
            if try catalog.lookup(place) == nil { gone += 1 }
            waiting.append(object)
        }
        while let object = waiting.popLast() {
            for child in try catalog.children(of: object) {
                gone += 1
                if child.kind == .directory { waiting.append(child.object) }
            }
        }
        return gone
    }

    /// A disk that was emptied or not mounted looks like a tree that was deleted; that is not believed unasked.
    private func checkDeletions() throws {
        if acceptsDeletions { deletions.accept() }
        guard let gone = try excessDeletions() else { return }
        let objects = objectsBefore
        let before = deletions.doubt(objects: objects)
        throw CaptureError.tooManyDeletions(gone: gone + (before - min(before, objects)), of: before, kept: gone)
    }

    private func dropOrphans() throws {
        try checkDeletions()
        var waiting = Array(orphans.keys)
        orphans.removeAll()
        while let object = waiting.popLast() {
            guard object != .root, try !catalog.hasName(object), let identity = try catalog.identity(of: object) else {
                continue
            }
            try forget(object, identity)
            for child in try catalog.children(of: object) {
                let place = Place(parent: object, name: child.name)
                clearProblem(place)
                try catalog.unbind(place)
                nameCounts[child.object]? -= 1
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
