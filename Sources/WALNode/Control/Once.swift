import Synchronization

/// A continuation that two may try to resume, one of them perhaps the time.
final class Once<Value: Sendable>: Sendable {
    private struct State: Sendable {
        var continuation: CheckedContinuation<Value, Never>?
        var timer: Task<Void, any Error>?
    }

    private let state: Mutex<State>

    init(_ continuation: CheckedContinuation<Value, Never>) {
        state = Mutex(State(continuation: continuation))
    }

    func resume(_ value: Value) {
        let (continuation, timer) = state.withLock { state in
            defer { state = State() }
            return (state.continuation, state.timer)
        }
        timer?.cancel()
        continuation?.resume(returning: value)
    }

    /// Calls `body` after that time, unless this was resumed before.
    func expire(after seconds: Double, _ body: @escaping @Sendable () -> Void) {
        let task = Task {
            try await Task.sleep(for: .seconds(seconds))
            body()
        }
        let isOver = state.withLock { state in
            guard state.continuation != nil else { return true }
            state.timer = task
            return false
        }
        if isOver { task.cancel() }
    }
}

/// When several waits must be over together.
struct Deadline: Sendable {
    let seconds: Double
    private let began = ContinuousClock.now

    init(seconds: Double) {
        self.seconds = seconds
    }

    /// Never less than 0.
    var secondsLeft: Double {
        let passed = began.duration(to: .now).components
        return max(0, seconds - Double(passed.seconds) - Double(passed.attoseconds) / 1e18)
    }
}
