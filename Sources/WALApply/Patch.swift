import WALCatalog
import WALFormat
import WALSystem

/// Changed ranges of a file that otherwise stays where and as it is. Written to `staging/` before the batch is committed,
/// so that it can be applied again after a crash without the segment that it came from.
struct Patch {
    struct Part {
        var offset: UInt64
        var range: Range<Int>
    }

    /// A piece of known content that comes from elsewhere: another file, or another place of this one.
    struct Loan {
        var offset: UInt64
        var source: ObjectID
        /// Bytes from the start of the source.
        var from: UInt64
        var count: Int
    }

    var size: UInt64
    var parts: [Part]
    /// What is to be read, and made parts, before the patch is whole.
    var loans: [Loan] = []
    /// The last block, where it is neither here nor in the log.
    var end: ContentBlock?

    /// A patch is written twice, so it must be far smaller than the file, which would be written once.
    private static let minFileToLoans: UInt64 = 8
    /// They are held in memory.
    private static let maxLoanBytes: UInt64 = 16 << 20

    /// nil when the new version is not the old one with some ranges replaced.
    init?(_ content: FileContent, of before: ObjectRow) {
        size = content.size
        parts = []
        var offset: UInt64 = 0
        var lent: UInt64 = 0
        var known: Holes?
        for extent in content.extents {
            switch extent {
            case .data(let range):
                parts.append(Part(offset: offset, range: range))
                offset += UInt64(range.count)
            case .copy(let source, let from, let length):
                let object = content.sources[source].object
                if object != before.id || from != offset {
                    lent += length
                    guard lent <= min(Self.maxLoanBytes, size / Self.minFileToLoans) else { return nil }
                    for start in stride(from: 0, to: length, by: Limits.maxChunkBytes) {
                        loans.append(
                            Loan(
                                offset: offset + start, source: object, from: from + start,
                                count: min(Int(length - start), Limits.maxChunkBytes)))
                    }
                }
                offset += length
            case .hole(let length):
                // One that is there already stays. To make one is for a new file.
                let holes = known ?? Holes(of: before)
                known = holes
                guard holes.contain(offset..<offset + length) else { return nil }
                offset += length
            // What is yet to come is for a new file, too, which can wait unseen until it is whole. A single block is
            // waited for: a file that was written to and cut short is not copied for it.
            case .fetch(let block):
                guard offset + UInt64(block.length) == size else { return nil }
                end = block
                offset = size
            }
        }
    }

    /// The same without what the file holds already, by pages: a block is larger than most changes within it.
    func trimmed(to file: borrowing File, _ body: [UInt8]) throws -> Patch {
        var trimmed = self
        trimmed.parts.removeAll()
        for part in parts {
            let held = try file.read(count: part.range.count, at: part.offset)
            var next = part.range.lowerBound
            while next < part.range.upperBound {
                let offset = part.offset + UInt64(next - part.range.lowerBound)
                // Pages of the file, so that no page is written for its half.
                let end = min(next + Self.pageBytes - Int(offset % UInt64(Self.pageBytes)), part.range.upperBound)
                let (from, to) = (next - part.range.lowerBound, end - part.range.lowerBound)
                defer { next = end }
                if to <= held.count, held[from..<to].elementsEqual(body[next..<end]),
                    // Zeros that are data do not stay a hole.
                    try body[next] != 0 || file.isData(offset..<offset + UInt64(to - from))
                {
                    continue
                }
                if next > part.range.lowerBound, let last = trimmed.parts.last, last.range.upperBound == next {
                    trimmed.parts[trimmed.parts.count - 1].range = last.range.lowerBound..<end
                } else {
                    trimmed.parts.append(Part(offset: offset, range: next..<end))
                }
            }
        }
        return trimmed
    }

    private static let pageBytes = 4096
    private static let version: UInt8 = 1

    func encoded(_ body: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(Self.version)
        writer.varint(size)
        writer.varint(parts.count)
        for part in parts {
            writer.varint(part.offset)
            writer.varint(part.range.count)
            writer.raw(body[part.range])
        }
        return writer.bytes
    }

    /// Writes the patch in `bytes` to `file`. Doing it twice ends where doing it once did. Returns the bytes written.
    static func apply(_ bytes: [UInt8], to file: borrowing File) throws -> Int {
        let all = bytes
        var reader = try all.withBytes { raw throws(FormatError) -> [(UInt64, Range<Int>)] in
            var reader = ByteReader(raw, what: "patch")
            let version = try reader.integer(UInt8.self)
            guard version == Self.version else {
                throw .version(what: "patch", found: UInt32(version), supported: UInt32(Self.version))
            }
            var parts: [(UInt64, Range<Int>)] = [(try reader.varint(), 0..<0)]
            for _ in 0..<(try reader.count("parts of a patch", limit: raw.count)) {
                let offset = try reader.varint()
                let count = try reader.count("bytes of a part", limit: Limits.maxChunkBytes)
                let start = reader.offset
                _ = try reader.take(count)
                parts.append((offset, start..<start + count))
            }
            try reader.expectEnd()
            return parts
        }[...]
        let size = reader.removeFirst().0
        for (offset, range) in reader {
            try all.withBytes { raw throws(SystemError) in
                try file.write(UnsafeRawBufferPointer(rebasing: raw[range]), at: offset)
            }
        }
        try file.truncate(to: size)
        return reader.reduce(0) { $0 + $1.1.count }
    }
}

/// Where a version of a file has no data: its holes, and all that lies behind its end, which becomes one when it grows.
private struct Holes {
    private var ranges: [Range<UInt64>] = []

    init(of row: ObjectRow) {
        var offset: UInt64 = 0
        for index in 0..<row.blocks.count {
            let block = row.blocks[index]
            if block.isHole { add(offset..<offset + UInt64(block.length)) }
            offset += UInt64(block.length)
        }
        add(offset..<UInt64.max)
    }

    /// In order; a large hole is several blocks.
    private mutating func add(_ range: Range<UInt64>) {
        if let last = ranges.last, last.upperBound == range.lowerBound {
            ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
        } else {
            ranges.append(range)
        }
    }

    func contain(_ range: Range<UInt64>) -> Bool {
        var (low, high) = (0, ranges.count)
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound <= range.lowerBound { low = middle + 1 } else { high = middle }
        }
        return low < ranges.count && ranges[low].lowerBound <= range.lowerBound
            && range.upperBound <= ranges[low].upperBound
    }
}
