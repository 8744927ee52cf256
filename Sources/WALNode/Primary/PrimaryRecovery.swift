import Logging
import WALApply
import WALCatalog
import WALFormat
import WALLog
import WALSystem

/// What a primary does before it captures: log, catalog and tree are brought to one position, and its epoch begins.
extension PrimaryNode {
    /// The log is first and the catalog second, so after a crash the catalog may be behind. It is never ahead.
    /// What a client wrote may not even be in the tree; then it is put there.
    static func catchUp(
        _ catalog: Catalog, with log: LogWriter, _ folder: StateFolder, _ logger: Logger
    ) throws {
        let applier = applier(catalog, folder)
        defer { report(applier.quarantine, logger) }
        try applier.recoverOwn()
        try replay(catalog, with: log, applier, logger)
        try applier.forgetUnmade()
    }

    static func report(_ quarantine: Quarantine, _ logger: Logger) {
        for drift in quarantine.takeDrift() {
            let kept = drift.keptAs.map { "; what was there is kept as quarantine/\($0)" } ?? ""
            logger.warning("\(drift.path) was changed while a client wrote it\(kept)")
        }
    }

    private static func replay(
        _ catalog: Catalog, with log: LogWriter, _ applier: Applier, _ logger: Logger
    ) throws {
        let state = try catalog.state()
        guard state.position.seq > 0 else {
            // No catalog, but a log: object numbers go on after the last, and the tree is found anew.
            if let header = try log.view.header(at: log.end.seq) {
                logger.notice("the catalog is missing: the tree is scanned anew, and replicas will reconcile")
                try catalog.write { $0.state.lastObject = max($0.state.lastObject, header.lastObject) }
            }
            return
        }
        guard try log.view.holds(state.position) else {
            throw NodeError(
                .diverged,
                "the catalog is at \(state.position) and the log ends at \(log.end): segments are missing from it; "
                    + "restore log/, or remove catalog.sqlite: then the tree is what counts, and walctl rejoin makes replicas "
                    + "follow that have the missing segments")
        }
        var cursor = try log.view.cursor(after: state.position.seq)
        var count = 0
        while let location = try cursor.next() {
            let segment = try location.read()
            guard !segment.header.flags.contains(.baseline) else {
                try catalog.write { transaction in
                    try transaction.removeEverything()
                    transaction.state.lastObject = segment.header.lastObject
                }
                return
            }
            if segment.header.flags.contains(.client) {
                try applier.redo(try ChangeSet(segment))
                logger.notice("segment \(segment.header.seq), which a client wrote, is in the tree now")
                continue
            }
            try catalog.write { try Replay.apply(try ChangeSet(segment), to: $0) }
            count += 1
        }
        if count > 0 { logger.notice("replayed \(count) segments into the catalog") }
    }

    /// An empty segment: from here on what this primary has is more than any log without it, and no log that has it lacks
    /// anything before it. Without it, a primary that had nothing to log yet would look as far as one of an epoch before.
    static func beginEpoch(
        _ host: NodeHost, _ history: HistoryID, _ catalog: Catalog, _ writer: LogWriter
    ) throws {
        let epoch = host.identity.value.epoch
        // Of replicas it knows what it was told as one of them; how far they are they say when they come.
        try ReplicaRegistry.forget(in: host.folder.directory)
        // First, and once more after a crash: that the log holds it shows that it was done.
        try host.identity.update { $0.noteStart(after: writer.end) }
        let state = try catalog.state()
        // Without a catalog it stands for no tree yet: the scan that is to come finds it.
        let isAnew = state.position.seq == 0
        let context = SegmentContext(
            history: history, epoch: epoch, previous: writer.end, captureTime: Clock.realtimeNanoseconds(),
            treeDigest: state.treeDigest, lastObject: state.lastObject, flags: isAnew ? .baseline : [])
        try writer.append(Segment(ChangeWriter(), context: context, compression: .none))
        try writer.sync()
        if !isAnew { try catalog.write(durably: true) { $0.state.position = writer.end } }
    }
}
