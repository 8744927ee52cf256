import Testing
import WALFormat
import WALTestKit

@Suite struct SegmentHeaderTests {
    private let sample = SegmentHeader(
        flags: .fuzzy, history: HistoryID(Digest(high: 0x1011_1213_1415_1617, low: 0x1819_1A1B_1C1D_1E1F)),
        epoch: 0x2021_2223_2425_2627, seq: 0x2829_2A2B_2C2D_2E2F,
        previousChain: Digest(high: 0x3031_3233_3435_3637, low: 0x3839_3A3B_3C3D_3E3F), captureTime: -2,
        treeDigest: Digest(high: 0x4849_4A4B_4C4D_4E4F, low: 0x5051_5253_5455_5657), rawBytes: 0x10_0001,
        storedBytes: 0x10_0021, entryCount: 0x0001_0203, blockCount: 2, lastObject: 0x0011_1213_1415_1617)

    private func decoded(_ bytes: [UInt8]) throws(FormatError) -> SegmentHeader {
        try bytes.withBytes { all throws(FormatError) in try SegmentHeader(decoding: all) }
    }

    /// Offsets and byte orders of walship-segment(5), "Header".
    @Test func fieldsStandWhereTheFormatSays() {
        let bytes = sample.encoded()
        #expect(bytes.count == SegmentHeader.byteCount)
        #expect(bytes[0..<8] == [0x57, 0x41, 0x4C, 0x53, 0x45, 0x47, 0x0D, 0x0A])
        #expect(bytes[8..<16] == [1, 0, 128, 0, 2, 0, 0, 0])
        #expect(bytes[16..<32] == Array(0x10...0x1F)[...])
        #expect(bytes[32..<40] == [0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0x20])
        #expect(bytes[40..<48] == [0x2F, 0x2E, 0x2D, 0x2C, 0x2B, 0x2A, 0x29, 0x28])
        #expect(bytes[48..<64] == Array(0x30...0x3F)[...])
        #expect(bytes[64..<72] == [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])
        #expect(bytes[72..<88] == Array(0x48...0x57)[...])
        #expect(bytes[88..<96] == [1, 0, 0x10, 0, 0, 0, 0, 0])
        #expect(bytes[96..<104] == [0x21, 0, 0x10, 0, 0, 0, 0, 0])
        #expect(bytes[104..<112] == [3, 2, 1, 0, 2, 0, 0, 0])
        #expect(bytes[112..<120] == [0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0])
        #expect(bytes[120..<124] == [0, 0, 0, 0])
        let sum = Array(bytes[..<124]).withUnsafeBytes { crc32($0) }
        #expect(bytes[124..<128] == withUnsafeBytes(of: sum.littleEndian) { Array($0) }[...])
    }

    @Test func headerComesBack() throws {
        #expect(try decoded(sample.encoded()) == sample)
        var random = SeededRandom()
        for _ in 0..<2000 {
            let rawBytes = UInt64(random.int(in: 0...Int(Limits.maxSegmentRawBytes)))
            let blocks = (rawBytes + UInt64(Limits.maxBlockBytes) - 1) / UInt64(Limits.maxBlockBytes)
            let bound = rawBytes + blocks * UInt64(BlockHeader.byteCount)
            let header = SegmentHeader(
                flags: random.once(in: 2) ? .fuzzy : [], history: HistoryID(RandomEntries.digest(&random)),
                epoch: max(random.anyUInt64() >> 2, 1), seq: max(random.anyUInt64() >> 2, 1),
                previousChain: RandomEntries.digest(&random), captureTime: Int64(bitPattern: random.next()),
                treeDigest: RandomEntries.digest(&random), rawBytes: rawBytes,
                storedBytes: UInt64(random.int(in: 0...Int(bound))),
                entryCount: UInt32(random.int(in: 0...Int(Limits.maxSegmentEntries))), blockCount: UInt32(blocks),
                lastObject: RandomEntries.object(&random))
            #expect(try decoded(header.encoded()) == header, "\(random.reproduce)")
        }
    }

