import CZlib
import WALFormat

/// The segments of `fixtures/segments/` that have one defect each and are otherwise right.
enum BadSegments {
    struct Sample: Sendable, CustomStringConvertible {
        let name: String
        let bytes: [UInt8]
        let error: FormatError
        /// Whether it takes more than CRC-32 to see the defect.
        let needsDigest: Bool

        init(_ name: String, _ bytes: [UInt8], _ error: FormatError, needsDigest: Bool = false) {
            self.name = name
            self.bytes = bytes
            self.error = error
            self.needsDigest = needsDigest
        }

        var description: String { name }
    }

    static let all = headers + blocks + trailers + entries

    // MARK: Header

    private static let headers: [Sample] = [
        header("bad-magic", .magic(what: "segment header")) { $0.header[6] = 0x0A },
        header("version-newer", .version(what: "segment", found: 2, supported: 1)) { $0.set(UInt16(2), at: 8) },
        header("version-zero", .value(what: "segment header: version", 0)) { $0.set(UInt16(0), at: 8) },
        header("header-checksum", .checksum(what: "segment header")) { $0.headerChecksumFlip = 1 },
        header("header-length", .value(what: "segment header: its length", 136)) { $0.set(UInt16(136), at: 10) },
        header("header-reserved", .value(what: "segment header: reserved bytes", 1)) { $0.set(UInt32(1), at: 120) },
        header("flags-unknown", .value(what: "segment header: flags", 0x8000_0002)) {
            $0.set(UInt32(0x8000_0002), at: 12)
        },
        header("epoch-zero", .value(what: "segment header: epoch", 0)) { $0.set(UInt64(0), at: 32) },
        header("epoch-signed", .value(what: "segment header: epoch", 1 << 63)) { $0.set(UInt64(1) << 63, at: 32) },
        header("seq-zero", .value(what: "segment header: seq", 0)) { $0.set(UInt64(0), at: 40) },
        header("seq-signed", .value(what: "segment header: seq", .max)) { $0.set(UInt64.max, at: 40) },
        header("raw-bytes-beyond-limit", .limit("raw bytes of a segment", value: 48 << 20 + 1, limit: 48 << 20)) {
            $0.set(UInt64(48 << 20 + 1), at: 88)
        },
        header("stored-bytes-beyond-bound", .limit("stored bytes of a segment", value: 32, limit: 31)) {
            $0.set(UInt64(32), at: 96)
        },
        header("entries-beyond-limit", .limit("entries of a segment", value: 4_000_001, limit: 4_000_000)) {
            $0.set(UInt32(4_000_001), at: 104)
        },
        header("block-count", .value(what: "segment header: number of blocks", 2)) { $0.set(UInt32(2), at: 108) },
        header("last-object-local", .value(what: "segment header: last object", 1 << 62)) {
            $0.set(UInt64(1) << 62, at: 112)
        },
        header("baseline-with-entries", .value(what: "segment header: entries of a baseline", 1)) {
            $0.set(SegmentHeader.Flags.baseline.rawValue, at: 12)
        },
        Sample("torn-magic", cut(5), .truncated(what: "segment header", needed: 8, available: 5)),
        Sample("torn-header", cut(127), .truncated(what: "segment header", needed: 128, available: 127)),
    ]

    /// The root's 15 bytes in one block: 31 stored.
    private static func header(
        _ name: String, _ error: FormatError, _ change: (inout SegmentDraft) -> Void
    ) -> Sample {
        var draft = SegmentDraft(raw: root, entryCount: 1)
        change(&draft)
        return Sample(name, draft.sealed(), error)
    }

    private static func cut(_ count: Int) -> [UInt8] { Array(GoodSegments.small.bytes[..<count]) }

    // MARK: Blocks

