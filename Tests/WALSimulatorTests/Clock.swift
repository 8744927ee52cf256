/// Simulated time in nanoseconds, and what is to happen when. Of two things at one time the one that was put in first
/// comes first: nothing depends on anything but the seed.
struct Agenda {
    private struct Entry {
        var time: UInt64
        var number: UInt64
        var action: () throws -> Void
    }

    private(set) var now: UInt64 = 1_000_000_000
    private var heap: [Entry] = []
    private var number: UInt64 = 0

    mutating func put(after delay: UInt64, _ action: @escaping () throws -> Void) {
        number += 1
        heap.append(Entry(time: now + delay, number: number, action: action))
        var child = heap.count - 1
        while child > 0, isBefore(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    /// What comes next, at whose time it is then; nil where that is after `end`, which it is then.
    mutating func take(until end: UInt64) -> (() throws -> Void)? {
        guard let first = heap.first, first.time <= end else {
            now = max(now, end)
            return nil
        }
        now = first.time
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && isBefore(child, least) {
                least = child
            }
            guard least != parent else { break }
            heap.swapAt(parent, least)
            parent = least
        }
        return first.action
    }

    private func isBefore(_ a: Int, _ b: Int) -> Bool {
        (heap[a].time, heap[a].number) < (heap[b].time, heap[b].number)
    }
}

extension UInt64 {
    static func milliseconds(_ count: Int) -> UInt64 { UInt64(count) * 1_000_000 }
    static func seconds(_ count: Int) -> UInt64 { UInt64(count) * 1_000_000_000 }
}
