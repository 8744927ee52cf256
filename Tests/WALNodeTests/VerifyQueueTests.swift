import Testing
import WALNode
import WALSystem

@Suite struct VerifyQueueTests {
    private struct Running: Equatable {
        var now = 0
        var most = 0
    }

    @Test func oneRunsAtATimeAndBlocksNoTask() async throws {
        let queue = VerifyQueue()
        let gate = Monitor(false)
        let running = Monitor(Running())
        // More than there are threads for tasks: if these blocked them, nobody would open the gate.
        try await withThrowingTaskGroup(of: Int.self) { group in
            for index in 0..<64 {
                group.addTask {
                    try await queue.run {
                        running.withLock {
                            $0.now += 1
                            $0.most = max($0.most, $0.now)
                        }
                        _ = gate.wait { $0 ? true : nil }
                        running.withLock { $0.now -= 1 }
                        return index
                    }
                }
            }
            await Task { gate.update { $0 = true } }.value
            var done: Set<Int> = []
            for try await index in group { done.insert(index) }
            #expect(done == Set(0..<64))
        }
        #expect(running.withLock { $0 } == Running(now: 0, most: 1))
    }

    @Test func aFailureIsItsOwnersOnly() async throws {
        struct Bad: Error {}
        let queue = VerifyQueue()
        await #expect(throws: Bad.self) { try await queue.run { throw Bad() } }
        #expect(try await queue.run { 1 } == 1)
    }

    @Test func nothingWaitsAfterTheEnd() async throws {
        let queue = VerifyQueue()
        let started = Monitor(false)
        let gate = Monitor(false)
        let first = Task {
            try await queue.run {
                started.update { $0 = true }
                return gate.wait { $0 ? 1 : nil }
            }
        }
        while !started.withLock({ $0 }) { await Task.yield() }
        let second = Task { try await queue.run { 2 } }
        queue.close()
        await #expect(throws: NodeError.self) { try await second.value }
        await #expect(throws: NodeError.self) { try await queue.run { 3 } }
        gate.update { $0 = true }
        #expect(try await first.value == 1)
    }
}
