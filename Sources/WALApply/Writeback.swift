import WALSystem

/// Lets the kernel write to the disk what a long batch has written, while the batch goes on: the `syncfs` at its end has
/// little left to wait for. A thread that begins with the first ``stepBytes`` and syncs whenever as much was written
/// again. For the apply thread only.
///
/// The kernel tells an error of writing back only once to each open handle of the file system, so one that a sync in the
/// midst meets is kept, and is what ``finish()`` throws: promise 6.
final class Writeback {
    private struct State: Sendable {
        var isDue = false
        var isOver = false
        var failure: SystemError?
    }

    static let stepBytes = 32 << 20

    private let directory: Directory
    private let state = Monitor(State())
    private var thread: WorkerThread?
    private var bytes = 0

    /// - Parameter directory: any of the file system.
    init(_ directory: Directory) {
        self.directory = directory
    }

    deinit {
        state.update { $0.isOver = true }
    }

    func wrote(_ count: Int) throws(SystemError) {
        bytes += count
        guard bytes >= Self.stepBytes else { return }
        bytes = 0
        if thread == nil { thread = try start() }
        state.update { $0.isDue = true }
    }

    private func start() throws(SystemError) -> WorkerThread {
        let state = state
        let directory = directory
        return try WorkerThread.start(name: "writeback") {
            while state.wait(until: { state in
                if state.isOver { return false }
                defer { state.isDue = false }
                return state.isDue ? true : nil
            }) == true {
                do throws(SystemError) {
                    try directory.syncFilesystem()
                } catch {
                    state.withLock { $0.failure = $0.failure ?? error }
                }
            }
        }
    }

    /// Ends the thread, after a sync that is under way. What was written since is for the caller to sync.
    func finish() throws(SystemError) {
        bytes = 0
        if let thread {
            state.update { $0.isOver = true }
            thread.join()
            self.thread = nil
            state.withLock { $0.isOver = false }
        }
        if let failure = state.withLock({ $0.failure }) { throw failure }
    }
}
