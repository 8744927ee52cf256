import Synchronization
import WALSystem

/// Verifications of a primary, one at a time on a thread of their own: each reads all of a tree, and on the threads that
/// Swift's tasks share a few of them would keep every other client waiting.
///
/// The thread is there while something is asked for.
package final class VerifyQueue: Sendable {
    /// Does it, or with an error says that it is not done.
    private typealias Job = @Sendable ((any Error)?) -> Void

    private struct State: Sendable {
        var jobs: [Job] = []
        var isRunning = false
        var isClosed = false
    }

    private let state = Mutex(State())

    package init() {}

    /// Runs `body` on the thread, after those that were asked for before. It may block.
    package func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            put { failure in
                continuation.resume(
                    with: Result {
                        if let failure { throw failure }
                        return try body()
                    })
            }
        }
    }

    /// What waits is not done any more, and nothing that comes later; what runs is not waited for.
    package func close() {
        let waiting = state.withLock { state in
            state.isClosed = true
            defer { state.jobs.removeAll() }
            return state.jobs
        }
        for job in waiting { job(NodeError.stopping) }
    }

    private func put(_ job: @escaping Job) {
        let (isClosed, mustStart) = state.withLock { state in
            guard !state.isClosed else { return (true, false) }
            state.jobs.append(job)
            defer { state.isRunning = true }
            return (false, !state.isRunning)
        }
        if isClosed { return job(NodeError.stopping) }
        guard mustStart else { return }
        do {
            _ = try WorkerThread.start(name: "verify", stackBytes: 8 << 20) { self.work() }
        } catch {
            let waiting = state.withLock { state in
                state.isRunning = false
                defer { state.jobs.removeAll() }
                return state.jobs
            }
            for job in waiting { job(error) }
        }
    }

    private func work() {
        while let job = next() { job(nil) }
    }

    private func next() -> Job? {
        state.withLock { state in
            guard !state.jobs.isEmpty else {
                state.isRunning = false
                return nil
            }
            return state.jobs.removeFirst()
        }
    }
}
