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
    let deletions: DeletionGuard
    /// An operator has said that what is gone is meant to be: until the end of the next scan.
    var acceptsDeletions: Bool
    let progress: CaptureProgress
    let handles: TreeHandles
    let content: ContentCapture
    let sink: any CaptureSink
    /// Whether a write to this name waits to be looked at. A file that is looked at by another of its names must know.
    var isContentDirty: (Place) -> Bool = { _ in false }
    /// ``DirtySet/contentMarks``.
    var contentMarks: () -> UInt64 = { 0 }

    var catalog: CatalogTransaction!
    var changes = ChangeWriter()
    var flags: SegmentHeader.Flags = []
    /// The first scan of a history: what is found is where the history begins, so nothing of it goes into the log.
    private(set) var isBaseline = false
    var isScan = false
    var since: UInt64 = 0
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
    var objectsAtBegin: UInt64 = 0
    /// Inodes that are immutable or append-only, for the count of them.
    var immutable: Set<UInt64> = []
    /// Likewise those that have more attributes than are replicated.
    var overloaded: Set<UInt64> = []
    /// Captured while they were being written; a clean look follows.
    var fuzzy: [Place] = []
    /// What could not be read, for another reason than that nobody may, until it can be. See ``isAgain(_:after:_:)``.
    var unread: [Place: Unread] = [:]
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
}
