import WALFormat
import WALTestKit

/// A log of real segments that is small on the wire: one of three blocks and one of two, all but empty ones that
/// compress to little, and one that does not compress.
enum SmallLog {
    static let segments: [Segment] = {
        var log: [Segment] = []
        append(to: &log, directory(2))
        append(to: &log, blocks(3, fill: 0x61))
        append(to: &log, blocks(2, fill: 0x62))
        append(to: &log, noise(300))
        append(to: &log, ChangeWriter(), flags: .baseline)
        append(to: &log, directory(3))
        return log
    }()

    /// Another third segment, of the same length, by a primary of the next epoch.
    static let fork: [Segment] = {
        var log = Array(segments[..<2])
        append(to: &log, blocks(2, fill: 0x63), epoch: 4)
        append(to: &log, directory(9), epoch: 4)
        return log
    }()

    /// A third segment of another length.
    static let shorterFork: [Segment] = {
        var log = Array(segments[..<2])
        append(to: &log, directory(7), epoch: 4)
        append(to: &log, directory(9), epoch: 4)
        return log
    }()

    static let byteCount = segments.reduce(0) { $0 + $1.bytes.count }

    /// Where a part of the segment may end that is worth keeping: behind the header and behind each block.
    static func blockEnds(_ segment: Segment) throws(FormatError) -> [Int] {
        try segment.bytes.withBytes { all throws(FormatError) in
            var ends = [SegmentHeader.byteCount]
            var reader = ByteReader(all, what: "segment", offset: SegmentHeader.byteCount)
            for _ in 0..<segment.header.blockCount {
                _ = try reader.take(Int(try BlockHeader(decoding: &reader).storedBytes))
                ends.append(reader.offset)
            }
            return ends
        }
    }

    private static func append(
        to log: inout [Segment], _ writer: ChangeWriter, epoch: UInt64 = 3, flags: SegmentHeader.Flags = []
    ) {
        let context = SegmentContext(
            history: Samples.history, epoch: epoch, previous: log.last?.position ?? .start, captureTime: 1_700_000_000,
            treeDigest: Digest(high: 0, low: UInt64(log.count)), lastObject: 9, flags: flags)
        log.append(Segment(writer, context: context, compression: .zlib(level: 9)))
    }

    private static let metadata = Metadata(mode: 0o644, uid: 0, gid: 0, mtime: .zero)

    /// A file of one byte over and over that fills all but the last block.
    private static func blocks(_ count: Int, fill: UInt8) -> ChangeWriter {
        var writer = ChangeWriter()
        let data = [UInt8](repeating: fill, count: Limits.maxChunkBytes)
        var table = BlockTable()
        writer.beginFile(4, metadata)
        for _ in 0..<(count - 1) * (Limits.maxBlockBytes / Limits.maxChunkBytes) {
            data.withUnsafeBytes { writer.data($0) }
            table.append(ContentBlock(length: UInt32(data.count), digest: Digest(of: data)))
        }
        writer.endFile(size: table.size, digest: table.digest)
        return writer
    }

    private static func noise(_ count: Int) -> ChangeWriter {
        var random = SeededRandom(seed: 1)
        let data = random.bytes(count)
        var table = BlockTable()
        table.append(ContentBlock(length: UInt32(count), digest: Digest(of: data)))
        var writer = ChangeWriter()
        writer.beginFile(5, metadata)
        data.withUnsafeBytes { writer.data($0) }
        writer.endFile(size: table.size, digest: table.digest)
        return writer
    }

    private static func directory(_ object: ObjectID) -> ChangeWriter {
        var writer = ChangeWriter()
        writer.directory(object, metadata)
        writer.bind(parent: .root, Name(trusted: Array("directory \(object)".utf8)), object)
        return writer
    }
}
