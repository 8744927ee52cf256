import Testing
import WALFormat

/// What the rest of the suite takes for granted about the numbers.
@Suite struct LimitsTests {
    @Test func blocksOfContentAreOrdered() {
        #expect(Limits.minChunkBytes < Chunker.maxBytes)
        #expect(Chunker.maxBytes <= Limits.maxChunkBytes)
        // A small change lies across two blocks at most.
        #expect(2 * Chunker.maxBytes + 4096 < 256 << 10)
        // A hole's length stands in 32 bits, and data never looks longer than a hole may be.
        #expect(Limits.maxChunkBytes <= Limits.maxHoleBytes)
        #expect(UInt64(Limits.maxHoleBytes) <= UInt64(UInt32.max))
        #expect(Limits.maxExtents <= Limits.maxContentBlocks)
    }

    @Test func oneBlockOfContentFitsOneBlockOfASegment() {
        #expect(Limits.maxChunkBytes <= Limits.maxBlockBytes)
        #expect(UInt64(Limits.maxBlockBytes) <= UInt64(UInt32.max))
    }

    /// A segment is closed at its target, and the file that was being written then may still be as long as inline content
    /// gets.
    @Test func targetLeavesRoomForTheLastFile() {
        let overhead = Limits.defaultMaxInlineContentBytes / Limits.minChunkBytes * 64 + Limits.maxNameBytes
        let largest = Limits.targetSegmentRawBytes + Limits.defaultMaxInlineContentBytes + overhead
        #expect(UInt64(largest) <= Limits.maxSegmentRawBytes)
    }

    @Test func largestSegmentFitsOneLogFile() {
        let blocks = Limits.maxSegmentRawBytes / UInt64(Limits.maxBlockBytes)
        let largest =
            UInt64(SegmentHeader.byteCount + SegmentTrailer.byteCount) + Limits.maxSegmentRawBytes
            + blocks * UInt64(BlockHeader.byteCount)
        #expect(largest <= Limits.logFileBytes)
    }

    @Test func oneBlockFitsOneFrame() {
        let largest = Limits.maxBlockBytes + max(BlockHeader.byteCount, SegmentHeader.byteCount)
        #expect(largest < Limits.maxFrameBytes)
        #expect(Limits.maxFrameBytes <= Limits.sendWindowBytes)
        #expect(Limits.maxFrameBytes <= Limits.wantWindowBytes)
    }
}
