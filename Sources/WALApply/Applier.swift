import WALCatalog
import WALFormat
import WALSystem

/// Changes → directory, on one thread. The order for a batch, and what a crash leaves after each step:
///
/// 1. fold: the catalog's transaction is brought to the end of the batch. A crash: as if nothing had been.
/// 2. stage: content is written where nobody sees it, then one `syncfs`. A crash: leftovers in `staging/`.
/// 3. commit: the catalog, and in it the journal of what is to be published, become durable together.
/// 4. publish: renames and unlinks only. A crash: ``recover()`` publishes the journal again.
/// 5. heal: what somebody took away from the replica is made again, or waits for content as a file that lacks blocks.
///
/// The batch before is durable by then: the `syncfs` of step 2 covers its renames too, so one journal is enough.
package final class Applier {
    let catalog: Catalog
    let staging: Directory
    package let quarantine: Quarantine
    let metadata: MetadataWriter
    let written: WrittenBytes
    /// The tree's root, or the hidden one of a first sync.
    package var root: Directory
    /// See ``Stager``.
    package var isHidden = false
    /// The tree is a primary's own: applications change it, and what differs from the catalog is not drift but theirs.
    /// Nothing is copied from its files, for they may be written to meanwhile; and `staging/` has files of others, with
    /// temporary names.
    package var isPrimary = false
    /// Objects whose new content is whole in `staging/` already.
    var ready: Set<ObjectID> = []
    /// There was no room for a step: whatever is to be fetched is fetched only where there is room for it.
    package internal(set) var isShort = false
    /// Of the step that is committed and not wholly published: what is to be healed, and what to be reported.
    private var drifted: Set<ObjectID> = []
    private var restamped: Set<ObjectID> = []
    /// For tests: called before every step that a crash may come before. What it throws stops the batch there, as a
    /// crash would.
    package var fault: (() throws -> Void)?
    private let writeback: Writeback
    /// A batch is committed and not wholly published.
    private var isUnfinished = false
    /// Files that somebody took away or wrote to, to be fetched as soon as there is somebody to ask.
    private var toFetch: Set<ObjectID> = []

    /// - Parameters:
    ///   - unset: takes the attributes that could not be set, for the status.
    ///   - written: counts what is written, for the status.
    package init(
        catalog: Catalog, root: Directory, staging: Directory, quarantine: Quarantine,
        unset: UnsetAttributes = UnsetAttributes(), written: WrittenBytes = WrittenBytes()
    ) {
        self.catalog = catalog
        self.root = root
        self.staging = staging
        self.quarantine = quarantine
        self.written = written
        writeback = Writeback(staging)
        metadata = MetadataWriter(isPrivileged: ProcessFacts.isPrivileged, unset: unset)
    }

    /// Finishes what a crash or an error interrupted. Call once before anything else.
    package func recover() throws {
        let journal = try catalog.read { try Journal(decoding: try $0.journal()) }
        if !journal.isEmpty {
            try publish(journal)
            try forgetJournal(tidies: true)
        } else {
            try tidy()
        }
        isUnfinished = false
    }

    /// Publishes what an error has kept from it since the last batch was committed.
    package func goOn() throws {
        if isUnfinished { try recover() }
    }

    /// Before an end in good order: after it, what somebody does to the tree until the next start is seen as what it is.
    package func finish() throws {
        try goOn()
        if try !catalog.read({ try $0.journal() }).isEmpty { try forgetJournal(tidies: true) }
    }

    /// Ends this time as a replica: nobody is there any more to bring what files lack, so the tree is what it shows. What
    /// the catalog says beyond that is for the next scan to find.
    package func retire() throws {
        try finish()
        try catalog.write(durably: true) { try $0.forgetPending() }
        try tidy()
    }

    /// All of it is in the tree. What was staged for it goes first, when the tree is durable: the catalog may need the room.
    func forgetJournal(tidies: Bool = false) throws {
        try staging.syncFilesystem()
        if tidies { try tidy() }
        try catalog.write(durably: true) { try $0.setJournal([]) }
    }

    /// The hidden root of a first sync, in `staging/`.
    package static let incoming = Name("incoming")

    /// Applies the sets as one step and returns what files still lack; nothing at all when it throws.
    ///
    /// `blocks` is asked for content that is not in the sets.
    /// `isReconcile`: the sets are what a listing found, so the tree is whole with them.
    package func apply(_ sets: [ChangeSet], blocks: (any BlockSource)?, isReconcile: Bool = false) throws {
        guard let last = sets.last else { return }
        try step(blocks: blocks, bodies: { _ in sets.map(\.body) }) { fold, stager in
            for (index, set) in sets.enumerated() {
                for change in set.changes {
                    try fold.apply(change, set: index, body: set.body, seq: set.position.seq) { fold, object in
                        try stager.stageEarly(object, &fold)
                    }
                }
                try fold.end(at: set.position)
                if let expected = set.treeDigest, fold.catalog.state.treeDigest != expected {
                    throw ApplyError.diverged(
                        seq: set.position.seq, expected: expected, actual: fold.catalog.state.treeDigest)
                }
            }
            fold.catalog.state.position = last.position
            fold.catalog.state.lastObject = last.lastObject
            if isReconcile { fold.catalog.state.mustReconcile = false }
        }
        guard !toFetch.isEmpty, let blocks else { return }
        do {
            let objects = toFetch
            try fetch(try catalog.read { try $0.pendingObjects().filter { objects.contains($0) } }, from: blocks)
            toFetch.removeAll()
        } catch ApplyError.interrupted {
            // The sets themselves are applied; the next ones, or ``fetchMissing(from:)``, try this again.
        }
    }

    /// Asks for all that files lack, and shows those that are whole then. Returns how many are not. Worth a try with
    /// each new connection.
    @discardableResult
    package func fetchMissing(from blocks: any BlockSource) throws -> Int {
        try fetch(try catalog.read { try $0.pendingObjects() }, from: blocks)
        return try catalog.read { try $0.pendingObjects().count }
    }

    private func fetch(_ objects: [ObjectID], from blocks: any BlockSource) throws {
        guard !objects.isEmpty else { return }
        try step(blocks: blocks, bodies: { _ in [] }) { fold, _ in
            for object in objects {
                guard let row = try fold.catalog.object(object) else { continue }
                try keepFetched(row)
                try fold.complete(row)
            }
        }
    }

    /// Lets the next attempt go on with what the last one has: what is written there is not seen, and is checked.
    private func keepFetched(_ row: ObjectRow) throws {
        let unfinished = DiskTree.name(.unfinished, row.id)
        let waiting = DiskTree.name(.waiting, row.id)
        do throws(SystemError) {
            guard try staging.status(of: waiting).identity == row.identity else { return }
            try staging.link(waiting, to: staging, unfinished)
        } catch {
            guard error.isNotFound || error.isExisting else { throw error }
        }
    }

    /// - Parameters:
    ///   - bodies: what data ranges point into; told once the catalog is open.
    ///   - staged: called when all is staged and durable, before the catalog is: the last moment to take all of it back.
    ///   - body: brings the catalog to the end of the step.
    func step(
        blocks: (any BlockSource)?, bodies: (CatalogTransaction) throws -> [[UInt8]],
        staged: (inout Fold) throws -> Void = { _ in }, _ body: (inout Fold, Stager) throws -> Void
    ) throws {
        try goOn()
        var journal = Journal()
        var patches: [Name] = []
        var hasFetched = false
        do {
            try catalog.write(durably: true) { transaction in
                var fold = try Fold(transaction)
                let stager = makeStager(fold, bodies: try bodies(transaction), blocks: blocks)
                defer { patches = stager.patches.map(\.patch) + stager.asides }
                try body(&fold, stager)
                try stager.stageAll(&fold)
                try noteStale(fold)
                transaction.state.isComplete =
                    try !transaction.state.mustReconcile && transaction.pendingObjects().isEmpty
                journal = makeJournal(fold, stager)
                (drifted, restamped) = (stager.drifted, stager.restamped)
                hasFetched = stager.hasFetched
                try transaction.setJournal(journal.encoded())
                try fault?()
                try syncStaged()
                try staged(&fold)
                try fault?()
            }
        } catch {
            // What was asked for comes all the same: left lying, it would keep from coming what makes this step needless.
            if case ApplyError.interrupted = error {} else { try? blocks?.forgetExpected() }
            for patch in patches { try? staging.unlink(patch) }
            (drifted, restamped) = ([], [])
            if Self.isNoSpace(error) { makeRoom() }
            throw error
        }
        if hasFetched { isShort = false }
        isUnfinished = true
        try fault?()
        try publish(journal)
        isUnfinished = false
        // The patches of the batch before are durable in their files now; these are not yet.
        try tidy(keeping: Set(patches))
    }

    package static func isNoSpace(_ error: any Error) -> Bool {
        switch error {
        case let error as SystemError: error.isNoSpace
        case CatalogError.full: true
        default: false
        }
    }

    /// What a step has written that found no room goes, also where it could be gone on with: the log and the catalog need
    /// room to come to a state in which it may not be wanted any more.
    private func makeRoom() {
        isShort = true
        // What a client has written to a primary is nowhere else.
        if !isPrimary { try? tidy(keepsUnfinished: false) }
    }

    func makeStager(_ fold: Fold, bodies: [[UInt8]], blocks: (any BlockSource)?) -> Stager {
        let disk = DiskTree(root: root, staging: staging, catalog: fold.catalog, oldPlaces: fold.oldPlaces)
        return Stager(
            disk: disk, bodies: bodies, ready: isPrimary ? ready : nil, blocks: blocks, metadata: metadata,
            isHidden: isHidden, isShort: isShort, fault: fault, writeback: writeback, written: written)
    }

    /// All that was staged is durable after it.
    func syncStaged() throws {
        try writeback.finish()
        try staging.syncFilesystem()
    }

    /// Where a file lacks blocks, what it replaces is seen on, unless that went elsewhere.
    private func noteStale(_ fold: Fold) throws {
        let catalog = fold.catalog
        let isPending = try !catalog.pendingObjects().isEmpty
        guard try isPending || catalog.hasStale() else { return }
        for entry in fold.touched.values {
            var stale: Occupant?
            if let next = try catalog.lookup(entry.place), try catalog.isPending(next), let before = entry.before,
                before.kind != .directory
            {
                let isGone = try before.object == next || catalog.identity(of: before.object) == nil
                if isGone { stale = before }
            }
            try catalog.setStale(stale, at: entry.place)
        }
    }

    private func makeJournal(_ fold: Fold, _ stager: Stager) -> Journal {
        var journal = Journal()
        // One directory after the other, so that few handles go far.
        journal.touched = fold.touched.values.sorted {
            ($0.place.parent, $0.place.name) < ($1.place.parent, $1.place.name)
        }
        journal.patches = stager.patches
        journal.metadata = fold.metadata.sorted()
        journal.restamped = fold.restamped.union(fold.newDirectories).sorted()
        for (object, known) in fold.dropped where known.kind == .directory {
            journal.dropped.append((object, known.identity))
        }
        return journal
    }

    private func reportRestamped() throws {
        guard !restamped.isEmpty else { return }
        try catalog.read { transaction in
            for object in restamped.sorted() {
                if object == .root { quarantine.report(".") }
                guard let place = try transaction.places(of: object, limit: 1).first else { continue }
                let parent = try transaction.path(of: place.parent) ?? []
                quarantine.report(PathText.joined(parent + [place.name]))
            }
        }
        restamped.removeAll()
    }

    private func publish(_ journal: Journal) throws {
        var unpatched: Set<ObjectID> = []
        try catalog.read { transaction in
            var publisher = Publisher(
                journal: journal, catalog: transaction, root: root, staging: staging, quarantine: quarantine,
                metadata: metadata, written: written, fault: fault)
            try publisher.publish()
            drifted.formUnion(publisher.drifted)
            unpatched = publisher.unpatched
        }
        try reportRestamped()
        if isPrimary { drifted.removeAll() }
        guard !(drifted.isEmpty && unpatched.isEmpty), !isPrimary else { return }
        try fault?()
        try catalog.write(durably: true) { transaction in
            let disk = DiskTree(root: root, staging: staging, catalog: transaction)
            var restorer = Restorer(
                catalog: transaction, disk: disk, quarantine: quarantine, metadata: metadata, unpatched: unpatched)
            try restorer.restore(drifted)
            toFetch.formUnion(restorer.lost)
            transaction.state.isComplete =
                try !transaction.state.mustReconcile && transaction.pendingObjects().isEmpty
        }
        drifted.removeAll()
    }

    /// Leaves in `staging/` what still has a use: files that lack blocks, objects without a name, content of unfinished
    /// transfers.
    private func tidy(keeping patches: Set<Name> = [], keepsUnfinished: Bool = true) throws {
        let entries = try staging.entries()
        guard !entries.isEmpty else { return }
        try catalog.read { transaction in
            for entry in entries where entry.name != Self.incoming && !patches.contains(entry.name) {
                if isPrimary, entry.name.isTemporary { continue }
                guard try !isUseful(entry.name, transaction, keepsUnfinished) else { continue }
                try fault?()
                try staging.removeTree(entry.name)
            }
        }
    }

    private func isUseful(_ name: Name, _ catalog: CatalogTransaction, _ keepsUnfinished: Bool) throws -> Bool {
        guard let (role, object) = DiskTree.parse(name) else { return false }
        let identity = try catalog.identity(of: object)
        switch role {
        case .link: return false
        case .unfinished:
            guard keepsUnfinished else { return false }
            guard let identity else { return object > catalog.state.lastObject }
            // One more name of what is shown by now is nothing to go on with: it would be written to where it is shown.
            return try staging.status(of: name).identity != identity || catalog.isPending(object)
        case .staged, .waiting:
            guard let identity, try staging.status(of: name).identity == identity,
                try catalog.isPending(object) || !catalog.hasName(object)
            else { return false }
            if role == .staged { try staging.rename(name, to: staging, DiskTree.name(.waiting, object)) }
            return true
        }
    }
}
