import WALCatalog
import WALFormat
import WALSystem

/// Changed ranges of a file that otherwise stays where and as it is. Written to `staging/` before the batch is committed,
/// so that it can be applied again after a crash without the segment that it came from.
package struct Patch {
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

    /// A block that is neither here nor in the log.
    struct Fetch {
        var offset: UInt64
        var block: ContentBlock
    }

    /// A file in `staging/` that has some ranges of the new version where they belong, and nothing else.
    struct Aside {
        var name: Name
        /// In order.
        var ranges: [Range<UInt64>]
    }

    var size: UInt64
    var parts: [Part]
    /// What is to be read, or to come, before the patch is whole.
    private(set) var loans: [Loan] = []
    private(set) var fetches: [Fetch] = []
    private var awaitedBytes: UInt64 = 0
    var aside: Aside?

    /// A patch is written twice, so it must be smaller than the file, which would be written once and copied for the rest.
    private static let minFileToAwaited: UInt64 = 2
    /// What is held in memory, and compared with what the file has there.
    private static let maxHeldBytes: UInt64 = 16 << 20

    /// Whether what is awaited becomes parts in memory, or ranges of ``Aside``.
    var isHeld: Bool { awaitedBytes <= min(Self.maxHeldBytes, size / 8) }

    /// nil when the new version is not the old one with some ranges replaced.
    init?(_ content: FileContent, of before: ObjectRow) {
        size = content.size
        parts = []
        var offset: UInt64 = 0
        var known: Holes?
        for extent in content.extents {
            switch extent {
            case .data(let range):
                parts.append(Part(offset: offset, range: range))
                offset += UInt64(range.count)
            case .copy(let source, let from, let length):
                let object = content.sources[source].object
                if object != before.id || from != offset {
                    awaitedBytes += length
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
            case .fetch(let block):
                awaitedBytes += UInt64(block.length)
                fetches.append(Fetch(offset: offset, block: block))
                offset += UInt64(block.length)
            }
            guard awaitedBytes <= size / Self.minFileToAwaited else { return nil }
        }
    }

    /// The same when nothing is awaited any more.
    func completed(parts: [Part], aside: Aside? = nil) -> Patch {
        var whole = self
        whole.loans.removeAll()
        whole.fetches.removeAll()
        whole.parts += parts
        whole.aside = aside
        return whole
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
    private static let version: UInt8 = 3

    /// A digest of all the rest comes last: what is damaged until it is applied would not be found before the next deep
    /// verification.
    package func encoded(_ body: [UInt8]) -> [UInt8] { Self.sealed(fields(body)) }

    package static func sealed(_ fields: [UInt8]) -> [UInt8] { fields + Digest(of: fields).bytes }

    private func fields(_ body: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(Self.version)
        writer.varint(size)
        writer.varint(parts.count)
        for part in parts {
            writer.varint(part.offset)
            writer.varint(part.range.count)
            writer.raw(body[part.range])
        }
        writer.counted(aside?.name.bytes ?? [])
        writer.varint(aside?.ranges.count ?? 0)
        for range in aside?.ranges ?? [] {
            writer.varint(range.lowerBound)
            writer.varint(range.upperBound - range.lowerBound)
        }
        return writer.bytes
    }

    /// ``encoded(_:)``, its parts as ranges of `bytes`.
    package init(decoding bytes: [UInt8]) throws(FormatError) {
        parts = []
        size = 0
        try bytes.withBytes { all throws(FormatError) in
            let count = all.count - Digest.byteCount
            guard count > 0 else {
                throw .truncated(what: "patch", needed: UInt64(Digest.byteCount + 1), available: UInt64(all.count))
            }
            let raw = UnsafeRawBufferPointer(rebasing: all[..<count])
            guard Digest(bytes: UnsafeRawBufferPointer(rebasing: all[count...])) == Digest(of: raw) else {
                throw .checksum(what: "patch")
            }
            var reader = ByteReader(raw, what: "patch")
            let version = try reader.integer(UInt8.self)
            guard version == Self.version else {
                throw .version(what: "patch", found: UInt32(version), supported: UInt32(Self.version))
            }
            size = try reader.varint()
            for _ in 0..<(try reader.count("parts of a patch", limit: raw.count)) {
                let offset = try reader.varint()
                let count = try reader.count("bytes of a part", limit: Limits.maxChunkBytes)
                let start = reader.offset
                _ = try reader.take(count)
                parts.append(Part(offset: offset, range: start..<start + count))
            }
            let name = try reader.counted("bytes of a name", limit: Limits.maxNameBytes)
            var ranges: [Range<UInt64>] = []
            for _ in 0..<(try reader.count("ranges of a patch", limit: raw.count)) {
                let start = try reader.varint()
                let (end, overflow) = start.addingReportingOverflow(try reader.varint())
                guard !overflow else { throw .value(what: "range of a patch", start) }
                ranges.append(start..<end)
            }
            if !name.isEmpty { aside = Aside(name: try Name(name), ranges: ranges) }
            try reader.expectEnd()
        }
    }

    /// Writes the patch that was decoded from `bytes`. Doing it twice ends where doing it once did.
    func apply(_ bytes: [UInt8], in staging: Directory, to file: borrowing File, _ written: WrittenBytes) throws {
        for part in parts {
            try bytes.withBytes { raw throws(SystemError) in
                try file.write(UnsafeRawBufferPointer(rebasing: raw[part.range]), at: part.offset)
            }
            written.wrote(part.range.count)
        }
        if let aside {
            let source = try staging.openFile(aside.name)
            for range in aside.ranges {
                let start = range.lowerBound
                written.copied(
                    try file.copyRange(
                        from: source, sourceOffset: start, to: start, length: range.upperBound - start))
            }
            try source.close()
        }
        try file.truncate(to: size)
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
