import Synchronization
import WALFormat

/// How much of a tree may go at once before that is doubted.
package enum DeletionLimit: Hashable, Sendable {
    /// Percent of the objects of a tree that has at least ``minObjects`` of them.
    case share(UInt64)
    case count(UInt64)

    /// Of a smaller tree a share is a few files, and people remove a few files.
    package static let minObjects: UInt64 = 1000
    package static let standard = DeletionLimit.share(50)

    /// Objects that may go of `objects`; nil where all may.
    package func allowed(of objects: UInt64) -> UInt64? {
        switch self {
        case .share(let percent):
            objects < Self.minObjects || percent >= 100 ? nil : objects / 100 * percent + objects % 100 * percent / 100
        case .count(let count): count
        }
    }
}

/// A disk that was emptied, or is not mounted, looks like a tree that was deleted. Who removes a tree takes longer for it
/// than a segment is open, so what counts is how much smaller the tree has become within a minute.
///
/// Outlives a ``Capture`` that has ended in doubt, and so does the doubt: the tree does not become more credible with time.
package final class DeletionGuard: Sendable {
    private struct State: Sendable {
        /// Objects at a time, one entry a second, the oldest first; what is older than a minute is gone.
        var samples: [(time: UInt64, objects: UInt64)] = []
        /// What the tree had when it was first doubted.
        var doubted: UInt64?
    }

    private static let windowNanoseconds: UInt64 = 60_000_000_000
    private static let sampleNanoseconds: UInt64 = 1_000_000_000

    private let limit: DeletionLimit
    private let state = Mutex(State())

    package init(_ limit: DeletionLimit) {
        self.limit = limit
    }

    /// Objects that may still go of the `objects` that are there at `now`, in monotonic nanoseconds; nil where all may.
    package func allowance(objects: UInt64, now: UInt64) -> UInt64? {
        let before = state.withLock { state in
            Self.expire(&state, now)
            return Self.before(state, objects)
        }
        guard let allowed = limit.allowed(of: before) else { return nil }
        let gone = before - min(before, objects)
        return allowed > gone ? allowed - gone : 0
    }

    /// The tree has `objects` now, and that is believed.
    package func note(objects: UInt64, now: UInt64) {
        state.withLock { state in
            state.doubted = nil
            if let last = state.samples.last, now < last.time + Self.sampleNanoseconds { return }
            Self.expire(&state, now)
            state.samples.append((now, objects))
        }
    }

    /// More is gone than is believed. Returns the objects that were there before any of it went.
    package func doubt(objects: UInt64) -> UInt64 {
        state.withLock { state in
            let before = Self.before(state, objects)
            state.doubted = before
            return before
        }
    }

    /// What has come since the doubt, and is in the log by now, makes nothing more credible.
    private static func before(_ state: State, _ objects: UInt64) -> UInt64 {
        state.doubted ?? max(objects, state.samples.first?.objects ?? 0)
    }

    /// An operator has said that it is meant.
    package func accept() {
        state.withLock { $0 = State() }
    }

    private static func expire(_ state: inout State, _ now: UInt64) {
        let old = state.samples.prefix { now > windowNanoseconds && $0.time < now - windowNanoseconds }.count
        state.samples.removeFirst(old)
    }
}
