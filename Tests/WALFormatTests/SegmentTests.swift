import Testing
import WALFormat
import WALTestKit

@Suite struct SegmentTests {
    private func context(_ random: inout SeededRandom) -> SegmentContext {
        SegmentContext(
            history: HistoryID(RandomEntries.digest(&random)), epoch: 7,
            previous: Position(epoch: 6, seq: 41, chain: RandomEntries.digest(&random)), captureTime: 12,
            treeDigest: RandomEntries.digest(&random), lastObject: 99, flags: .fuzzy)
    }

    @Test(arguments: [Compression.none, .zlib(level: 1), .zlib(level: 9)])
    func segmentComesBack(compression: Compression) throws {
        var random = SeededRandom()
        for count in [0, 1, 2, 10, 100] {
            let written = RandomEntries(count, &random)
            let context = context(&random)
            let segment = Segment(written.writer, context: context, compression: compression)
            let read = try Segment(verifying: segment.bytes)
            #expect(firstDifference(read.bytes, segment.bytes) == nil, "\(random.reproduce)")
            #expect(read.header == segment.header, "\(random.reproduce)")
            #expect(read.position == segment.position, "\(random.reproduce)")
            #expect(read.position == Position(epoch: 7, seq: 42, chain: segment.chain))
            #expect(read.header.previousChain == context.previous.chain)
            #expect(read.header.treeDigest == context.treeDigest)
            #expect(read.header.lastObject == 99 && read.header.captureTime == 12)
            let fetches = written.changes.contains { change in
                guard case .put(_, _, .file(let content)) = change else { return false }
                return content.extents.contains { if case .fetch = $0 { true } else { false } }
            }
            #expect(read.header.flags == (fetches ? [.fuzzy, .external] : .fuzzy), "\(random.reproduce)")
            #expect(read.header.segmentBytes == UInt64(segment.bytes.count))
            #expect(firstDifference(try read.rawBody(), written.writer.body.bytes) == nil, "\(random.reproduce)")
            #expect(firstDifference(try read.changes(), written.changes) == nil, "\(random.reproduce)")
        }
    }

    /// Around the borders of one block and of two, and the largest that there may be.
    @Test(arguments: [1 << 20 - 1, 1 << 20, 1 << 20 + 1, 2 << 20, 2 << 20 + 1, 48 << 20])
    func bodyIsCutIntoBlocks(length: Int) throws {
        var random = SeededRandom()
        let writer = filled(length)
        #expect(writer.rawBytes == length)
        for compression in [Compression.none, .standard] {
            let segment = Segment(writer, context: context(&random), compression: compression)
            #expect(segment.header.blockCount == UInt32((length + 1 << 20 - 1) >> 20))
            let read = try Segment(verifying: segment.bytes).rawBody()
            #expect(firstDifference(read, writer.body.bytes) == nil)
        }
    }

    /// A body of exactly `length` bytes, of one file's data.
    private func filled(_ length: Int) -> ChangeWriter {
        var writer = ChangeWriter()
        writer.beginFile(2, Metadata(mode: 0, uid: 0, gid: 0, mtime: .zero))
        // The end is 1 byte of tag, 4 of size and 16 of digest, once there are 2 MiB; drops fill what it leaves over.
        var size: UInt64 = 0
        let block = [UInt8](repeating: 0x5A, count: Limits.maxChunkBytes)
        while length - writer.rawBytes > Limits.maxChunkBytes + 200 {
            block.withUnsafeBytes { writer.data($0) }
            size += UInt64(block.count)
        }
        let rest = length - writer.rawBytes - 100
        block.withUnsafeBytes { writer.data(UnsafeRawBufferPointer(rebasing: $0[..<rest])) }
        writer.endFile(size: size + UInt64(rest), digest: Digest(of: [1]))
        if (length - writer.rawBytes) % 2 == 1 { writer.drop(200) }
        while writer.rawBytes < length { writer.drop(2) }
        return writer
    }

