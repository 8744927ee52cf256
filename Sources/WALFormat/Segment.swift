/// A whole segment as it stands in the log and on the wire, checked from end to end.
package struct Segment: Sendable {
    package let header: SegmentHeader
    package let chain: Digest
    /// Header, blocks and trailer.
    package let bytes: [UInt8]

    package var position: Position { Position(epoch: header.epoch, seq: header.seq, chain: chain) }

    /// Checks everything but the entries: header, every block's checksum, body digest, chain. `bytes` must be one segment
    /// and nothing more.
    package init(verifying bytes: [UInt8]) throws(FormatError) {
        let (header, chain) = try bytes.withBytes { all throws(FormatError) in
            let header = try SegmentHeader(decoding: all)
            guard header.segmentBytes <= UInt64(all.count) else {
                throw .truncated(what: "segment", needed: header.segmentBytes, available: UInt64(all.count))
            }
            guard header.segmentBytes == UInt64(all.count) else {
                throw .trailing(what: "segment", bytes: UInt64(all.count) - header.segmentBytes)
            }
            return (header, try Segment.verifyBody(all, header: header))
        }
        self.header = header
        self.chain = chain
        self.bytes = bytes
    }

    private static func verifyBody(
        _ all: UnsafeRawBufferPointer, header: SegmentHeader
    ) throws(FormatError) -> Digest {
        let bodyEnd = SegmentHeader.byteCount + Int(header.storedBytes)
        let blocks = UnsafeRawBufferPointer(rebasing: all[..<bodyEnd])
        var reader = ByteReader(blocks, what: "segment", offset: SegmentHeader.byteCount)
        var rawBytes: UInt64 = 0
        for _ in 0..<header.blockCount {
            rawBytes += UInt64(try verifyBlock(&reader).rawBytes)
        }
        try reader.expectEnd()
        guard rawBytes == header.rawBytes else { throw .value(what: "raw bytes of a segment", rawBytes) }
        var end = ByteReader(all, what: "segment trailer", offset: bodyEnd)
        let trailer = try SegmentTrailer(decoding: &end)
        let body = UnsafeRawBufferPointer(rebasing: all[SegmentHeader.byteCount..<bodyEnd])
        guard trailer.bodyDigest == Digest(of: body) else { throw .checksum(what: "segment body") }
        let headerBytes = Array(all[..<SegmentHeader.byteCount])
        guard trailer.chain == SegmentTrailer(header: headerBytes, bodyDigest: trailer.bodyDigest).chain else {
            throw .checksum(what: "segment chain")
        }
        return trailer.chain
    }

    /// One block with a right checksum; the reader stands behind it.
    private static func verifyBlock(_ reader: inout ByteReader) throws(FormatError) -> BlockHeader {
        let start = reader.offset
        let block = try BlockHeader(decoding: &reader)
        let stored = try reader.take(Int(block.storedBytes))
        let covered = UnsafeRawBufferPointer(rebasing: reader.bytes[start..<start + BlockHeader.byteCount - 4])
        guard crc32(covered, stored) == block.checksum else { throw .checksum(what: "block of a segment") }
        return block
    }

    /// How much of the start of a segment can be kept when the rest is missing: its header and whole, checked blocks. 0
    /// when not even the header is there. A resumed transfer goes on from here.
    package static func wholePrefix(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard let header = try? SegmentHeader(decoding: bytes) else { return 0 }
        // Blocks end where the header says, whatever stands behind them.
        let end = min(bytes.count, SegmentHeader.byteCount + Int(header.storedBytes))
        let blocks = UnsafeRawBufferPointer(rebasing: bytes[..<end])
        var reader = ByteReader(blocks, what: "segment", offset: SegmentHeader.byteCount)
        var kept = SegmentHeader.byteCount
        for _ in 0..<header.blockCount {
            guard (try? verifyBlock(&reader)) != nil else { break }
            kept = reader.offset
        }
        return kept
    }

    /// The entries' bytes, decompressed: at most `Limits.maxSegmentRawBytes`, which the header was checked for.
    package func rawBody() throws(FormatError) -> [UInt8] {
        var failure: FormatError?
        let body = [UInt8](unsafeUninitializedCapacity: Int(header.rawBytes)) { target, count in
            do throws(FormatError) {
                try decompress(into: UnsafeMutableRawBufferPointer(target))
                count = Int(header.rawBytes)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return body
    }

    private func decompress(into target: UnsafeMutableRawBufferPointer) throws(FormatError) {
        try bytes.withBytes { all throws(FormatError) in
            var reader = ByteReader(all, what: "segment", offset: SegmentHeader.byteCount)
            var offset = 0
            for _ in 0..<header.blockCount {
                let block = try BlockHeader(decoding: &reader)
                let stored = try reader.take(Int(block.storedBytes))
                guard Int(block.rawBytes) <= target.count - offset else {
                    throw .value(what: "raw bytes of a block", UInt64(block.rawBytes))
                }
                let part = UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + Int(block.rawBytes)])
                switch block.codec {
                case .none: part.copyMemory(from: stored)
                case .zlib: try Deflate.decompress(stored, into: part)
                }
                offset += part.count
            }
        }
    }

    /// All entries, for tools and tests; the daemons read them one by one with ``ChangeReader``.
    package func changes() throws(FormatError) -> [Change] {
        let body = try rawBody()
        return try body.withBytes { raw throws(FormatError) in
            var reader = ChangeReader(raw, entryCount: header.entryCount)
            var changes: [Change] = []
            while let change = try reader.next() { changes.append(change) }
            return changes
        }
    }
}

