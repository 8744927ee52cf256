import WALFormat

extension Segment {
    /// All that the segment says, as `expected.json` and `segment_decoder.py` say it. Names and targets are escaped as
    /// walctl(1) shows them; the bytes of data are named by their offset in the raw body and their CRC-32.
    func described() throws -> JSON {
        let body = try rawBody()
        let trailer = try bytes.withBytes { all throws(FormatError) in
            var reader = ByteReader(all, what: "trailer", offset: all.count - SegmentTrailer.byteCount)
            return try SegmentTrailer(decoding: &reader)
        }
        return .object([
            ("header", described(header)),
            ("blocks", .array(try describedBlocks())),
            ("entries", .array(try changes().map { described($0, body: body) })),
            (
                "trailer",
                .object([
                    ("body_digest", .string(trailer.bodyDigest.description)),
                    ("chain", .string(trailer.chain.description)),
                ])
            ),
        ])
    }

    private func described(_ header: SegmentHeader) -> JSON {
        var flags: [JSON] = []
        if header.flags.contains(.baseline) { flags.append(.string("baseline")) }
        if header.flags.contains(.fuzzy) { flags.append(.string("fuzzy")) }
        if header.flags.contains(.external) { flags.append(.string("external")) }
        if header.flags.contains(.client) { flags.append(.string("client")) }
        return .object([
            ("version", .number(SegmentHeader.version)),
            ("flags", .array(flags)),
            ("history", .string(header.history.description)),
            ("epoch", .number(header.epoch)),
            ("seq", .number(header.seq)),
            ("previous_chain", .string(header.previousChain.description)),
            ("capture_time", .number(header.captureTime)),
            ("tree_digest", .string(header.treeDigest.description)),
            ("raw_bytes", .number(header.rawBytes)),
            ("stored_bytes", .number(header.storedBytes)),
            ("entry_count", .number(header.entryCount)),
            ("block_count", .number(header.blockCount)),
            ("last_object", .number(header.lastObject)),
        ])
    }

    private func describedBlocks() throws -> [JSON] {
        try bytes.withBytes { all throws(FormatError) in
            var reader = ByteReader(all, what: "blocks", offset: SegmentHeader.byteCount)
            var blocks: [JSON] = []
            for _ in 0..<header.blockCount {
                let block = try BlockHeader(decoding: &reader)
                _ = try reader.take(Int(block.storedBytes))
                blocks.append(
                    .object([
                        ("codec", .string("\(block.codec)")),
                        ("stored_bytes", .number(block.storedBytes)),
                        ("raw_bytes", .number(block.rawBytes)),
                        ("crc32", .string(hexadecimal(block.checksum))),
                    ]))
            }
            return blocks
        }
    }

    private func described(_ change: Change, body: [UInt8]) -> JSON {
        switch change {
        case .put(let object, let metadata, let content):
            let start: [(String, JSON)] = [
                ("entry", .string("put")), ("object", .number(object)), ("kind", .string("\(content.kind)")),
            ]
            return .object(start + described(metadata) + described(content, body: body))
        case .metadata(let object, let metadata):
            return .object([("entry", .string("metadata")), ("object", .number(object))] + described(metadata))
        case .bind(let parent, let name, let object):
            return .object([
                ("entry", .string("bind")), ("parent", .number(parent)), ("name", .string(name.description)),
                ("object", .number(object)),
            ])
        case .unbind(let parent, let name):
            return .object([
                ("entry", .string("unbind")), ("parent", .number(parent)), ("name", .string(name.description)),
            ])
        case .drop(let object): return .object([("entry", .string("drop")), ("object", .number(object))])
        case .request(let id):
            return .object([("entry", .string("request")), ("id", .string(id.description))])
        case .filter(let filter):
            return .object([("entry", .string("filter")), ("rules", .array(filter.lines.map { .string($0) }))])
        }
    }

    private func described(_ metadata: Metadata) -> [(String, JSON)] {
        let octal = String(metadata.mode, radix: 8)
        return [
            ("mode", .string(String(repeating: "0", count: 4 - octal.count) + octal)),
            ("uid", .number(metadata.uid)),
            ("gid", .number(metadata.gid)),
            ("mtime_seconds", .number(metadata.mtime.seconds)),
            ("mtime_nanoseconds", .number(metadata.mtime.nanoseconds)),
        ]
            + (metadata.attributes.isEmpty
                ? [] : [("attributes", .object(metadata.attributes.pairs.map { ($0.name, $0.value) }.map(described)))])
    }

    private func described(_ name: [UInt8], _ value: [UInt8]) -> (String, JSON) {
        (PathText.escaped(name), .string(PathText.escaped(value)))
    }

    private func described(_ content: Body, body: [UInt8]) -> [(String, JSON)] {
        switch content {
        case .directory: return []
        case .symlink(let target): return [("target", .string(PathText.escaped(target)))]
        case .fifo: return []
        case .device(_, let number): return [("major", .number(number.major)), ("minor", .number(number.minor))]
        case .file(let file):
            let sources: [JSON] = file.sources.map {
                .object([("object", .number($0.object)), ("content", .string($0.content.description))])
            }
            return [
                ("sources", .array(sources)),
                ("extents", .array(file.extents.map { described($0, body: body) })),
                ("size", .number(file.size)),
                ("content", .string(file.digest.description)),
            ]
        }
    }

    private func described(_ extent: Extent, body: [UInt8]) -> JSON {
        switch extent {
        case .data(let range):
            let sum = body.withUnsafeBytes { crc32(UnsafeRawBufferPointer(rebasing: $0[range])) }
            return .object([
                ("extent", .string("data")), ("raw_offset", .number(range.lowerBound)),
                ("length", .number(range.count)), ("crc32", .string(hexadecimal(sum))),
            ])
        case .hole(let length): return .object([("extent", .string("hole")), ("length", .number(length))])
        case .copy(let source, let offset, let length):
            return .object([
                ("extent", .string("copy")), ("source", .number(source)), ("offset", .number(offset)),
                ("length", .number(length)),
            ])
        case .fetch(let block):
            return .object([
                ("extent", .string("fetch")), ("length", .number(block.length)),
                ("digest", .string(block.digest.description)),
            ])
        }
    }

    private func hexadecimal(_ value: UInt32) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: 8 - text.count) + text
    }
}
