import Logging
import Synchronization
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem

/// Makes captured entries the next segment of the log: compressed once, synced before anybody ships it.
final class LogSink: CaptureSink {
    private let writer: LogWriter
    private let catalog: Catalog
    private let history: HistoryID
    private let epoch: UInt64
    private let compression: Compression
    private let retention: Retention
    private let replicas: ReplicaRegistry
    private let signal: LogSignal
    private let logger: Logger
    /// True while the disk is full: the capture waits, nothing is lost.
    private let isStalled: Atomic<Bool>

    init(
        writer: LogWriter, catalog: Catalog, history: HistoryID, epoch: UInt64, compression: Compression,
        retention: Retention, replicas: ReplicaRegistry, signal: LogSignal, logger: Logger
    ) {
        self.writer = writer
        self.catalog = catalog
        self.history = history
        self.epoch = epoch
        self.compression = compression
        self.retention = retention
        self.replicas = replicas
        self.signal = signal
        self.logger = logger
        isStalled = Atomic(false)
    }

    func emit(
        _ changes: borrowing ChangeWriter, state: CatalogState, flags: SegmentHeader.Flags
    ) throws -> Position {
        // No replica may be told what a damaged row says.
        try catalog.requireRight()
        let context = SegmentContext(
            history: history, epoch: epoch, previous: writer.end, captureTime: Clock.realtimeNanoseconds(),
            treeDigest: state.treeDigest, lastObject: state.lastObject, flags: flags)
        let segment = Segment(changes, context: context, compression: compression)
        try prune(adding: UInt64(segment.bytes.count))
        while true {
            do throws(LogError) {
                try writer.append(segment)
                try writer.sync()
                break
            } catch {
                guard case .noSpace = error else { throw error }
                if signal.stalls("\(error)") { logger.error("\(error); capture waits for room") }
                // Room may come from retention as replicas move on, or from the operator.
                try prune(adding: UInt64(segment.bytes.count))
                _ = signal.stopped.wait(timeoutNanoseconds: 1_000_000_000) { $0 ? true : nil }
                if signal.stopped.withLock({ $0 }) { throw error }
            }
        }
        signal.stalled = nil
        signal.advance()
        return segment.position
    }

    var isEmpty: Bool { writer.end.seq == 0 }

    /// Once for each file that is full: then it can go whenever retention says so.
    var needsDurableCatalog: Bool {
        writer.view.files.dropLast().last.map { $0.lastSeq > catalog.durableSeq } ?? false
    }

    /// Whole files that no slot needs and that are old enough, or that the budget does not allow. What the catalog is
    /// repaired from after a crash stays, over any budget.
    private func prune(adding bytes: UInt64) throws {
        let verdict = Retention.prunableThrough(
            files: writer.view.files, slots: replicas.slots(), now: Clock.realtimeNanoseconds(), policy: retention,
            adding: bytes, keeping: catalog.durableSeq)
        if let through = verdict.through { try writer.prune(through: through) }
        if !verdict.lostSlots.isEmpty {
            for name in replicas.markLost(below: writer.view.base.seq) {
                logger.warning("log budget overran replica \(name): it will reconcile when it connects")
            }
        }
    }
}
