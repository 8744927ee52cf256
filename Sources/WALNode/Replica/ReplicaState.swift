import Synchronization
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// What the threads of a replica tell each other and a status shows.
struct ReplicaState: Sendable {
    enum Phase: String, Sendable {
        case connecting, scanning, syncing, streaming, stalled, diverged
    }

    var phase = Phase.connecting
    /// What came cannot be applied, and nothing will be until an operator has looked. A refusal by a peer is not that: the
    /// next one may be the right one.
    var isHalted = false
    /// A primary has taken this replica for one of its own since the start.
    var wasWelcomed = false
    /// The end of the log, as far as it was appended, and as far as it was synced.
    var received = Position.start
    var durable = Position.start
    /// The last position at which the tree was whole.
    var applied = Position.start
    /// How far the catalog is while files of it still lack blocks.
    var incompleteFrontier: UInt64 = 0
    /// Nothing is here yet: the first sync brings everything.
    var isEmpty = true
    var needsSync = false
    /// Files lack blocks that the primary had no more; they are asked for again, now and then.
    var isIncomplete = false
    /// Segments of the log that are not applied and do not hold all that they stand for
    /// (``SegmentHeader/isSelfContained``), in order: from the first of them on nothing is durable.
    var external: [UInt64] = []
    /// The first of them with which a primary began anew: nothing behind it can be applied.
    var baseline: UInt64?
    /// Bytes of syncs that were worked on; every MiB of them is acknowledged.
    var workedBytes: UInt64 = 0
    var syncFiles: UInt64 = 0
    var syncTotalFiles: UInt64 = 0
    var syncBytes: UInt64 = 0
    var syncTotalBytes: UInt64 = 0

    var link: Link?
    /// The one at the other end of ``link`` has taken this replica for one of its own; until then it may be anybody.
    var isLinkWelcomed = false
    /// Of all connections to a primary.
    var traffic = TrafficSum()
    var upstreamAddress: String?
    /// Monotonic nanoseconds.
    var lastContact: UInt64?
    var primaryPosition: Position?
    /// Of the primary that has welcomed this replica last.
    var primaryEpoch: UInt64 = 0
    /// Monotonic nanoseconds at which all that the primary had logged was what is applied by now; nil before that was known.
    var currentAsOf: UInt64?
    /// When the question was sent that the primary's last word answers, in monotonic nanoseconds.
    var lastEcho: UInt64?
    /// Heartbeats of this connection that say more than that once their positions are applied.
    var beats: [(clock: UInt64, seq: UInt64)] = []
    var primaryCaptureTime: Int64 = 0
    var problem: String?
    /// What keeps the log, and what the tree, from going on; each thread takes its own back.
    var logStall: String?
    var applyStall: String?
    var isStopping = false
    /// See ``Ack/groupTag``.
    var groupTag: UInt64 = 0
    /// About to be a primary: no other is listened to, and what cannot be had any more is not waited for.
    var isDraining = false
    /// Called on the apply thread when all of the log is applied.
    var retired: (@Sendable (Result<Void, any Error>) -> Void)?
    /// Work for the apply thread beside segments.
    var session: SyncSession?
    /// What a connection that was lost in the midst of a sync still has to do when that has ended.
    var afterSession: (@Sendable () -> Void)?
    var checks: [CheckRequest] = []

    /// A segment was logged.
    mutating func noteUnapplied(_ header: SegmentHeader) {
        if !header.isSelfContained { external.append(header.seq) }
        if header.flags.contains(.baseline) { baseline = baseline ?? header.seq }
    }

    /// For a log that goes on behind what the catalog has as a whole.
    mutating func noteUnapplied(in log: LogView, _ known: CatalogState) {
        let first = known.whole.seq + 1
        // Of those before the log one is enough: it may begin at any number.
        if known.mustReconcile || known.whole.seq < log.base.seq { external.append(first) }
        var seq = max(first, log.base.seq + 1)
        do throws(LogError) {
            var cursor = try log.cursor(after: seq - 1)
            while let location = try cursor.next() {
                noteUnapplied(location.header)
                seq = location.header.seq + 1
            }
        } catch {
            // Damaged, which whoever applies it says. What cannot be read is not there.
            if seq <= log.durableEnd.seq { external += Array(seq...log.durableEnd.seq) }
        }
    }

    /// While the connection stands and nothing is in the way.
    var connectedPhase: Phase { isStalled ? .stalled : isIncomplete ? .syncing : .streaming }
    var isStalled: Bool { logStall != nil || applyStall != nil }

    /// All but what the connection itself knows, how much was taken off it, and what is counted elsewhere.
    var ack: Ack {
        let limit = external.first.map { $0 - 1 } ?? .max
        return Ack(
            received: received.seq, durable: min(durable.seq, limit), applied: applied.seq,
            consumedBytes: 0, isSyncing: phase == .syncing || needsSync || session != nil,
            clock: Int64(clamping: Clock.monotonicNanoseconds()), groupTag: groupTag)
    }
}

/// A verification that is to run between two batches.
struct CheckRequest: Sendable {
    var isDeep: Bool
    var isRepair: Bool
    var done: @Sendable (Result<VerifyReport, any Error>) -> Void
}

/// The replica's end of the connection to its primary, as other threads use it.
final class Link: Sendable {
    let connection: Connection
    /// Answers to ``want(_:)``, in order. Not bounded here: the receiver asks for no more than its window.
    let blocks = BoundedQueue<BlockAnswer>(maxCount: .max)
    private let epoch: UInt64
    /// Tells the primary how far this replica is, soon; from any thread.
    let acknowledge: @Sendable () -> Void
    /// Asks the primary where its log ends; from any thread.
    let askForHeartbeat: @Sendable () -> Void

    init(
        connection: Connection, epoch: UInt64, acknowledge: @escaping @Sendable () -> Void,
        askForHeartbeat: @escaping @Sendable () -> Void
    ) {
        self.connection = connection
        self.epoch = epoch
        self.acknowledge = acknowledge
        self.askForHeartbeat = askForHeartbeat
    }

    func send(_ message: Message) {
        connection.send(message, epoch: epoch)
    }
}

/// A sync that is under way on one connection.
final class SyncSession: Sendable {
    enum Part: Sendable {
        case begin(SyncBegin)
        case entries(SyncEntries)
        case end
    }

    let way: Welcome.Way
    let link: Link
    let sender: Hello
    let parts = BoundedQueue<Part>(maxCount: .max)
    /// Called on the apply thread when the tree is at a position: the connection goes on with the log.
    let finished: @Sendable (Position) -> Void

    init(way: Welcome.Way, link: Link, sender: Hello, finished: @escaping @Sendable (Position) -> Void) {
        self.way = way
        self.link = link
        self.sender = sender
        self.finished = finished
    }
}
