import Glibc
import Testing
import WALSystem
import WALTestKit

@Suite(.hangLimit) struct WorkerThreadTests {
    @Test func joinWaitsForTheBody() throws {
        let gate = Monitor(false)
        let done = Monitor(false)
        let thread = try WorkerThread.start(name: "gated") {
            _ = gate.wait { $0 ? true : nil }
            done.update { $0 = true }
        }
        #expect(thread.join(timeoutNanoseconds: 20_000_000) == false)
        gate.update { $0 = true }
        thread.join()
        #expect(done.withLock { $0 })
        // Once more, it has ended already.
        #expect(thread.join(timeoutNanoseconds: 0))
    }

    @Test func nameIsShownCutTo15Bytes() throws {
        let shown = Monitor("")
        let thread = try WorkerThread.start(name: "a-name-that-is-too-long") {
            let name = try? readWholeFile(in: Directory.open(path: "/proc/thread-self"), "comm", limit: 100)
            shown.update { $0 = String(decoding: name ?? [], as: UTF8.self) }
        }
        thread.join()
        #expect(shown.withLock { $0 } == "a-name-that-is-\n")
    }

    @Test func outsideSignalsAreBlockedThereAndNotHere() throws {
        let blocked = Monitor<[Bool]>([])
        // The thread that runs a test may block everything; SIGWINCH does nothing where it is not.
        var one = sigset_t()
        sigemptyset(&one)
        sigaddset(&one, SIGWINCH)
        var before = sigset_t()
        pthread_sigmask(SIG_UNBLOCK, &one, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        let thread = try WorkerThread.start(name: "masked") {
            var mask = sigset_t()
            pthread_sigmask(SIG_BLOCK, nil, &mask)
            let found = [SIGTERM, SIGINT, SIGWINCH, SIGSEGV, SIGILL].map { sigismember(&mask, $0) == 1 }
            blocked.update { $0 = found }
        }
        thread.join()
        #expect(blocked.withLock { $0 } == [true, true, true, false, false])
        var mine = sigset_t()
        pthread_sigmask(SIG_BLOCK, nil, &mine)
        #expect(sigismember(&mine, SIGWINCH) == 0)
    }

    @Test func bodyIsReleasedAfterItRan() throws {
        final class Token: Sendable {}
        var token: Token? = Token()
        weak let seen = token
        let thread = try WorkerThread.start(name: "holder") { [token] in _ = token }
        token = nil
        thread.join()
        #expect(eventually { seen == nil })
    }
}
