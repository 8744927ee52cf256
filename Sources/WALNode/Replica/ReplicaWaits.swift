import Logging
import Synchronization
import WALFormat
import WALLog
import WALSystem
import WALWire

/// What the threads of a replica, and its clients, wait for.
extension ReplicaNode {
    enum Work: Sendable {
        case session(SyncSession)
        case segments
        case check(CheckRequest)
        /// All is applied, and the node is about to have another role.
        case retire(@Sendable (Result<Void, any Error>) -> Void)
        /// Files that lack blocks.
        case pending
    }

    /// How often blocks are asked for that were gone at the last time.
    private static let pendingNanoseconds: UInt64 = 1_000_000_000

    /// Waits for something that the apply thread can do; nil when the node stops.
    func nextWork(applies: Bool = true) -> Work? {
        let log = logView
        while true {
            let timeout = state.withLock { $0.isIncomplete ? Self.pendingNanoseconds : nil }
            let work: Work?? = state.wait(timeoutNanoseconds: timeout) { state in
                if state.isStopping { return .some(nil) }
                if let check = state.checks.first {
                    state.checks.removeFirst()
                    return .check(check)
                }
                if let session = state.session { return .session(session) }
                if applies, !state.needsSync, !state.isEmpty, state.applyFrontier < log.durableEnd.seq {
                    return .segments
                }
                if let retired = state.retired.take() { return .retire(retired) }
                return nil
            }
            if let work { return work }
            if state.withLock({ $0.isIncomplete && $0.link != nil && $0.session == nil }) { return .pending }
        }
    }

    /// After an interrupted fetch: the next connection may bring what this one did not.
    func waitForLink() {
        let link = link
        _ = state.wait(timeoutNanoseconds: 1_000_000_000) { state in
            state.isStopping || (state.link != nil && state.link !== link) || state.session != nil ? true : nil
        }
    }

    /// False when the time, in monotonic nanoseconds, came first.
    func waitUntil(_ deadline: UInt64, _ isMet: (ReplicaState) -> Bool) -> Bool {
        let left = deadline.elapsed(since: Clock.monotonicNanoseconds())
        return state.wait(timeoutNanoseconds: left) { $0.isStopping || isMet($0) ? true : nil } ?? false
    }

    func waitForStop(nanoseconds: UInt64?) -> Bool {
        state.wait(timeoutNanoseconds: nanoseconds) { $0.isStopping ? true : nil } ?? false
    }

    /// Of the log or of the tree, which wait for different things.
    func stall(_ part: any WritableKeyPath<ReplicaState, String?> & Sendable, _ problem: String, isRoom: Bool = true) {
        let isNew = state.update { state in
            if !state.isHalted { state.phase = .stalled }
            defer { state[keyPath: part] = problem }
            return state[keyPath: part] != problem
        }
        if isNew { logger.error("\(problem); \(isRoom ? "waiting for room" : "trying again")") }
    }

    func recovered(_ part: any WritableKeyPath<ReplicaState, String?> & Sendable) {
        state.withLock { state in
            guard state[keyPath: part] != nil else { return }
            state[keyPath: part] = nil
            guard state.phase == .stalled, !state.isStalled else { return }
            state.phase = state.link == nil ? .connecting : state.connectedPhase
        }
    }

    func check(_ request: CheckRequest) {
        update { $0.checks.append(request) }
    }

    /// True when it is applied; false after the time.
    func waitApplied(_ wanted: PositionText, seconds: Double?) async -> Bool {
        await withCheckedContinuation { continuation in
            let once = Once(continuation)
            let id = untilWaiters.withLock { $0.add(wanted, once) }
            // Applied between the question and the waiting.
            if wanted.isReached(by: snapshot.applied) { once.resume(true) }
            if let seconds {
                once.expire(after: seconds) { [self] in
                    untilWaiters.withLock { $0.remove(id) }
                    once.resume(false)
                }
            }
        }
    }
}

/// Who waits for a position to be applied.
struct UntilWaiters: Sendable {
    private var waiters: [UInt64: (wanted: PositionText, once: Once<Bool>)] = [:]
    private var next: UInt64 = 0

    mutating func add(_ wanted: PositionText, _ once: Once<Bool>) -> UInt64 {
        next += 1
        waiters[next] = (wanted, once)
        return next
    }

    mutating func remove(_ id: UInt64) {
        waiters[id] = nil
    }

    mutating func take(at position: Position) -> [Once<Bool>] {
        let met = waiters.filter { $0.value.wanted.isReached(by: position) }
        for id in met.keys { waiters[id] = nil }
        return met.values.map(\.once)
    }
}
