import CLinux

/// A thread of our own for work that blocks: file I/O must not hold the threads that Swift's tasks share.
///
/// It takes no signal from outside, so its system calls are not interrupted and the handlers run elsewhere. It runs
/// until its body returns; dropping this handle neither stops it nor waits for it.
package final class WorkerThread: Sendable {
    package let name: String
    private let isFinished = Monitor(false)

    private init(name: String) {
        self.name = name
    }

    /// Starts `body`, pthread_create(3).
    ///
    /// - Parameters:
    ///   - name: as top(1) shows it, cut to 15 bytes.
    ///   - stackBytes: of address space; memory is used as far as the stack grows.
    /// - Throws: `EAGAIN` when the machine or the user has no more threads.
    package static func start(
        name: String, stackBytes: Int = 1 << 20, body: @Sendable @escaping () -> Void
    ) throws(SystemError) -> WorkerThread {
        let thread = WorkerThread(name: name)
        let start = Unmanaged.passRetained(Start(thread: thread, body: body))
        let result = cl_thread_start(
            stackBytes,
            { argument in
                // The thread owns it now; nil is never passed.
                let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                cl_thread_name(start.thread.name)
                start.body()
                start.thread.isFinished.update { $0 = true }
                return nil
            }, start.toOpaque())
        if result < 0 { start.release() }
        try check(result, "pthread_create", name)
        return thread
    }

    /// Waits until the body has returned. From any number of threads, any number of times.
    package func join() {
        _ = join(timeoutNanoseconds: nil)
    }

    /// - Returns: false when the time is over and the body still runs.
    package func join(timeoutNanoseconds: UInt64?) -> Bool {
        isFinished.wait(timeoutNanoseconds: timeoutNanoseconds) { $0 ? true : nil } ?? false
    }

    private final class Start {
        let thread: WorkerThread
        let body: @Sendable () -> Void

        init(thread: WorkerThread, body: @Sendable @escaping () -> Void) {
            self.thread = thread
            self.body = body
        }
    }
}
