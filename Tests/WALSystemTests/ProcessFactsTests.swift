import Glibc
import Testing
import WALSystem

@Suite struct ProcessFactsTests {
    @Test func thisProcessIsAliveAndHasAName() throws {
        #expect(ProcessFacts.processIsAlive(ProcessFacts.processID))
        let name = try #require(ProcessFacts.processName(ProcessFacts.processID))
        #expect(!name.isEmpty && name.utf8.count <= 15 && !name.contains("\n"))
        #expect(try !ProcessFacts.hostName().isEmpty)
    }

    @Test func numbersOfNoProcessAreDead() {
        #expect(!ProcessFacts.processIsAlive(0))
        #expect(!ProcessFacts.processIsAlive(-1))
        // Above the highest that Linux gives, 2^22.
        #expect(!ProcessFacts.processIsAlive(1 << 23))
        #expect(ProcessFacts.processName(1 << 23) == nil)
    }

    @Test func tellsWhoHoldsALock() throws {
        try withScratch { scratch, path in
            let status = try scratch.status()
            #expect(ProcessFacts.lockHolder(of: status) == nil)
            #expect(try scratch.lockExclusive())
            #expect(ProcessFacts.lockHolder(of: status) == ProcessFacts.processID)
            let second = try Directory.open(path: path)
            #expect(try !second.lockExclusive())
        }
    }

    @Test func endedProcessThatNobodyAskedForIsDead() throws {
        var pid: pid_t = 0
        let arguments: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
        defer { free(arguments[0]) }
        try #require(posix_spawnp(&pid, "true", nil, nil, arguments, environ) == 0)
        #expect(eventually { !ProcessFacts.processIsAlive(pid) })
        // It was a zombie all the time: only now it is gone for the kernel.
        var status: Int32 = 0
        #expect(waitpid(pid, &status, 0) == pid)
    }

    @Test func peakIsNoLessThanAnEarlierResident() {
        let resident = ProcessFacts.residentBytes()
        #expect(resident > 1 << 20)
        #expect(ProcessFacts.peakResidentBytes() >= resident)
    }

    @Test func openFilesLimitIsRaisedToTheHardOne() throws {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(7), &limit)
        #expect(try ProcessFacts.raiseOpenFilesLimit() == UInt64(limit.rlim_max))
        getrlimit(__rlimit_resource_t(7), &limit)
        #expect(limit.rlim_cur == limit.rlim_max)
    }

    @Test func clocksAdvance() {
        let start = Clock.monotonicNanoseconds()
        #expect(eventually { Clock.monotonicNanoseconds() > start })
        let years = Clock.realtimeNanoseconds() / 31_556_952_000_000_000
        #expect((55..<200).contains(years))
    }

    @Test func randomBytesAreNotAllTheSame() {
        #expect(randomBytes(0) == [])
        #expect(randomBytes(1000).count == 1000)
        #expect(Set(randomBytes(1000)).count > 200)
        #expect(randomBytes(16) != randomBytes(16))
    }
}
