import Testing
import WALSystem
import WALTestKit

@Suite(.hangLimit) struct MonitorTests {
    @Test func incrementsOfManyThreadsAreNotLost() throws {
        let monitor = Monitor(0)
        let threads = try (0..<4).map { _ in
            try WorkerThread.start(name: "adder") {
                for _ in 0..<10_000 { monitor.withLock { $0 += 1 } }
            }
        }
        for thread in threads { thread.join() }
        #expect(monitor.withLock { $0 } == 40_000)
    }

    @Test func waiterSeesTheChangeItWaitsFor() throws {
        let monitor = Monitor(0)
        let thread = try WorkerThread.start(name: "changer") {
            for _ in 0..<5 { monitor.update { $0 += 1 } }
        }
        let seen: Int? = monitor.wait { $0 == 5 ? $0 : nil }
        #expect(seen == 5)
        thread.join()
    }

    @Test func waitEndsAtItsDeadline() {
        let monitor = Monitor(0)
        let start = Clock.monotonicNanoseconds()
        let seen: Int? = monitor.wait(timeoutNanoseconds: 30_000_000) { _ in nil }
        #expect(seen == nil)
        #expect(Clock.monotonicNanoseconds() - start >= 30_000_000)
    }

    @Test func conditionIsAskedBeforeWaiting() {
        let monitor = Monitor(7)
        let seen: Int? = monitor.wait(timeoutNanoseconds: 0) { state in
            state += 1
            return state
        }
        #expect(seen == 8)
        #expect(monitor.withLock { $0 } == 8)
    }

    @Test func errorOfTheBodyGivesTheLockBack() {
        let monitor = Monitor(0)
        let mine = SystemError(code: Errno.busy, call: "test")
        let error = systemError { () throws(SystemError) in
            try monitor.update { (_: inout Int) throws(SystemError) in throw mine }
        }
        #expect(error == mine)
        #expect(monitor.withLock { $0 } == 0)
    }
}
