import Testing
import WALSystem
import WALTestKit

@Suite(.hangLimit) struct BoundedQueueTests {
    @Test func orderIsKept() throws {
        let queue = BoundedQueue<Int>(maxCount: 7)
        let giver = try WorkerThread.start(name: "giver") {
            for number in 0..<20_000 { queue.put(number) }
            queue.close()
        }
        var taken: [Int] = []
        while let number = queue.take() { taken.append(number) }
        giver.join()
        #expect(taken == Array(0..<20_000))
        #expect(queue.isFinished)
    }

    @Test func everyElementIsTakenByExactlyOne() throws {
        let queue = BoundedQueue<Int>(maxCount: 16)
        let sums = Monitor<[Int]>([])
        let takers = try (0..<3).map { _ in
            try WorkerThread.start(name: "taker") {
                while let number = queue.take() { sums.update { $0.append(number) } }
            }
        }
        let givers = try (0..<3).map { part in
            try WorkerThread.start(name: "giver") {
                for number in 0..<3000 { queue.put(part * 3000 + number) }
            }
        }
        for giver in givers { giver.join() }
        queue.close()
        for taker in takers { taker.join() }
        #expect(sums.withLock { $0.sorted() } == Array(0..<9000))
    }

    /// What the putter of a full queue does while nobody takes: wait, and not be let in.
    private func expectSecondPutWaits(_ queue: BoundedQueue<String>, costs: (Int, Int)) throws {
        #expect(queue.put("first", cost: costs.0))
        let state = Monitor("before")
        let putter = try WorkerThread.start(name: "putter") {
            state.update { $0 = "putting" }
            let added = queue.put("second", cost: costs.1)
            state.update { $0 = added ? "added" : "refused" }
        }
        let early: String? = state.wait(timeoutNanoseconds: 50_000_000) { $0 == "added" ? $0 : nil }
        #expect(early == nil)
        #expect(queue.count == 1)
        #expect(queue.take() == "first")
        putter.join()
        #expect(state.withLock { $0 } == "added")
        #expect(queue.take() == "second")
        #expect(queue.cost == 0)
    }

    @Test func fullByCountWaits() throws {
        try expectSecondPutWaits(BoundedQueue(maxCount: 1), costs: (0, 0))
    }

    @Test func fullByCostWaits() throws {
        try expectSecondPutWaits(BoundedQueue(maxCount: 10, maxCost: 100), costs: (60, 41))
    }

    @Test func costUpToTheLimitFits() {
        let queue = BoundedQueue<Int>(maxCount: 10, maxCost: 100)
        queue.put(1, cost: 60)
        queue.put(2, cost: 40)
        #expect(queue.count == 2)
        #expect(queue.cost == 100)
    }

    @Test func costlierThanTheLimitIsLetInAlone() throws {
        let queue = BoundedQueue<String>(maxCount: 10, maxCost: 100)
        let putter = try WorkerThread.start(name: "putter") { queue.put("large", cost: 101) }
        try #require(putter.join(timeoutNanoseconds: 10_000_000_000))
        #expect(queue.takeIfAny() == "large")
        try expectSecondPutWaits(queue, costs: (5000, 1))
        try expectSecondPutWaits(queue, costs: (1, .max))
    }

    @Test func closeWakesTakersAndGiversAndKeepsContent() throws {
        let queue = BoundedQueue<Int>(maxCount: 1)
        queue.put(1)
        let refused = Monitor<Bool?>(nil)
        let giver = try WorkerThread.start(name: "giver") {
            let added = queue.put(2)
            refused.update { $0 = !added }
        }
        queue.close()
        giver.join()
        #expect(refused.withLock { $0 } == true)
        #expect(!queue.isFinished)
        #expect(queue.take() == 1)
        #expect(queue.take() == nil)
        #expect(queue.isFinished)
        #expect(queue.put(3) == false)

        let empty = BoundedQueue<Int>(maxCount: 1)
        let taker = try WorkerThread.start(name: "taker") { #expect(empty.take() == nil) }
        empty.close()
        taker.join()
    }

    @Test func cancelDropsContent() {
        let queue = BoundedQueue<Int>(maxCount: 5)
        queue.put(1, cost: 3)
        queue.cancel()
        #expect(queue.take() == nil)
        #expect(queue.isFinished)
        #expect(queue.cost == 0)
    }

    @Test func takeEndsAtItsDeadline() {
        let queue = BoundedQueue<Int>(maxCount: 5)
        #expect(queue.take(timeoutNanoseconds: 10_000_000) == nil)
        #expect(!queue.isFinished)
        #expect(queue.takeIfAny() == nil)
        queue.put(4)
        #expect(queue.takeIfAny() == 4)
    }
}
