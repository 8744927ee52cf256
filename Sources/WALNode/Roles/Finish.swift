import Synchronization

/// How a node comes to its end: the first word counts.
final class Finish: Sendable {
    private struct State: Sendable {
        var result: Result<Void, NodeError>?
        var waiter: CheckedContinuation<Void, any Error>?
        var isCaptureOver = true
        var captureWaiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    func finish(_ result: Result<Void, NodeError>) {
        let waiter: CheckedContinuation<Void, any Error>? = state.withLock { state in
            guard state.result == nil else { return nil }
            state.result = result
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(with: result.mapError { $0 as any Error })
    }

    var isOver: Bool { state.withLock { $0.result != nil } }

    func wait() async throws {
        try await withCheckedThrowingContinuation { continuation in
            let result: Result<Void, NodeError>? = state.withLock { state in
                if state.result == nil { state.waiter = continuation }
                return state.result
            }
            if let result { continuation.resume(with: result.mapError { $0 as any Error }) }
        }
    }

    func captureBegins() {
        state.withLock { $0.isCaptureOver = false }
    }

    func captureEnded(_ error: NodeError?) {
        if let error { finish(.failure(error)) }
        let waiter = state.withLock { state in
            state.isCaptureOver = true
            defer { state.captureWaiter = nil }
            return state.captureWaiter
        }
        waiter?.resume()
    }

    /// Returns when the worker thread is done with log and catalog.
    func waitForCapture() async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                if !state.isCaptureOver { state.captureWaiter = continuation }
                return state.isCaptureOver
            }
            if isOver { continuation.resume() }
        }
    }
}
