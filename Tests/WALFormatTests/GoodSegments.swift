import WALFormat
import WALTestKit

/// The segments of `fixtures/segments/ok-*`: one history, each the successor of the one before.
enum GoodSegments {
    struct Sample: Sendable, CustomStringConvertible {
        let name: String
        let segment: Segment
        /// Another libz may compress to other bytes that mean the same.
        let isCompressed: Bool

        var description: String { name }
    }

    static let all: [Sample] = {
        var history = HistoryDraft()
        return [
            history.emptyTree(), history.incompressible(), history.small(), history.zlib(), history.copyHoleFetch(),
            history.attributesAndNodes(), history.filtered(),
            history.baseline(),
        ]
    }()

    static let emptyTree = named("ok-empty-tree")
    static let small = named("ok-small")
    static let zlib = named("ok-zlib")

    private static func named(_ name: String) -> Segment {
        all.first { $0.name == name }!.segment
    }
}

/// A primary's view of its tree and log while the samples are written.
private struct HistoryDraft {
    private var tree = TreeModel()
    private var position = Position.start
    private var lastObject = ObjectID.root

    /// The entries' effect on the model gives the tree digest, as it does on a primary.
    private mutating func close(
        _ name: String, _ writer: ChangeWriter, lastObject: ObjectID, epoch: UInt64 = 1,
        flags: SegmentHeader.Flags = [], compression: Compression = .none
    ) -> GoodSegments.Sample {
        let body = writer.body.bytes
        try! tree.apply(try! entries(of: body, count: writer.entryCount), body: body)
        self.lastObject = max(self.lastObject, lastObject)
        let context = SegmentContext(
            history: HistoryID(Digest(high: 0x0011_2233_4455_6677, low: 0x8899_AABB_CCDD_EEFF)), epoch: epoch,
            previous: position, captureTime: 1_700_000_000_000_000_000 + Int64(position.seq) * 1_000_000_000,
            treeDigest: tree.digest, lastObject: self.lastObject, flags: flags)
        let segment = Segment(writer, context: context, compression: compression)
        position = segment.position
        return GoodSegments.Sample(name: name, segment: segment, isCompressed: compression != .none)
    }

    private func metadata(_ mode: UInt16, seconds: Int64 = 1_700_000_000, nanoseconds: UInt32 = 0) -> Metadata {
        Metadata(mode: mode, uid: 1000, gid: 1000, mtime: Timestamp(seconds: seconds, nanoseconds: nanoseconds))
    }

    mutating func emptyTree() -> GoodSegments.Sample {
        var writer = ChangeWriter()
        writer.directory(.root, metadata(0o755))
        return close("ok-empty-tree", writer, lastObject: 1)
    }

    /// One block that zlib cannot make smaller.
    mutating func incompressible() -> GoodSegments.Sample {
        var random = SeededRandom(seed: 2)
        var writer = ChangeWriter()
        writer.file(2, metadata(0o600), [random.bytes(3000)])
        writer.bind(parent: .root, Name("noise"), 2)
        let sample = close("ok-incompressible", writer, lastObject: 2, compression: .standard)
        return GoodSegments.Sample(name: sample.name, segment: sample.segment, isCompressed: false)
    }

    /// One entry of each sort; the worked example of walship-segment(5).
    mutating func small() -> GoodSegments.Sample {
        var writer = ChangeWriter()
        writer.directory(3, metadata(0o755))
        writer.file(4, metadata(0o644, nanoseconds: 500_000_000), [Array("hello, world\n".utf8)])
        writer.symlink(5, metadata(0o777, seconds: -1), target: Array("docs/hello".utf8))
        writer.bind(parent: .root, Name("docs"), 3)
        writer.bind(parent: 3, Name("hello"), 4)
        writer.bind(parent: .root, Name("latest"), 5)
        writer.unbind(parent: .root, Name("noise"))
        writer.drop(2)
        writer.metadata(.root, metadata(0o750))
        return close("ok-small", writer, lastObject: 5)
    }

    /// Two blocks of repeated text, which zlib makes small; the longest and the shortest values of the metadata.
    mutating func zlib() -> GoodSegments.Sample {
        let parts = [262_144, 262_144, 262_144, 262_144, 100_000].enumerated().map { index, length in
            let line = Array("block \(index) of a golden segment\n".utf8)
            return (0..<length).map { line[$0 % line.count] }
        }
        var writer = ChangeWriter()
        writer.file(
            6, Metadata(mode: 0o6755, uid: .max, gid: 0, mtime: Timestamp(seconds: .min, nanoseconds: 999_999_999)),
            parts)
        writer.bind(parent: 3, Name("dump.sql"), 6)
        return close("ok-zlib", writer, lastObject: 6, compression: .standard)
    }