    private static let blocks: [Sample] = [
        Sample(
            "torn-block", cut(200),
            .truncated(what: "segment", needed: UInt64(GoodSegments.small.bytes.count), available: 200)),
        Sample("trailing-bytes", GoodSegments.small.bytes + [0, 0], .trailing(what: "segment", bytes: 2)),
        block("block-checksum", .checksum(what: "block of a segment")) { $0.blocks[0].checksumFlip = 1 },
        block("block-codec-unknown", .value(what: "codec of a block", 2)) { $0.blocks[0].start[0] = 2 },
        block("block-reserved", .value(what: "reserved bytes of a block", 1)) { $0.blocks[0].start[2] = 1 },
        block("block-raw-beyond-limit", .limit("raw bytes of a block", value: 1 << 20 + 1, limit: 1 << 20)) {
            $0.blocks[0].start.replaceSubrange(8..<12, with: [1, 0, 0x10, 0])
        },
        block("block-raw-zero", .limit("raw bytes of a block", value: 0, limit: 1 << 20)) {
            $0.blocks[0].start.replaceSubrange(8..<12, with: [0, 0, 0, 0])
        },
        block("block-stored-differs", .value(what: "stored bytes of a block", 15)) { $0.blocks[0].start[8] = 16 },
        block("block-does-not-shrink", .value(what: "stored bytes of a block", 15)) { $0.blocks[0].start[0] = 1 },
        block("block-beyond-segment", .truncated(what: "segment", needed: 24, available: 15)) {
            $0.blocks[0].start[4] = 24
            $0.blocks[0].start[8] = 24
        },
        block("raw-bytes-sum", .value(what: "raw bytes of a segment", 15)) { $0.set(UInt64(17), at: 88) },
        Sample(
            "blocks-too-short", compressed { $0.stray = [1, 2, 3] }, .trailing(what: "segment", bytes: 3)),
        zlib("zlib-garbage", Z_DATA_ERROR) { $0.replaceSubrange(0..<8, with: [UInt8](repeating: 0x55, count: 8)) },
        zlib("zlib-checksum", Z_DATA_ERROR) { $0[$0.count - 1] ^= 1 },
        zlib("zlib-unfinished", Z_BUF_ERROR) { $0.removeLast() },
        zlib("zlib-trailing", Z_DATA_ERROR) { $0.append(0) },
        zlib("zlib-too-short", Z_DATA_ERROR, rawBytes: 1001) { _ in },
        zlib("zlib-too-long", Z_BUF_ERROR, rawBytes: 999) { _ in },
    ]

    private static func block(
        _ name: String, _ error: FormatError, _ change: (inout SegmentDraft) -> Void
    ) -> Sample {
        header(name, error, change)
    }

    private static func zlib(
        _ name: String, _ code: Int32, rawBytes: Int = 1000, _ change: (inout [UInt8]) -> Void
    ) -> Sample {
        let bytes = compressed { draft in
            change(&draft.blocks[0].stored)
            draft.blocks[0] = SegmentDraft.Block(
                codec: Codec.zlib.rawValue, rawBytes: rawBytes, stored: draft.blocks[0].stored)
        }
        return Sample(name, bytes, .codec(what: "compressed block", code: code))
    }

    /// One zlib block of 1,000 bytes: the entry of a symlink to 983 times `a`.
    private static func compressed(_ change: (inout SegmentDraft) -> Void) -> [UInt8] {
        var draft = SegmentDraft(raw: [], entryCount: 1)
        draft.blocks = [SegmentDraft.Block(codec: Codec.zlib.rawValue, rawBytes: 1000, stored: longSymlink)]
        change(&draft)
        draft.fit()
        return draft.sealed()
    }

    /// Compressed once and for all: another libz would make other bytes of it.
    private static let longSymlink: [UInt8] = [
        0x78, 0xDA, 0x63, 0x64, 0x62, 0x7E, 0xCB, 0xFC, 0x82, 0xFD, 0x05, 0x7B, 0xC3, 0x91, 0xF9, 0x57, 0x79, 0x18,
        0xAE, 0xB3, 0x27, 0x8E, 0x82, 0x51, 0x30, 0x0A, 0x86, 0x1B, 0x00, 0x00, 0x08, 0x3C, 0x7A, 0xFD,
    ]

    // MARK: Trailer

    private static let trailers: [Sample] = [
        header("trailer-magic", .magic(what: "segment trailer")) { $0.trailerMagic[3] = 0x53 },
        Sample(
            "body-digest", with { $0.bodyDigestFlip = 1 }, .checksum(what: "segment body"), needsDigest: true),
        Sample("chain", with { $0.chainFlip = 1 }, .checksum(what: "segment chain"), needsDigest: true),
    ]

    private static func with(_ change: (inout SegmentDraft) -> Void) -> [UInt8] {
        var draft = SegmentDraft(raw: root, entryCount: 1)
        change(&draft)
        return draft.sealed()
    }

    // MARK: Entries

    private static let digest = [UInt8](repeating: 0xDD, count: 16)
    private static let zero = [UInt8](repeating: 0, count: 16)
    /// Mode 0644, uid and gid 0, the beginning of 1970.
    private static let metadata: [UInt8] = [0xA4, 0x03, 0, 0, 0, 0]

