import WALFormat

/// A segment whose fields can be set to what no writer would write. ``sealed()`` then makes every checksum, digest and
/// chain right for the bytes as they stand, except where a `flip` says otherwise, so that a reader meets one defect alone.
struct SegmentDraft {
    struct Block {
        /// Codec, three reserved bytes, stored and raw length.
        var start: [UInt8]
        var stored: [UInt8]
        var checksumFlip: UInt32 = 0

        init(codec: UInt8, rawBytes: Int, stored: [UInt8]) {
            var writer = ByteWriter()
            writer.raw([codec, 0, 0, 0])
            writer.integer(UInt32(stored.count))
            writer.integer(UInt32(rawBytes))
            start = writer.bytes
            self.stored = stored
        }

        var rawBytes: UInt32 {
            UInt32(littleEndian: start.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 8, as: UInt32.self) })
        }
    }

    /// All 128 bytes; the last four are written by ``sealed()``.
    var header: [UInt8]
    var blocks: [Block]
    /// Bytes between the last block and the trailer.
    var stray: [UInt8] = []
    var headerChecksumFlip: UInt32 = 0
    var trailerMagic = SegmentTrailer.magic
    var bodyDigestFlip: UInt64 = 0
    var chainFlip: UInt64 = 0

    /// One block with `raw` as it is; no block where `raw` is empty.
    init(raw: [UInt8], entryCount: UInt32, like sample: Segment = GoodSegments.emptyTree) {
        header = Array(sample.bytes[..<SegmentHeader.byteCount])
        blocks = raw.isEmpty ? [] : [Block(codec: Codec.none.rawValue, rawBytes: raw.count, stored: raw)]
        set(entryCount, at: 104)
        fit()
    }

    /// The parts of a good segment.
    init(_ segment: Segment) throws {
        header = Array(segment.bytes[..<SegmentHeader.byteCount])
        blocks = []
        let all = segment.bytes
        var offset = SegmentHeader.byteCount
        for _ in 0..<segment.header.blockCount {
            let block = try all.withBytes { bytes throws(FormatError) in
                var reader = ByteReader(bytes, what: "draft", offset: offset)
                return try BlockHeader(decoding: &reader)
            }
            let start = offset + BlockHeader.byteCount
            offset = start + Int(block.storedBytes)
            blocks.append(
                Block(codec: block.codec.rawValue, rawBytes: Int(block.rawBytes), stored: Array(all[start..<offset])))
        }
    }

    /// Overwrites a field of the header, little-endian.
    mutating func set<T: FixedWidthInteger>(_ value: T, at offset: Int) {
        withUnsafeBytes(of: value.littleEndian) { header.replaceSubrange(offset..<offset + $0.count, with: $0) }
    }

    /// The header's sizes and number of blocks become those of the blocks and the stray bytes.
    mutating func fit() {
        set(blocks.reduce(0) { $0 + UInt64($1.rawBytes) }, at: 88)
        set(blocks.reduce(UInt64(stray.count)) { $0 + UInt64(BlockHeader.byteCount + $1.stored.count) }, at: 96)
        set(UInt32(blocks.count), at: 108)
    }

    func sealed() -> [UInt8] {
        var header = ByteWriter()
        header.raw(self.header[..<(SegmentHeader.byteCount - 4)])
        header.integer(header.bytes.withUnsafeBytes { crc32($0) } ^ headerChecksumFlip)

        var body = ByteWriter()
        for block in blocks {
            let sum = block.start.withUnsafeBytes { start in
                block.stored.withUnsafeBytes { stored in crc32(start, stored) }
            }
            body.raw(block.start)
            body.integer(sum ^ block.checksumFlip)
            body.raw(block.stored)
        }

        body.raw(stray)
        var digest = Digest(of: body.bytes)
        digest.low ^= bodyDigestFlip
        var chain = SegmentTrailer(header: header.bytes, bodyDigest: digest).chain
        chain.low ^= chainFlip

        var all = ByteWriter()
        all.raw(header.bytes)
        all.raw(body.bytes)
        all.raw(trailerMagic)
        all.digest(digest)
        all.digest(chain)
        return all.bytes
    }
}
