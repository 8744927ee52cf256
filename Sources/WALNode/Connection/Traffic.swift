import Synchronization

/// Bytes of one connection, frames with their headers, counted where they are handed to it and where they come from it.
/// Added to once a frame or a read, from any thread; a status reads it.
package final class Traffic: Sendable {
    private let sentBytes = Atomic<UInt64>(0)
    private let receivedBytes = Atomic<UInt64>(0)
    private let rawBytes = Atomic<UInt64>(0)

    package init() {}

    package func sent(_ bytes: Int) {
        sentBytes.wrappingAdd(UInt64(bytes), ordering: .relaxed)
    }

    package func received(_ bytes: Int) {
        receivedBytes.wrappingAdd(UInt64(bytes), ordering: .relaxed)
    }

    /// What segments, entries and blocks among the bytes that were sent are before compression.
    package func sentRaw(_ bytes: UInt64) {
        rawBytes.wrappingAdd(bytes, ordering: .relaxed)
    }

    package var count: TrafficCount {
        TrafficCount(
            sent: sentBytes.load(ordering: .relaxed), received: receivedBytes.load(ordering: .relaxed),
            raw: rawBytes.load(ordering: .relaxed))
    }
}

package struct TrafficCount: Hashable, Sendable {
    package var sent: UInt64 = 0
    package var received: UInt64 = 0
    package var raw: UInt64 = 0

    package init(sent: UInt64 = 0, received: UInt64 = 0, raw: UInt64 = 0) {
        self.sent = sent
        self.received = received
        self.raw = raw
    }

    package static func += (sum: inout TrafficCount, more: TrafficCount) {
        sum.sent += more.sent
        sum.received += more.received
        sum.raw += more.raw
    }
}

/// All connections that one peer had since this process started.
package struct TrafficSum: Sendable {
    private var ended = TrafficCount()
    /// More than one while a connection that is dead was not closed yet and the next one stands.
    private var open: [Traffic] = []

    package init() {}

    package mutating func begin(_ traffic: Traffic) {
        open.append(traffic)
    }

    /// Nothing when it was not begun.
    package mutating func end(_ traffic: Traffic) {
        guard let index = open.firstIndex(where: { $0 === traffic }) else { return }
        open.remove(at: index)
        ended += traffic.count
    }

    package var count: TrafficCount {
        open.reduce(into: ended) { $0 += $1.count }
    }
}