/// What a new segment says beside its entries.
package struct SegmentContext: Sendable {
    package var history: HistoryID
    package var epoch: UInt64
    package var previous: Position
    package var captureTime: Int64
    package var treeDigest: Digest
    package var lastObject: ObjectID
    package var flags: SegmentHeader.Flags

    package init(
        history: HistoryID, epoch: UInt64, previous: Position, captureTime: Int64, treeDigest: Digest,
        lastObject: ObjectID, flags: SegmentHeader.Flags
    ) {
        self.history = history
        self.epoch = epoch
        self.previous = previous
        self.captureTime = captureTime
        self.treeDigest = treeDigest
        self.lastObject = lastObject
        self.flags = flags
    }
}

extension Segment {
    /// Compresses entries into the segment that follows `context.previous`. A block that does not shrink is stored.
    package init(_ changes: borrowing ChangeWriter, context: SegmentContext, compression: Compression) {
        // Beyond a limit nobody could read the segment again: better no segment than one that ends the history.
        precondition(UInt64(changes.rawBytes) <= Limits.maxSegmentRawBytes, "raw bytes of a segment")
        precondition(changes.entryCount <= Limits.maxSegmentEntries, "entries of a segment")
        // The header follows from the blocks behind it: its place is kept free.
        var writer = ByteWriter(reserving: changes.rawBytes + changes.rawBytes / 1024 + 1024)
        writer.raw([UInt8](repeating: 0, count: SegmentHeader.byteCount))
        let blockCount = Segment.appendBlocks(of: changes.body.bytes, compression: compression, to: &writer)
        let header = SegmentHeader(
            flags: changes.fetchCount > 0 ? context.flags.union(.external) : context.flags, history: context.history,
            epoch: context.epoch, seq: context.previous.seq + 1,
            previousChain: context.previous.chain, captureTime: context.captureTime, treeDigest: context.treeDigest,
            rawBytes: UInt64(changes.rawBytes), storedBytes: UInt64(writer.count - SegmentHeader.byteCount),
            entryCount: changes.entryCount, blockCount: blockCount, lastObject: context.lastObject)
        let encoded = header.encoded()
        writer.overwrite(encoded, at: 0)
        let body = writer.bytes.withUnsafeBytes { all in
            Digest(of: UnsafeRawBufferPointer(rebasing: all[SegmentHeader.byteCount...]))
        }
        let trailer = SegmentTrailer(header: encoded, bodyDigest: body)
        writer.raw(trailer.encoded())
        self.header = header
        self.chain = trailer.chain
        self.bytes = writer.bytes
    }

    private static func appendBlocks(
        of raw: [UInt8], compression: Compression, to writer: inout ByteWriter
    ) -> UInt32 {
        var count: UInt32 = 0
        raw.withUnsafeBytes { all in
            var offset = 0
            while offset < all.count {
                let length = min(Limits.maxBlockBytes, all.count - offset)
                let part = UnsafeRawBufferPointer(rebasing: all[offset..<offset + length])
                if case .zlib(let level) = compression, Deflate.mayShrink(part),
                    let stored = Deflate.compress(part, level: level)
                {
                    stored.withUnsafeBytes { bytes in
                        writer.raw(BlockHeader.encoded(codec: .zlib, rawBytes: length, stored: bytes))
                        writer.raw(bytes)
                    }
                } else {
                    writer.raw(BlockHeader.encoded(codec: .none, rawBytes: length, stored: part))
                    writer.raw(part)
                }
                offset += length
                count += 1
            }
        }
        return count
    }
}
