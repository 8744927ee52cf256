import Synchronization
import WALApply

extension NodeStatus.Traffic {
    /// A primary's, to one of its replicas.
    init(to entry: ReplicaRegistry.Entry) {
        let count = entry.traffic.count
        self.init(
            sentBytes: count.sent, receivedBytes: count.received, rawBytes: count.raw,
            ratio: Self.ratio(count.raw, to: count.sent), writtenBytes: entry.disk?.writtenBytes,
            copiedBytes: entry.disk?.copiedBytes, loggedBytes: entry.disk?.loggedBytes)
    }

    /// A primary's, to all of its replicas. What some have not told is the sum of what the others have.
    package init(sumOf replicas: [NodeStatus.Traffic]) {
        func sum(_ values: [UInt64?]) -> UInt64? {
            let known = values.compactMap { $0 }
            // Peers tell some of them, and a sum that is too large for a number must not end the node.
            return known.isEmpty ? nil : known.reduce(0) { $0 > .max - $1 ? .max : $0 + $1 }
        }
        let sent = sum(replicas.map(\.sentBytes)) ?? 0
        let raw = sum(replicas.map(\.rawBytes)) ?? 0
        self.init(
            sentBytes: sent, receivedBytes: sum(replicas.map(\.receivedBytes)) ?? 0, rawBytes: raw,
            ratio: Self.ratio(raw, to: sent), writtenBytes: sum(replicas.map(\.writtenBytes)),
            copiedBytes: sum(replicas.map(\.copiedBytes)), loggedBytes: sum(replicas.map(\.loggedBytes)))
    }

    /// A replica's own.
    init(of node: ReplicaNode, _ count: TrafficCount) {
        let raw = node.rawBytes.load(ordering: .relaxed)
        self.init(
            sentBytes: count.sent, receivedBytes: count.received, rawBytes: raw,
            ratio: Self.ratio(raw, to: count.received), writtenBytes: node.written.written,
            copiedBytes: node.written.copied, loggedBytes: node.loggedBytes.load(ordering: .relaxed))
    }

    private static func ratio(_ raw: UInt64, to shipped: UInt64) -> Double? {
        shipped > 0 ? Double(raw) / Double(shipped) : nil
    }
}
