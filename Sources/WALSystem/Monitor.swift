import CLinux
import Glibc

/// A value behind a mutex, with a condition to wait for changes of it (Hoare 1974, with Mesa's rule: a waiter looks
/// again). For what `Synchronization.Mutex` cannot do: wait.
///
/// `@unchecked Sendable`: `state` is only touched between `pthread_mutex_lock` and `pthread_mutex_unlock` of the one
/// mutex, in `withLock` and `wait`; it is `Sendable` itself, so what a closure takes out of it may cross threads.
package final class Monitor<State: Sendable>: @unchecked Sendable {
    private var state: State
    // Allocated, because the address of a mutex must not change, and a property's may.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    package init(_ state: State) {
        self.state = state
        mutex.initialize(to: pthread_mutex_t())
        condition.initialize(to: pthread_cond_t())
        var attributes = pthread_condattr_t()
        Self.must(pthread_condattr_init(&attributes))
        // Deadlines must not move when somebody sets the clock.
        Self.must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC))
        Self.must(pthread_cond_init(condition, &attributes))
        Self.must(pthread_condattr_destroy(&attributes))
        Self.must(pthread_mutex_init(mutex, nil))
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` alone. It must neither wait for another thread nor use this monitor again. Nobody is woken: use
    /// ``update(_:)`` for changes that others wait for.
    package func withLock<Result, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        Self.must(pthread_mutex_lock(mutex))
        defer { Self.must(pthread_mutex_unlock(mutex)) }
        return try body(&state)
    }

    /// ``withLock(_:)``, then wakes all who wait.
    package func update<Result, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        Self.must(pthread_mutex_lock(mutex))
        defer {
            Self.must(pthread_cond_broadcast(condition))
            Self.must(pthread_mutex_unlock(mutex))
        }
        return try body(&state)
    }

    /// Lets all who wait look at their condition again.
    package func signalAll() {
        Self.must(pthread_cond_broadcast(condition))
    }

    /// Waits until `condition` returns a value, and returns that; nil when the time is over. The condition is asked at
    /// once, after each signal, and a last time at the deadline; under the lock, and it may change the state.
    ///
    /// - Parameter timeoutNanoseconds: nil waits for ever.
    package func wait<Result, Failure: Error>(
        timeoutNanoseconds: UInt64? = nil, until condition: (inout State) throws(Failure) -> Result?
    ) throws(Failure) -> Result? {
        let deadline = timeoutNanoseconds.map { Self.deadline(after: $0) }
        Self.must(pthread_mutex_lock(mutex))
        defer { Self.must(pthread_mutex_unlock(mutex)) }
        while true {
            if let result = try condition(&state) { return result }
            guard var deadline else {
                Self.must(pthread_cond_wait(self.condition, mutex))
                continue
            }
            let waited = pthread_cond_timedwait(self.condition, mutex, &deadline)
            if waited == ETIMEDOUT { return try condition(&state) }
            Self.must(waited)
        }
    }

    private static func deadline(after nanoseconds: UInt64) -> timespec {
        let (sum, overflow) = Clock.monotonicNanoseconds().addingReportingOverflow(nanoseconds)
        let end = overflow ? UInt64.max : sum
        return timespec(tv_sec: Int(end / 1_000_000_000), tv_nsec: Int(end % 1_000_000_000))
    }

    /// These calls fail only when they are used wrongly (`EPERM`, `EDEADLK`, `EINVAL`).
    private static func must(_ code: Int32) {
        precondition(code == 0, "pthread error \(code)")
    }
}
