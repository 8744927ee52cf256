import Testing
import WALFormat
import WALTestKit

@Suite struct ChunkerTests {
    @Test func cutsAreInBoundsAndCoverEverything() {
        var random = SeededRandom()
        for length in [0, 1, Limits.minChunkBytes, Limits.minChunkBytes + 1, Chunker.maxBytes, 5_000_000] {
            let lengths = cuts(random.bytes(length))
            #expect(lengths.reduce(0, +) == length, "\(random.reproduce)")
            #expect(lengths.allSatisfy { $0 > 0 && $0 <= Chunker.maxBytes }, "\(random.reproduce)")
            // Only the end of the content makes a block smaller than the minimum.
            #expect(lengths.dropLast().allSatisfy { $0 > Limits.minChunkBytes }, "\(random.reproduce)")
        }
    }

    /// 32 MiB are about 530 blocks with a deviation of 31 KiB each: the mean lies within 6 KiB of 62.
    @Test func sizesHaveAMean() {
        var random = SeededRandom()
        let lengths = cuts(random.bytes(32 << 20))
        let mean = (32 << 20) / lengths.count
        #expect((56 << 10...68 << 10).contains(mean), "\(random.reproduce)")
        let longest = lengths.count { $0 == Chunker.maxBytes }
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

    /// How much is new until the cuts are the old ones again. The bound is wide for 2,000 changes; two masks miss it.
    @Test func smallChangesCostAFewBlocks() {
        var random = SeededRandom()
        var bytes = random.bytes(64 << 20)
        let old = cuts(bytes)
        var starts = [0]
        for length in old { starts.append(starts[starts.count - 1] + length) }
        let known = Set(starts)
        var most = 0
        var many = 0
        for _ in 0..<2_000 {
            let place = random.int(in: 0..<60 << 20)
            let kept = Array(bytes[place..<place + 4096])
            bytes.replaceSubrange(place..<place + 4096, with: random.bytes(4096))
            let start = starts[starts.lastIndex { $0 <= place }!]
            var end = start
            bytes.withUnsafeBytes { all in
                repeat {
                    end += Chunker.cut(UnsafeRawBufferPointer(rebasing: all[end...]))
                } while end < place + 4096 || !known.contains(end)
            }
            most = max(most, end - start)
            many += end - start > 250 << 10 ? 1 : 0
            bytes.replaceSubrange(place..<place + 4096, with: kept)
        }
        #expect(many <= 10 && most < 640 << 10, "\(many), at most \(most); \(random.reproduce)")
    }

    /// The end of content is not cut but at places that are cuts whatever follows, so that what is cut off a file leaves
    /// the blocks before it as they were.
    @Test func contentThatEndsSoonerHasTheSameCuts() {
        var random = SeededRandom()
        let bytes = random.bytes(2 << 20)
        let whole = cuts(bytes)
        for _ in 0..<200 {
            let part = cuts(Array(bytes[..<random.int(in: 1..<bytes.count)]))
            #expect(Array(part.dropLast()) == Array(whole.prefix(part.count - 1)), "\(random.reproduce)")
        }
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
                let window = all[offset..<min(offset + Chunker.maxBytes, all.count)]
                #expect(Chunker.cut(UnsafeRawBufferPointer(rebasing: window)) == length, "\(random.reproduce)")
                offset += length
            }
        }
    }

    /// The table comes from a fixed seed: every host and every run cuts the same content alike.
    @Test func cutsOfKnownContent() {
        var random = SeededRandom(seed: 1)
        let lengths = cuts(random.bytes(1 << 20))
        #expect(Array(lengths.prefix(6)) == [20897, 78340, 63556, 25500, 21801, 80172])
    }

    @Test(arguments: [UInt8(0), 1, 0x20, 0x7F, 0x80, 0xFF])
    func runOfOneByteIsCutAtTheMaximum(byte: UInt8) {
        let lengths = cuts([UInt8](repeating: byte, count: 3 * Chunker.maxBytes))
        #expect(lengths == [Int](repeating: Chunker.maxBytes, count: 3))
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
