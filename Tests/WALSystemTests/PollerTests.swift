import Testing
import WALSystem
import WALTestKit

@Suite struct PollerTests {
    @Test func onlyTheSignalledIsReady() throws {
        let first = try EventFD()
        let second = try EventFD()
        let both = [first.descriptor, second.descriptor]
        #expect(try Poller.poll(descriptors: both, timeoutMilliseconds: 0) == [])
        second.signal()
        second.signal()
        #expect(try Poller.poll(descriptors: both, timeoutMilliseconds: 10_000) == [second.descriptor])
        first.signal()
        #expect(try Poller.poll(descriptors: both, timeoutMilliseconds: nil) == both)
        second.drain()
        #expect(try Poller.poll(descriptors: both, timeoutMilliseconds: 0) == [first.descriptor])
        second.drain()
    }

    @Test func timeoutIsKept() throws {
        let never = try EventFD()
        let start = Clock.monotonicNanoseconds()
        #expect(try Poller.poll(descriptors: [never.descriptor], timeoutMilliseconds: 30) == [])
        #expect(Clock.monotonicNanoseconds() - start >= 29_000_000)
    }

    @Test(.hangLimit) func signalOfAnotherThreadWakes() throws {
        let wake = try EventFD()
        let thread = try WorkerThread.start(name: "waker") { wake.signal() }
        #expect(try Poller.poll(descriptors: [wake.descriptor], timeoutMilliseconds: nil) == [wake.descriptor])
        thread.join()
    }

    @Test func wrongDescriptorsAreErrors() {
        let bad = systemError { () throws(SystemError) in
            _ = try Poller.poll(descriptors: [1_000_000_000], timeoutMilliseconds: 0)
        }
        #expect(bad?.code == 9)
        let many = systemError { () throws(SystemError) in
            _ = try Poller.poll(descriptors: Array(repeating: 0, count: 65), timeoutMilliseconds: 0)
        }
        #expect(many?.code == Errno.invalid)
    }
}
