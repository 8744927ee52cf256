import Testing
import WALFormat
import WALTestKit

@Suite struct BlockOffsetsTests {
    @Test func blocksAreFoundWhereTheyBegin() {
        var random = SeededRandom()
        var table = BlockTable()
        var starts: [UInt64: Int] = [:]
        for number in 0..<300 {
            starts[table.size] = number
            let length = random.once(in: 10) ? 1 : random.int(in: 1...Limits.maxChunkBytes)
            table.append(ContentBlock(length: UInt32(length), digest: Digest(high: 1, low: random.next())))
        }
        starts[table.size] = 300
        let offsets = BlockOffsets(table)
        for (start, number) in starts {
            #expect(offsets[number] == start && offsets.block(at: start) == number, "\(random.reproduce)")
            for near in [start &- 1, start + 1] where starts[near] == nil { #expect(offsets.block(at: near) == nil) }
        }
    }

    @Test func emptyContentBeginsWhereItEnds() {
        let offsets = BlockOffsets(BlockTable())
        #expect(offsets.block(at: 0) == 0)
        #expect(offsets.block(at: 1) == nil)
    }

    /// What a copy takes: whole blocks, and nothing at all of a range that cuts one.
    @Test func onlyWholeBlocksAreTaken() {
        var source = BlockTable()
        for (number, length) in [10, 20, 30].enumerated() {
            source.append(ContentBlock(length: UInt32(length), digest: Digest(high: 1, low: UInt64(number) + 1)))
        }
        let offsets = BlockOffsets(source)
        func taken(_ offset: UInt64, _ length: UInt64) -> [UInt32]? {
            var target = BlockTable()
            guard target.append(from: source, offsets, offset: offset, length: length) else {
                return target.count == 0 ? nil : []
            }
            return (0..<target.count).map { target[$0].length }
        }
        #expect(taken(0, 60) == [10, 20, 30])
        #expect(taken(10, 20) == [20])
        #expect(taken(30, 30) == [30])
        #expect(taken(0, 9) == nil && taken(1, 29) == nil && taken(10, 21) == nil)
        #expect(taken(30, 31) == nil && taken(60, 1) == nil && taken(1 << 40, 1) == nil)
        #expect(taken(10, .max) == nil)
    }
}