    @Test func everyBitIsCovered() throws {
        let bytes = GoodSegments.small.bytes
        for bit in 0..<bytes.count * 8 {
            var changed = bytes
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: FormatError.self, "bit \(bit)") { try Segment(verifying: changed) }
        }
    }

    @Test func anyOtherLengthIsRefused() {
        let bytes = GoodSegments.small.bytes
        for count in 0..<bytes.count {
            #expect {
                try Segment(verifying: Array(bytes[..<count]))
            } throws: { error in
                if case .truncated = error as? FormatError { true } else { false }
            }
        }
        #expect(throws: FormatError.trailing(what: "segment", bytes: 1)) { try Segment(verifying: bytes + [0]) }
        #expect(throws: FormatError.trailing(what: "segment", bytes: UInt64(bytes.count))) {
            try Segment(verifying: bytes + bytes)
        }
    }

    /// A change of anything in the past changes every chain after it.
    @Test func chainDependsOnThePast() {
        var random = SeededRandom()
        let writer = RandomEntries(3, &random).writer
        let context = context(&random)
        var other = context
        other.previous.chain.low ^= 1
        let one = Segment(writer, context: context, compression: .none)
        let two = Segment(writer, context: other, compression: .none)
        #expect(one.chain != two.chain, "\(random.reproduce)")
    }
}

@Suite struct WholePrefixTests {
    /// For every length at which a transfer can break: the header and each block that is there as a whole.
    @Test func keepsExactlyTheWholeBlocks() throws {
        let segment = try threeBlocks()
        let bytes = segment.bytes
        let draft = try SegmentDraft(segment)
        var ends = [SegmentHeader.byteCount]
        for block in draft.blocks { ends.append(ends[ends.count - 1] + BlockHeader.byteCount + block.stored.count) }
        #expect(ends.count == 4)
        bytes.withUnsafeBytes { all in
            for count in 0...all.count {
                let kept = Segment.wholePrefix(UnsafeRawBufferPointer(rebasing: all[..<count]))
                #expect(kept == ends.last { $0 <= count } ?? 0, "of \(count)")
            }
        }
    }

    @Test func damagedBlockAndAllBehindItAreLeftOut() throws {
        let segment = try threeBlocks()
        let draft = try SegmentDraft(segment)
        let second = SegmentHeader.byteCount + BlockHeader.byteCount + draft.blocks[0].stored.count
        for offset in [second, second + 5, second + 13, second + BlockHeader.byteCount] {
            var bytes = segment.bytes
            bytes[offset] ^= 0x80
            #expect(bytes.withUnsafeBytes { Segment.wholePrefix($0) } == second)
        }
        var bytes = segment.bytes
        bytes[20] ^= 1
        #expect(bytes.withUnsafeBytes { Segment.wholePrefix($0) } == 0)
    }

    /// What follows the blocks is never taken for one, even if it is one.
    @Test func nothingBehindTheBlocksIsKept() throws {
        let segment = try threeBlocks()
        let more = segment.bytes + segment.bytes
        let blocks = SegmentHeader.byteCount + Int(segment.header.storedBytes)
        #expect(more.withUnsafeBytes { Segment.wholePrefix($0) } == blocks)

        var draft = try SegmentDraft(segment)
        draft.set(segment.header.storedBytes - 1, at: 96)
        let last = BlockHeader.byteCount + draft.blocks[2].stored.count
        #expect(draft.sealed().withUnsafeBytes { Segment.wholePrefix($0) } == blocks - last)
    }

    private func threeBlocks() throws -> Segment {
        var writer = ChangeWriter()
        writer.beginFile(2, Metadata(mode: 0, uid: 0, gid: 0, mtime: .zero))
        var random = SeededRandom(seed: 3)
        for _ in 0..<9 {
            // Mostly zeros: each block has some hundred bytes, and few are alike.
            let data = random.bytes(20) + [UInt8](repeating: 0, count: Limits.maxChunkBytes - 20)
            data.withUnsafeBytes { writer.data($0) }
        }
        writer.endFile(size: UInt64(9 * Limits.maxChunkBytes), digest: .zero)
        let context = SegmentContext(
            history: HistoryID(Digest(of: [1])), epoch: 1, previous: .start, captureTime: 0, treeDigest: .zero,
            lastObject: 2, flags: [])
        return Segment(writer, context: context, compression: .standard)
    }
}
