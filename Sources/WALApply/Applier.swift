import WALCatalog
import WALFormat
import WALSystem

/// Changes → directory, on one thread. The order for a batch, and what a crash leaves after each step:
///
/// 1. fold: the catalog's transaction is brought to the end of the batch. A crash: as if nothing had been.
/// 2. stage: content is written where nobody sees it, then one `syncfs`. A crash: leftovers in `staging/`.
/// 3. commit: the catalog, and in it the journal of what is to be published, become durable together.
/// 4. publish: renames and unlinks only. A crash: ``recover()`` publishes the journal again.
///
/// The batch before is durable by then: the `syncfs` of step 2 covers its renames too, so one journal is enough.
package final class Applier {
    let catalog: Catalog
    let staging: Directory
    package let quarantine: Quarantine
    /// Only root can give files away; others keep the owner in the catalog only.
    let setsOwner: Bool
    /// The tree's root, or the hidden one of a first sync.
    package var root: Directory
    /// See ``Stager``.
    package var isHidden = false
    private var stalePatches: [Name] = []

    package init(catalog: Catalog, root: Directory, staging: Directory, quarantine: Quarantine) {
        self.catalog = catalog
        self.root = root
        self.staging = staging
        self.quarantine = quarantine
        setsOwner = ProcessFacts.effectiveUserID == 0
    }

    /// Finishes what a crash interrupted. Call once, before anything else.
    package func recover() throws {
        let journal = try catalog.read { try Journal(decoding: try $0.journal()) }
        if !journal.isEmpty {
            try publish(journal)
            try staging.syncFilesystem()
            try catalog.write(durably: true) { try $0.setJournal([]) }
        }
        try cleanStaging()
    }

    /// What no journal and no pending file needs. A half-fetched file (`n…`) is kept: its blocks are checked and used.
    private func cleanStaging() throws {
        let pending = try catalog.read { Set(try $0.pendingObjects().map(DiskTree.stagedName)) }
        for entry in try staging.entries() {
            let first = entry.name.bytes.first
            if first == UInt8(ascii: "n") || pending.contains(entry.name) || entry.name == Self.incoming { continue }
            if entry.type == DirectoryEntry.directoryType {
                try staging.removeTree(entry.name)
            } else {
                try staging.unlink(entry.name)
            }
        }
    }

    /// The hidden root of a first sync, in `staging/`.
    package static let incoming = Name("incoming")

    /// Applies the sets as one step and returns what files still lack; nothing at all when it throws.
    ///
    /// `blocks` is asked for content that is not in the sets.
    package func apply(_ sets: [ChangeSet], blocks: (any BlockSource)?) throws {
        guard let last = sets.last else { return }
        var journal = Journal()
        var patches: [Name] = []
        let bodies = sets.map(\.body)
        try catalog.write(durably: true) { transaction in
            var fold = Fold(transaction)
            let stager = makeStager(transaction, bodies: bodies, blocks: blocks)
            for (index, set) in sets.enumerated() {
                for change in set.changes {
                    try fold.apply(change, set: index, body: set.body, seq: set.position.seq) { fold, object in
                        stager.disk.oldPlaces = fold.oldPlaces
                        try stager.stageEarly(object, &fold)
                    }
                }
                if let expected = set.treeDigest, transaction.state.treeDigest != expected {
                    throw ApplyError.diverged(
                        seq: set.position.seq, expected: expected, actual: transaction.state.treeDigest)
                }
            }
            stager.disk.oldPlaces = fold.oldPlaces
            try stager.stageAll(&fold)
            transaction.state.position = last.position
            transaction.state.lastObject = last.lastObject
            transaction.state.isComplete = try transaction.pendingObjects().isEmpty
            journal = makeJournal(fold, stager)
            patches = stager.patches.map(\.patch)
            try transaction.setJournal(journal.encoded())
            try staging.syncFilesystem()
        }
        try publish(journal)
        // The patches of the batch before are durable in their files now.
        for patch in stalePatches { try staging.unlink(patch) }
        stalePatches = patches
    }

    func makeStager(
        _ transaction: CatalogTransaction, bodies: [[UInt8]], blocks: (any BlockSource)?
    ) -> Stager {
        let disk = DiskTree(root: root, staging: staging, catalog: transaction, oldPlaces: [:])
        return Stager(disk: disk, bodies: bodies, blocks: blocks, setsOwner: setsOwner, isHidden: isHidden)
    }

    private func makeJournal(_ fold: Fold, _ stager: Stager) -> Journal {
        var journal = Journal()
        journal.touched = Array(fold.touched.values)
        journal.patches = stager.patches
        journal.metadata = Array(fold.metadata)
        journal.restamped = Array(fold.restamped.union(fold.newDirectories))
        return journal
    }

    private func publish(_ journal: Journal) throws {
        try catalog.read { transaction in
            var publisher = Publisher(
                journal: journal, catalog: transaction, root: root, staging: staging, quarantine: quarantine,
                setsOwner: setsOwner)
            try publisher.publish()
        }
    }
}
