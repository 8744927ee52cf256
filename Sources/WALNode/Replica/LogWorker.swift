import Logging
import WALFormat
import WALLog
import WALSystem
import WALWire

/// The replica's log thread: verifies segments, appends them, syncs a group at a time, acknowledges.
///
/// It ends when the node stops, or at the first failed write or sync, which ends the node.
final class LogWorker: Sendable {
    enum Item: Sendable {
        case segment([UInt8])
        /// Calls back when everything before it is in the log.
        case barrier(@Sendable () -> Void)
        /// The tree is at this position: the log begins anew there.
        case reset(Position, @Sendable (Result<Void, NodeError>) -> Void)
        case prune

        /// It is not done any more; nobody is to wait for it.
        func give(up error: NodeError) {
            switch self {
            case .barrier(let done): done()
            case .reset(_, let done): done(.failure(error))
            case .segment, .prune: break
            }
        }
    }

    let queue = BoundedQueue<Item>(maxCount: .max)
    private let node: ReplicaNode
    private static let groupBytes = 16 << 20

    init(node: ReplicaNode) {
        self.node = node
    }

    func run(_ writer: LogWriter) throws {
        while let first = queue.take() {
            var group: [Segment] = []
            var groupBytes = 0
            var item: Item? = first
            var after: Item?
            // Whatever has come meanwhile shares one sync.
            while let next = item {
                guard case .segment(let bytes) = next else {
                    after = next
                    break
                }
                do throws(FormatError) {
                    group.append(try Segment(verifying: bytes))
                } catch {
                    let text = "segment \(node.ack().received + UInt64(group.count) + 1) came damaged: \(error)"
                    node.link?.send(.refuse(Refusal(.damaged, text)))
                    node.dropLink(text)
                    break
                }
                groupBytes += bytes.count
                item = groupBytes < Self.groupBytes ? queue.takeIfAny() : nil
            }
            do {
                if !group.isEmpty { try append(group, writer) }
            } catch {
                after?.give(up: NodeError(error))
                throw error
            }
            switch after {
            case .barrier(let done): done()
            case .reset(let position, let done):
                do {
                    try writer.reset(to: position, history: try node.nodeFile.historyID)
                    done(.success(()))
                } catch {
                    done(.failure(NodeError(error)))
                    throw error
                }
            case .prune: try prune(writer)
            case .segment, nil: break
            }
        }
    }

    /// After ``run(_:)``, however that came to its end: nobody waits for what is not done.
    func end() {
        queue.close()
        while let item = queue.takeIfAny() { item.give(up: .stopping) }
    }

    private func append(_ group: [Segment], _ writer: LogWriter) throws {
        var rest = group[...]
        while !rest.isEmpty {
            do throws(LogError) {
                // One by one: where the disk is full, what fitted is in the log.
                while let segment = rest.first {
                    try writer.append(segment)
                    rest = rest.dropFirst()
                }
            } catch {
                if case .notNext = error {
                    node.dropLink("a segment came that does not follow: \(error)")
                    rest = []
                    break
                }
                guard case .noSpace = error else { throw error }
                node.stall(\.logStall, "\(error)")
                try prune(writer)
                if node.waitForStop(nanoseconds: 1_000_000_000) { return }
            }
        }
        try writer.sync()
        node.recovered(\.logStall)
        node.logged(writer.durableEnd, bytes: group.reduce(0) { $0 + UInt64($1.bytes.count) }, group)
    }

    /// What is applied may go when it is old or the budget says so; what is not applied stays.
    private func prune(_ writer: LogWriter) throws {
        let applied = node.appliedSeq
        let verdict = Retention.prunableThrough(
            files: writer.view.files, slots: [applied] + node.replicas.slots(), now: Clock.realtimeNanoseconds(),
            policy: node.settings.retention, keeping: applied)
        if let through = verdict.through { try writer.prune(through: through) }
    }
}