    /// A metadata entry with these for extended attributes.
    private static func rich(_ attributes: [UInt8]) -> [UInt8] {
        [2, 2] + varint(0o10644) + [0, 0, 0, 0] + varint(UInt64(attributes.count)) + attributes
    }
    private static let file: [UInt8] = [1, 2, 1] + metadata
    private static let root: [UInt8] = {
        var writer = ChangeWriter()
        writer.directory(.root, .sample)
        return writer.body.bytes
    }()

    private static let entries: [Sample] = [
        entry("entry-tag-unknown", [8, 1], .value(what: "entry's tag", 8)),
        entry("request-truncated", [7, 1, 2], .truncated(what: "entries", needed: 16, available: 2)),
        entry("filter-without-end", [6, 3] + Array("- a".utf8), .value(what: "end of a filter", 0x61)),
        entry("filter-empty-rule", [6, 3] + Array("- \n".utf8), .value(what: "rule of a filter", 1)),
        entry("filter-other-rule", [6, 8] + Array("+ a\n. b\n".utf8), .value(what: "rule of a filter", 2)),
        entry("filter-with-nul", [6, 4, 0x2D, 0x20, 0, 0x0A], .value(what: "rule of a filter", 1)),
        entry("filter-truncated", [6, 9, 0x2D, 0x20], .truncated(what: "entries", needed: 9, available: 2)),
        entry(
            "filter-beyond-limit", [6] + varint(65_537), .limit("bytes of a filter", value: 65_537, limit: 65_536)),
        entry(
            "filter-pattern-beyond-limit",
            [6] + varint(4099) + [0x2B, 0x20] + [UInt8](repeating: 0x61, count: 4096)
                + [0x0A], .limit("bytes of a pattern", value: 4096, limit: 4095)),
        entry(
            "filter-rules-beyond-limit",
            [6] + varint(16_388) + (0..<4097).flatMap { _ in Array("- a\n".utf8) },
            .limit("rules of a filter", value: 4097, limit: 4096)),
        entry("entry-tag-zero", [0, 1], .value(what: "entry's tag", 0)),
        entry("object-zero", [5, 0], .value(what: "number of an object", 0)),
        entry(
            "object-local", [5] + varint(1 << 62), .value(what: "number of an object", 1 << 62)),
        entry("bound-object-zero", [3, 1, 1, 0x61, 0], .value(what: "number of an object", 0)),
        entry("kind-unknown", [1, 2, 7] + metadata, .value(what: "kind of object", 7)),
        entry("mode-beyond-limit", [2, 2] + varint(0o20000) + [0, 0, 0, 0], .value(what: "mode", 0o20000)),
        entry("attributes-empty", rich([]), .value(what: "bytes of extended attributes", 0)),
        entry("attributes-unsorted", rich([1, 0x62, 0, 1, 0x61, 0]), .value(what: "name of an extended attribute", 1)),
        entry("attributes-twice", rich([1, 0x61, 0, 1, 0x61, 0]), .value(what: "name of an extended attribute", 1)),
        entry("attribute-without-name", rich([0, 0]), .value(what: "name of an extended attribute", 0)),
        entry("attribute-with-nul", rich([2, 0x61, 0, 0]), .value(what: "name of an extended attribute", 2)),
        entry(
            "attribute-truncated", rich([1, 0x61, 5, 0]),
            .truncated(what: "extended attributes", needed: 5, available: 1)),
        entry(
            "attributes-beyond-limit", [2, 2] + varint(0o10644) + [0, 0, 0, 0] + varint(98_305),
            .limit("bytes of extended attributes", value: 98_305, limit: 98_304)),
        entry(
            "device-beyond-limit", [1, 2, 5] + metadata + varint(1 << 32) + [0],
            .limit("major number of a device", value: 1 << 32, limit: 0xFFFF_FFFF)),
        entry(
            "uid-beyond-limit", [2, 2, 0] + varint(1 << 32) + [0, 0, 0],
            .limit("uid", value: 1 << 32, limit: 0xFFFF_FFFF)),
        entry(
            "gid-beyond-limit", [2, 2, 0, 0] + varint(1 << 32) + [0, 0],
            .limit("gid", value: 1 << 32, limit: 0xFFFF_FFFF)),
        entry(
            "nanoseconds-beyond-limit", [2, 2, 0, 0, 0, 0] + varint(1_000_000_000),
            .limit("nanoseconds", value: 1_000_000_000, limit: 999_999_999)),
        entry("target-empty", [1, 2, 3] + metadata + [0], .value(what: "symlink's target", 0)),
        entry("target-with-nul", [1, 2, 3] + metadata + [2, 0x61, 0], .value(what: "symlink's target", 0)),
        entry(
            "target-beyond-limit", [1, 2, 3] + metadata + varint(4096) + [UInt8](repeating: 0x61, count: 4096),
            .limit("bytes of a symlink's target", value: 4096, limit: 4095)),
        entry("name-empty", [4, 1, 0], .name([])),
        entry("name-dot", [4, 1, 1, 0x2E], .name([0x2E])),
        entry("name-dotdot", [3, 1, 2, 0x2E, 0x2E, 2], .name([0x2E, 0x2E])),
        entry("name-with-slash", [3, 1, 3, 0x61, 0x2F, 0x62, 2], .name([0x61, 0x2F, 0x62])),
        entry("name-with-nul", [4, 1, 2, 0x61, 0], .name([0x61, 0])),
        entry(
            "name-beyond-limit", [4, 1] + varint(256) + [UInt8](repeating: 0x61, count: 256),
            .limit("bytes of a name", value: 256, limit: 255)),
        entry("extent-tag-unknown", file + [6], .value(what: "extent's tag", 6)),
        entry("extent-empty", file + [2, 0, 0, 0] + digest, .value(what: "length of an extent", 0)),
        entry(
            "data-beyond-limit", file + [1] + varint(262_145),
            .limit("bytes of a block", value: 262_145, limit: 262_144)),
        entry("data-truncated", file + [1, 9, 1, 2, 3], .truncated(what: "entries", needed: 9, available: 3)),
        entry(
            "hole-beyond-limit", file + [2] + varint(1 << 52 + 1) + [0] + varint(1 << 52 + 1) + digest,
            .limit("blocks of a file", value: 1 << 22 + 1, limit: 1 << 22)),
        entry(
            "extents-overflow", file + [2] + varint(1 << 63) + [0] + varint(1 << 63) + digest,
            .value(what: "length of an extent", 1 << 63)),
        entry(
            "copy-source-out-of-range", file + [5, 2] + digest + [0, 5, 3, 1, 0, 5, 0, 10] + digest,
            .value(what: "source of a copy", 1)),
        entry("copy-source-untold", file + [3, 0, 0, 5, 0, 5] + digest, .value(what: "source of a copy", 0)),
        entry(
            "copy-source-truncated", file + [5, 2, 1, 2, 3], .truncated(what: "entries", needed: 16, available: 3)),
        entry("copy-source-zero", file + [5, 0] + digest + [0, 5], .value(what: "number of an object", 0)),
        entry(
            "copy-offset-overflow", file + [5, 2] + digest + varint(.max) + [1, 0, 1] + digest,
            .value(what: "offset of a copy", .max)),
        entry(
            "fetch-without-digest", file + [4, 9] + zero + [0, 9] + digest, .value(what: "digest of a block", 0)),
        entry(
            "fetch-beyond-limit", file + [4] + varint(262_145) + digest,
            .limit("bytes of a block", value: 262_145, limit: 262_144)),
        entry("extents-differ-from-size", file + [2, 9, 0, 10] + digest, .value(what: "size of a file", 10)),
        entry("varint-overlong", [5, 0x81, 0x00], .value(what: "entries: variable integer", 1)),
        entry(
            "varint-too-large", [5] + [UInt8](repeating: 0xFF, count: 9) + [0x02],
            .value(what: "entries: variable integer", .max >> 1)),
        entry("varint-truncated", [5, 0x80], .truncated(what: "entries", needed: 1, available: 0)),
        entry("entry-truncated", Array(root.dropLast()), .truncated(what: "entries", needed: 1, available: 0)),
        entry("entry-missing", root, count: 2, .truncated(what: "entries", needed: 1, available: 0)),
        entry("entries-trailing", root + [0], .trailing(what: "entries", bytes: 1)),
        entry("entries-uncounted", root, count: 0, .trailing(what: "entries", bytes: UInt64(root.count))),
    ]

    private static func entry(_ name: String, _ raw: [UInt8], count: UInt32 = 1, _ error: FormatError) -> Sample {
        Sample(name, SegmentDraft(raw: raw, entryCount: count).sealed(), error)
    }

    private static func varint(_ value: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(value)
        return writer.bytes
    }
}

extension Metadata {
    /// 12 bytes of a body.
    fileprivate static let sample = Metadata(
        mode: 0o755, uid: 1000, gid: 1000, mtime: Timestamp(seconds: 1_700_000_000, nanoseconds: 0))
}
