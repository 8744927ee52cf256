import Testing
import WALFormat

import WALSystem

@Suite struct FileSpaceTests {
    private let block: UInt64 = 1 << 20

    @Test func holesAreFound() throws {
        try withScratch { directory, path in
            let file = try directory.createFile("file")
            try file.write([UInt8](repeating: 1, count: Int(block)), at: 4 * block)
            try file.truncate(to: 8 * block)
            let data = try file.seekData(from: 0)
            #expect(data == 4 * block)
            let hole = try file.seekHole(from: 4 * block)
            #expect(hole == 5 * block)
            let holeHere = try file.seekHole(from: 0)
            #expect(holeHere == 0)
            let noMoreData = try file.seekData(from: 5 * block)
            #expect(noMoreData == nil)
            let beyond = try file.seekHole(from: 9 * block)
            #expect(beyond == nil)
        }
    }

    @Test func punchedHoleReadsAsZerosAndFreesSpace() throws {
        try withScratch { directory, path in
            let file = try directory.createFile("file")
            try file.write([UInt8](repeating: 7, count: Int(4 * block)), at: 0)
            try file.sync()
            let before = try file.status().allocatedBlocks
            try file.punchHole(offset: block, length: block)
            let after = try file.status()
            #expect(after.size == 4 * block)
            #expect(before - after.allocatedBlocks == block / 512)
            let edge = try file.read(count: 4, at: block - 2)
            #expect(edge == [7, 7, 0, 0])
        }
    }

    @Test func allocateKeepsTheSize() throws {
        try withScratch { directory, path in
            let file = try directory.createFile("file")
            try file.allocate(offset: 0, length: 2 * block)
            let status = try file.status()
            #expect(status.size == 0)
            #expect(status.allocatedBlocks >= 2 * block / 512)
        }
    }

    private func pattern(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    }

    @Test(arguments: [false, true]) func rangeIsCopied(byReading: Bool) throws {
        try withScratch { directory, path in
            let bytes = pattern(700_001)
            let source = try directory.createFile("source")
            try source.write(bytes, at: 0)
            let target = try directory.createFile("target")
            try target.write([9, 9, 9], at: 0)
            let length: UInt64 = 600_000
            let copied =
                byReading
                ? try target.copyByReading(from: source, sourceOffset: 50_001, to: 3, length: length)
                : try target.copyRange(from: source, sourceOffset: 50_001, to: 3, length: length)
            #expect(copied == length)
            let result = try target.read(count: 1 << 20, at: 0)
            #expect(result == [9, 9, 9] + bytes[50_001..<650_001])

            let short =
                byReading
                ? try target.copyByReading(from: source, sourceOffset: 700_000, to: 0, length: 10)
                : try target.copyRange(from: source, sourceOffset: 700_000, to: 0, length: 10)
            #expect(short == 1)
            let beyond = try target.copyRange(from: source, sourceOffset: 800_000, to: 0, length: 10)
            #expect(beyond == 0)
        }
    }

    /// As memmove, in both directions, with parts larger than the copy's buffer.
    @Test(arguments: [(0, 1000), (1000, 0), (0, 300_000), (300_000, 0), (5, 5)])
    func overlappingRangesOfOneFileAreCopied(from: Int, to: Int) throws {
        try withScratch { directory, path in
            let length = 700_000
            let bytes = pattern(1_000_000)
            let file = try directory.createFile("file")
            try file.write(bytes, at: 0)
            let copied = try file.copyRange(
                from: file, sourceOffset: UInt64(from), to: UInt64(to), length: UInt64(length))
            #expect(copied == UInt64(length))
            var expected = bytes
            expected.replaceSubrange(to..<to + length, with: bytes[from..<from + length])
            let result = try file.read(count: 2_000_000, at: 0)
            #expect(result == expected)
        }
    }

    @Test func cloneEitherSharesAllOrChangesNothing() throws {
        try withScratch { directory, path in
            let source = try directory.createFile("source")
            try source.write(pattern(100_000), at: 0)
            let target = try directory.createFile("target")
            try target.write([1], at: 0)
            let cloned = try target.cloneAll(from: source)
            let result = try target.read(count: 200_000, at: 0)
            #expect(result == (cloned ? pattern(100_000) : [1]))
            source.adviseSequential()
            source.adviseNotNeeded()
        }
    }
}
