import Testing
import WALFormat
import WALTestKit
import WALWire

@Suite struct WantQueueTests {
    private static func request(_ number: Int, bytes: Int = 1_000) -> BlockRequest {
        BlockRequest(
            object: ObjectID(number), offset: 0,
            block: ContentBlock(length: UInt32(bytes), digest: Digest(high: 0, low: UInt64(number))))
    }

    /// A peer that answers in order, and a receiver that wants any part of what it expected, and other things.
    @Test func answersMeetTheirQuestions() throws {
        var random = SeededRandom()
        random.announce()
        for _ in 0..<200 {
            var wants = WantQueue()
            var line: [BlockRequest] = []
            var number = 0
            func ask() { while let part = wants.next() { line += part } }
            func throwAway(_ count: Int) {
                for _ in 0..<count {
                    #expect(wants.takeAsked() == line.removeFirst())
                }
            }
            for _ in 0..<random.int(in: 1...5) {
                var expected: [BlockRequest] = []
                while wants.hasRoom, expected.count < random.int(in: 1...5_000) {
                    number += 1
                    let next = Self.request(number, bytes: random.int(in: 1...Limits.maxChunkBytes))
                    expected.append(next)
                    wants.expect([next])
                    ask()
                    #expect(line.count <= Limits.maxWantBlocks)
                }
                var wanted = expected.filter { _ in random.once(in: 2) }
                for _ in 0..<random.int(in: 0...3) {
                    number += 1
                    wanted.insert(Self.request(number), at: random.int(in: 0...wanted.count))
                }
                if random.once(in: 3), !wanted.isEmpty { wanted.swapAt(0, wanted.count - 1) }
                for index in wanted.indices {
                    throwAway(wants.skip(to: wanted[index], orAsk: wanted[index...]))
                    ask()
                    #expect(wants.takeAsked() == wanted[index], "\(random.reproduce)")
                    #expect(line.removeFirst() == wanted[index], "\(random.reproduce)")
                }
                throwAway(wants.forget())
                #expect(line.isEmpty && wants.takeAsked() == nil && wants.next() == nil)
            }
        }
    }

    @Test func theWindowIsAsManyBytesAsAllowed() {
        var wants = WantQueue()
        wants.expect((0..<4_000).map { Self.request($0, bytes: Limits.maxChunkBytes) })
        var asked = 0
        while let part = wants.next() { asked += part.count }
        #expect(asked * Limits.maxChunkBytes >= Limits.wantWindowBytes)
        #expect(asked * Limits.maxChunkBytes < Limits.wantWindowBytes + 64 * Limits.maxChunkBytes)
        for _ in 0..<64 { _ = wants.takeAsked() }
        #expect(wants.next()?.count == 64)
    }

    /// What comes block by block goes out at once while little is under way, and in full frames then.
    @Test func framesAreFull() {
        var wants = WantQueue()
        var frames: [Int] = []
        for number in 0..<1_000 {
            wants.expect([Self.request(number)])
            while let part = wants.next() { frames.append(part.count) }
        }
        #expect(frames.prefix(64).allSatisfy { $0 == 1 })
        #expect(frames.dropFirst(64).allSatisfy { $0 == 64 } && frames.count < 80)
    }
}