    @Test func shorterHeaderIsTruncated() {
        let bytes = sample.encoded()
        for count in 0..<bytes.count {
            #expect {
                try decoded(Array(bytes[..<count]))
            } throws: { error in
                if case .truncated(what: "segment header", _, _) = error as? FormatError { true } else { false }
            }
        }
        #expect(throws: Never.self) { try decoded(bytes + [1, 2, 3]) }
    }

    @Test func everyBitIsCovered() {
        let bytes = sample.encoded()
        for bit in 0..<bytes.count * 8 {
            var changed = bytes
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: FormatError.self, "bit \(bit)") { try decoded(changed) }
        }
    }

    struct Refused: Sendable, CustomStringConvertible {
        var description: String
        var error: FormatError
        var change: @Sendable (inout SegmentHeader) -> Void
    }

    /// One case a field: the last value that is taken, by `headerComesBack`; the first that is not, here.
    @Test(arguments: [
        Refused(description: "flags", error: .value(what: "segment header: flags", 16)) {
            $0.flags = .init(rawValue: 16)
        },
        Refused(description: "seq zero", error: .value(what: "segment header: seq", 0)) { $0.seq = 0 },
        Refused(description: "seq", error: .value(what: "segment header: seq", UInt64(Int64.max))) {
            $0.seq = UInt64(Int64.max)
        },
        Refused(description: "epoch zero", error: .value(what: "segment header: epoch", 0)) { $0.epoch = 0 },
        Refused(description: "epoch", error: .value(what: "segment header: epoch", UInt64(Int64.max))) {
            $0.epoch = UInt64(Int64.max)
        },
        Refused(description: "raw bytes", error: .limit("raw bytes of a segment", value: .max, limit: 48 << 20)) {
            $0.rawBytes = .max
        },
        Refused(
            description: "stored bytes", error: .limit("stored bytes of a segment", value: .max, limit: 0x10_0021)
        ) { $0.storedBytes = .max },
        Refused(
            description: "entry count", error: .limit("entries of a segment", value: 4_294_967_295, limit: 4_000_000)
        ) { $0.entryCount = .max },
        Refused(description: "fewer blocks", error: .value(what: "segment header: number of blocks", 1)) {
            $0.blockCount = 1
        },
        Refused(description: "more blocks", error: .value(what: "segment header: number of blocks", 4_294_967_295)) {
            $0.blockCount = .max
        },
        Refused(description: "last object", error: .value(what: "segment header: last object", .max)) {
            $0.lastObject = .max
        },
        Refused(
            description: "entries of a baseline", error: .value(what: "segment header: entries of a baseline", 66051)
        ) { $0.flags = .baseline },
        Refused(description: "body of a baseline", error: .value(what: "segment header: entries of a baseline", 0)) {
            $0.flags = .baseline
            $0.entryCount = 0
        },
    ])
    func fieldIsChecked(refused: Refused) {
        var header = sample
        refused.change(&header)
        let encoded = header.encoded()
        #expect(throws: refused.error) { try decoded(encoded) }
    }

    /// A later format is named as such, whatever else it has changed.
    @Test func versionComesBeforeEverythingButTheMagic() {
        let later = SegmentHeader.magic + [9, 0]
        #expect(throws: FormatError.version(what: "segment", found: 9, supported: 1)) { try decoded(later) }
        #expect(throws: FormatError.magic(what: "segment header")) {
            try decoded([UInt8](repeating: 0, count: 200))
        }
    }

    @Test func segmentBytesAreHeaderBlocksAndTrailer() {
        #expect(sample.segmentBytes == 128 + 0x10_0021 + 40)
    }
}

@Suite struct BlockHeaderTests {
    private func decoded(_ bytes: [UInt8]) throws(FormatError) -> BlockHeader {
        try bytes.withBytes { all throws(FormatError) in
            var reader = ByteReader(all, what: "block")
            return try BlockHeader(decoding: &reader)
        }
    }

    @Test func fieldsStandWhereTheFormatSays() throws {
        let stored: [UInt8] = [1, 2, 3]
        let bytes = stored.withUnsafeBytes { BlockHeader.encoded(codec: .zlib, rawBytes: 0x0001_0203, stored: $0) }
        #expect(bytes[..<12] == [1, 0, 0, 0, 3, 0, 0, 0, 3, 2, 1, 0])
        let sum = (Array(bytes[..<12]) + stored).withUnsafeBytes { crc32($0) }
        let block = try decoded(bytes)
        #expect(block.checksum == sum)
        #expect(block.codec == .zlib && block.storedBytes == 3 && block.rawBytes == 0x0001_0203)
    }

    @Test(
        arguments: [
            ([0, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0], .value(what: "stored bytes of a block", 5)),
            ([0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0], .value(what: "stored bytes of a block", 3)),
            ([1, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0], .value(what: "stored bytes of a block", 4)),
            ([1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 4, 0, 0, 0], .value(what: "stored bytes of a block", 0xFFFF_FFFF)),
            ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], .limit("raw bytes of a block", value: 0, limit: 1 << 20)),
            (
                [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x10, 1],
                .limit("raw bytes of a block", value: 0x0110_0000, limit: 1 << 20)
            ),
            ([2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0], .value(what: "codec of a block", 2)),
            ([0, 1, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0], .value(what: "reserved bytes of a block", 1)),
            ([0, 0, 1, 0, 4, 0, 0, 0, 4, 0, 0, 0], .value(what: "reserved bytes of a block", 1)),
            ([0, 0, 0, 1, 4, 0, 0, 0, 4, 0, 0, 0], .value(what: "reserved bytes of a block", 1)),
        ] as [([UInt8], FormatError)])
    func fieldIsChecked(start: [UInt8], error: FormatError) {
        #expect(throws: error) { try decoded(start + [0, 0, 0, 0]) }
    }

    @Test func shorterHeaderIsTruncated() {
        #expect(throws: FormatError.truncated(what: "block", needed: 16, available: 15)) {
            try decoded([UInt8](repeating: 0, count: 15))
        }
    }
}

@Suite struct SegmentTrailerTests {
    @Test func chainCoversHeaderAndBody() throws {
        let header = GoodSegments.emptyTree.header.encoded()
        let body = Digest(of: [1, 2, 3])
        let trailer = SegmentTrailer(header: header, bodyDigest: body)
        #expect(trailer.chain == Digest(of: header + body.bytes))
        let bytes = trailer.encoded()
        #expect(bytes == [0x57, 0x41, 0x4C, 0x45, 0x4E, 0x44, 0x0D, 0x0A] + body.bytes + trailer.chain.bytes)
        #expect(bytes.count == SegmentTrailer.byteCount)
        let read = try bytes.withBytes { all throws(FormatError) in
            var reader = ByteReader(all, what: "trailer")
            return try SegmentTrailer(decoding: &reader)
        }
        #expect(read == trailer)
    }

    @Test func shorterTrailerIsTruncated() {
        let bytes = SegmentTrailer(header: [], bodyDigest: .zero).encoded()
        for count in 0..<bytes.count {
            #expect(throws: FormatError.self) {
                try Array(bytes[..<count]).withBytes { all throws(FormatError) in
                    var reader = ByteReader(all, what: "trailer")
                    _ = try SegmentTrailer(decoding: &reader)
                }
            }
        }
    }
}
