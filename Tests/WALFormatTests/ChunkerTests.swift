import Testing
import WALFormat
import WALTestKit

@Suite struct ChunkerTests {
    @Test func cutsAreInBoundsAndCoverEverything() {
        var random = SeededRandom()
        for length in [0, 1, Limits.minChunkBytes, Limits.minChunkBytes + 1, Limits.maxChunkBytes, 5_000_000] {
            let lengths = cuts(random.bytes(length))
            #expect(lengths.reduce(0, +) == length, "\(random.reproduce)")
            #expect(lengths.allSatisfy { $0 > 0 && $0 <= Limits.maxChunkBytes }, "\(random.reproduce)")
            // Only the end of the content makes a block smaller than the minimum.
            #expect(lengths.dropLast().allSatisfy { $0 > Limits.minChunkBytes }, "\(random.reproduce)")
        }
    }

    /// 32 MiB are about 490 blocks with a deviation of 25 KiB each: the mean lies within 5 KiB of 67.
    @Test func sizesGatherAroundTheTarget() {
        var random = SeededRandom()
        let lengths = cuts(random.bytes(32 << 20))
        let mean = (32 << 20) / lengths.count
        #expect((60 << 10...74 << 10).contains(mean), "\(random.reproduce)")
        let longest = lengths.count { $0 == Limits.maxChunkBytes }
        #expect(longest < lengths.count / 50, "\(random.reproduce)")
    }

    @Test func insertionAtTheFrontChangesFewBlocks() {
        var random = SeededRandom()
        let old = random.bytes(16 << 20)
        for inserted in [1, 100, 40_000] {
            let known = Set(blocks(old))
            let changed = blocks(random.bytes(inserted) + old).filter { !known.contains($0) }
            #expect(changed.count <= 16, "\(random.reproduce)")
            #expect(known.count > 150)
        }
    }

    @Test func changeInTheMiddleChangesFewBlocks() {
        var random = SeededRandom()
        var bytes = random.bytes(16 << 20)
        let known = Set(blocks(bytes))
        bytes.replaceSubrange(8_000_000..<8_000_100, with: random.bytes(3))
        let changed = blocks(bytes).filter { !known.contains($0) }
        #expect(changed.count <= 16, "\(random.reproduce)")
    }

    /// The cut is the content's, whatever follows it in the buffer and however often it is asked for.
    @Test func cutDependsOnTheBlockAlone() {
        var random = SeededRandom()
        let bytes = random.bytes(4 << 20)
        let whole = cuts(bytes)
        #expect(firstDifference(cuts(bytes), whole) == nil, "\(random.reproduce)")
        bytes.withUnsafeBytes { all in
            var offset = 0
            for length in whole {
                let window = all[offset..<min(offset + Limits.maxChunkBytes, all.count)]
                #expect(Chunker.cut(UnsafeRawBufferPointer(rebasing: window)) == length, "\(random.reproduce)")
                offset += length
            }
        }
    }

    /// The table comes from a fixed seed: every host and every run cuts the same content alike.
    @Test func cutsOfKnownContent() {
        var random = SeededRandom(seed: 1)
        let lengths = cuts(random.bytes(1 << 20))
        #expect(Array(lengths.prefix(6)) == [20897, 78340, 84248, 19330, 71686, 62814])
    }

    @Test(arguments: [UInt8(0), 1, 0x20, 0x7F, 0x80, 0xFF])
    func runOfOneByteIsCutAtTheMaximum(byte: UInt8) {
        let lengths = cuts([UInt8](repeating: byte, count: 3 * Limits.maxChunkBytes))
        #expect(lengths == [Int](repeating: Limits.maxChunkBytes, count: 3))
    }

    private func cuts(_ bytes: [UInt8]) -> [Int] {
        bytes.withUnsafeBytes { all in
            var lengths: [Int] = []
            var offset = 0
            while offset < all.count {
                lengths.append(Chunker.cut(UnsafeRawBufferPointer(rebasing: all[offset...])))
                offset += lengths[lengths.count - 1]
            }
            return lengths
        }
    }

    private func blocks(_ bytes: [UInt8]) -> [Digest] {
        var offset = 0
        return cuts(bytes).map { length in
            defer { offset += length }
            return Digest(of: Array(bytes[offset..<offset + length]))
        }
    }
}