    /// Extended attributes, also of the root, and what is neither file, directory nor symlink.
    mutating func attributesAndNodes() -> GoodSegments.Sample {
        func attributes(_ pairs: [(String, [UInt8])]) -> Attributes {
            try! Attributes(pairs.map { (Array($0.0.utf8), $0.1) })
        }
        var writer = ChangeWriter()
        var rich = metadata(0o4755)
        rich.attributes = attributes([
            ("user.mime_type", Array("text/plain".utf8)), ("user.empty", []),
            ("security.capability", [1, 0, 0, 2, 0, 4] + [UInt8](repeating: 0, count: 14)),
            ("system.posix_acl_access", [2, 0, 0, 0]),
        ])
        writer.file(8, rich, [Array("#!/bin/sh\n".utf8)])
        writer.bind(parent: .root, Name("tool"), 8)
        writer.fifo(9, metadata(0o600))
        writer.bind(parent: .root, Name("pipe"), 9)
        writer.device(10, .characterDevice, metadata(0o666), DeviceNumber(major: 1, minor: 3))
        writer.bind(parent: 3, Name("null"), 10)
        var plain = metadata(0o660)
        plain.attributes = attributes([("trusted.x", [UInt8](0...255))])
        writer.device(11, .blockDevice, plain, DeviceNumber(major: .max, minor: .max))
        writer.bind(parent: 3, Name("disk"), 11)
        var root = metadata(0o755)
        root.attributes = attributes([("system.posix_acl_default", [2, 0, 0, 0])])
        writer.metadata(.root, root)
        return close("ok-attributes-and-nodes", writer, lastObject: 11)
    }

    /// A filter, the removal of what it excludes, and another in its place: the last one counts.
    mutating func filtered() -> GoodSegments.Sample {
        var writer = ChangeWriter()
        writer.filter(try! Filter(text: Array("- *.tmp\n".utf8)))
        // A pattern that is not UTF-8, a space at the end of one, and a backslash.
        writer.filter(
            try! Filter(text: Array("+ /docs/**/keep\n- pipe\n- caf".utf8) + [0xE9] + Array("?\n- a \\ \n".utf8)))
        writer.unbind(parent: .root, Name("pipe"))
        writer.drop(9)
        return close("ok-filter", writer, lastObject: 11)
    }

    /// A file patched in place, and one made of another's blocks, a hole of more than one block's length, data, and a
    /// block that is not in the log.
    mutating func copyHoleFetch() -> GoodSegments.Sample {
        let dump = tree.objects[6]!
        let patch = Array("patched\n".utf8)
        let last = Array("end\n".utf8)
        let absent = ContentBlock(length: 70_000, digest: Digest(of: [UInt8](repeating: 0x61, count: 70_000)))
        var writer = ChangeWriter()

        var table = BlockTable()
        table.append(dump.table[0])
        table.append(ContentBlock(length: UInt32(patch.count), digest: Digest(of: patch)))
        for index in 2..<5 { table.append(dump.table[index]) }
        let source = ContentSource(object: 6, content: dump.content)
        writer.beginFile(6, metadata(0o640))
        writer.copy(from: source, offset: 0, length: 262_144)
        patch.withUnsafeBytes { writer.data($0) }
        writer.copy(from: source, offset: 2 * 262_144, length: 2 * 262_144 + 100_000)
        writer.endFile(size: table.size, digest: table.digest)

        var other = BlockTable()
        other.append(tree.objects[4]!.table[0])
        other.appendHole(3 << 30 + 4096)
        other.append(table[0])
        other.append(ContentBlock(length: UInt32(last.count), digest: Digest(of: last)))
        other.append(absent)
        writer.beginFile(7, metadata(0o644))
        writer.copy(
            from: ContentSource(object: 4, content: tree.objects[4]!.content), offset: 0, length: 13)
        writer.hole(3 << 30 + 4096)
        // The version that the entry before this one made.
        writer.copy(from: ContentSource(object: 6, content: table.digest), offset: 0, length: 262_144)
        last.withUnsafeBytes { writer.data($0) }
        writer.fetch(absent)
        writer.endFile(size: other.size, digest: other.digest)
        // Latin-1, a line feed, and UTF-8 with a backslash.
        writer.bind(parent: .root, Name(trusted: [0x63, 0x61, 0x66, 0xE9, 0x0A]), 7)
        writer.bind(parent: 3, Name("Größe\\1"), 7)
        return close("ok-copy-hole-fetch", writer, lastObject: 7, flags: .fuzzy)
    }

    /// A later epoch that begins with the tree as it was found: an empty file more, and no entry that says so.
    mutating func baseline() -> GoodSegments.Sample {
        var found = ChangeWriter()
        found.file(8, metadata(0o644), [])
        found.bind(parent: .root, Name("found"), 8)
        let body = found.body.bytes
        try! tree.apply(try! entries(of: body, count: found.entryCount), body: body)
        return close("ok-baseline", ChangeWriter(), lastObject: 8, epoch: 2, flags: .baseline)
    }
}

extension ChangeWriter {
    /// A file whose blocks are all in the log.
    fileprivate mutating func file(_ object: ObjectID, _ metadata: Metadata, _ blocks: [[UInt8]]) {
        var table = BlockTable()
        beginFile(object, metadata)
        for block in blocks {
            block.withUnsafeBytes { data($0) }
            table.append(ContentBlock(length: UInt32(block.count), digest: Digest(of: block)))
        }
        endFile(size: table.size, digest: table.digest)
    }
}
