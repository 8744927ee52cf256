/// The 128 bytes at the start of a segment (walship-segment(5), "Header").
package struct SegmentHeader: Hashable, Sendable {
    package static let byteCount = 128
    package static let magic: [UInt8] = [0x57, 0x41, 0x4C, 0x53, 0x45, 0x47, 0x0D, 0x0A]
    package static let version: UInt16 = 1

    package struct Flags: OptionSet, Hashable, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }

        /// The tree as of this segment was found, not changed: there are no entries, and a replica that is not already
        /// there must reconcile.
        package static let baseline = Flags(rawValue: 1)
        /// Some content was read while it was being written; a later segment holds it clean.
        package static let fuzzy = Flags(rawValue: 2)
        /// Some content is not in the log: the segment is durable on a replica when that has been fetched too.
        package static let external = Flags(rawValue: 4)
        /// A client asked for it: it was logged before it was in the primary's tree, so that a tree without it is behind.
        package static let client = Flags(rawValue: 8)
        package static let known: Flags = [.baseline, .fuzzy, .external, .client]
    }

    package var flags: Flags
    /// The segment is all that it takes to bring the tree before it to the one after it. Any other is durable on a replica
    /// only where it is applied.
    package var isSelfContained: Bool { flags.isDisjoint(with: [.external, .baseline]) }
    package var history: HistoryID
    package var epoch: UInt64
    package var seq: UInt64
    package var previousChain: Digest
    /// Nanoseconds since 1970 on the clock of the primary.
    package var captureTime: Int64
    package var treeDigest: Digest
    /// Bytes of the body before compression.
    package var rawBytes: UInt64
    /// Bytes of the blocks as they stand, with their headers.
    package var storedBytes: UInt64
    package var entryCount: UInt32
    package var blockCount: UInt32
    /// Highest object number given up to this segment.
    package var lastObject: ObjectID

    package init(
        flags: Flags, history: HistoryID, epoch: UInt64, seq: UInt64, previousChain: Digest, captureTime: Int64,
        treeDigest: Digest, rawBytes: UInt64, storedBytes: UInt64, entryCount: UInt32, blockCount: UInt32,
        lastObject: ObjectID
    ) {
        self.flags = flags
        self.history = history
        self.epoch = epoch
        self.seq = seq
        self.previousChain = previousChain
        self.captureTime = captureTime
        self.treeDigest = treeDigest
        self.rawBytes = rawBytes
        self.storedBytes = storedBytes
        self.entryCount = entryCount
        self.blockCount = blockCount
        self.lastObject = lastObject
    }

    /// Bytes of the whole segment: header, blocks, trailer.
    package var segmentBytes: UInt64 {
        UInt64(SegmentHeader.byteCount) + storedBytes + UInt64(SegmentTrailer.byteCount)
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(reserving: SegmentHeader.byteCount)
        writer.raw(SegmentHeader.magic)
        writer.integer(SegmentHeader.version)
        writer.integer(UInt16(SegmentHeader.byteCount))
        writer.integer(flags.rawValue)
        writer.digest(history.value)
        writer.integer(epoch)
        writer.integer(seq)
        writer.digest(previousChain)
        writer.integer(captureTime)
        writer.digest(treeDigest)
        writer.integer(rawBytes)
        writer.integer(storedBytes)
        writer.integer(entryCount)
        writer.integer(blockCount)
        writer.integer(lastObject)
        writer.integer(UInt32(0))
        let sum = writer.bytes.withUnsafeBytes { crc32($0) }
        writer.integer(sum)
        return writer.bytes
    }

    /// Reads and checks the first 128 of `bytes`: magic and version first, so that a later format is named as such, then
    /// the checksum, then every limit.
    package init(decoding bytes: UnsafeRawBufferPointer) throws(FormatError) {
        let what = "segment header"
        var reader = ByteReader(bytes, what: what)
        let magic = try reader.take(SegmentHeader.magic.count)
        guard magic.elementsEqual(SegmentHeader.magic) else { throw .magic(what: what) }
        let version = try reader.integer(UInt16.self)
        guard version == SegmentHeader.version else {
            if version == 0 { throw .value(what: "\(what): version", 0) }
            throw .version(what: "segment", found: UInt32(version), supported: UInt32(SegmentHeader.version))
        }
        guard bytes.count >= SegmentHeader.byteCount else {
            throw .truncated(
                what: what, needed: UInt64(SegmentHeader.byteCount), available: UInt64(bytes.count))
        }
        let stated = bytes.loadUnaligned(fromByteOffset: SegmentHeader.byteCount - 4, as: UInt32.self)
        let covered = UnsafeRawBufferPointer(rebasing: bytes[..<(SegmentHeader.byteCount - 4)])
        guard UInt32(littleEndian: stated) == crc32(covered) else { throw .checksum(what: what) }

        let length = try reader.integer(UInt16.self)
        guard length == UInt16(SegmentHeader.byteCount) else {
            throw .value(what: "\(what): its length", UInt64(length))
        }
        flags = Flags(rawValue: try reader.integer(UInt32.self))
        guard flags.isSubset(of: .known) else { throw .value(what: "\(what): flags", UInt64(flags.rawValue)) }
        history = HistoryID(try reader.digest())
        epoch = try reader.integer(UInt64.self)
        seq = try reader.integer(UInt64.self)
        guard seq > 0, seq < UInt64(Int64.max) else { throw .value(what: "\(what): seq", seq) }
        guard epoch > 0, epoch < UInt64(Int64.max) else { throw .value(what: "\(what): epoch", epoch) }
        previousChain = try reader.digest()
        captureTime = try reader.integer(Int64.self)
        treeDigest = try reader.digest()
        rawBytes = try reader.integer(UInt64.self)
        guard rawBytes <= Limits.maxSegmentRawBytes else {
            throw .limit("raw bytes of a segment", value: rawBytes, limit: Limits.maxSegmentRawBytes)
        }
        storedBytes = try reader.integer(UInt64.self)
        entryCount = try reader.integer(UInt32.self)
        guard entryCount <= Limits.maxSegmentEntries else {
            throw .limit("entries of a segment", value: UInt64(entryCount), limit: UInt64(Limits.maxSegmentEntries))
        }
        blockCount = try reader.integer(UInt32.self)
        lastObject = try reader.integer(UInt64.self)
        guard lastObject < ObjectID.firstLocal else { throw .value(what: "\(what): last object", lastObject) }
        let reserved = try reader.integer(UInt32.self)
        guard reserved == 0 else { throw .value(what: "\(what): reserved bytes", UInt64(reserved)) }
        // A stored block never exceeds its raw bytes, so headers and raw bytes bound what is stored.
        let expected = (rawBytes + UInt64(Limits.maxBlockBytes) - 1) / UInt64(Limits.maxBlockBytes)
        guard UInt64(blockCount) == expected else {
            throw .value(what: "\(what): number of blocks", UInt64(blockCount))
        }
        let bound = rawBytes + UInt64(blockCount) * UInt64(BlockHeader.byteCount)
        guard storedBytes <= bound else { throw .limit("stored bytes of a segment", value: storedBytes, limit: bound) }
        guard !flags.contains(.baseline) || (entryCount == 0 && rawBytes == 0) else {
            throw .value(what: "\(what): entries of a baseline", UInt64(entryCount))
        }
    }
}

/// The 16 bytes before each stored block (walship-segment(5), "Blocks").
package struct BlockHeader: Hashable, Sendable {
    package static let byteCount = 16

    package var codec: Codec
    package var storedBytes: UInt32
    package var rawBytes: UInt32
    /// CRC-32 of the first 12 bytes of the header and of the stored bytes.
    package var checksum: UInt32

    /// The header of a block; computes the checksum.
    package static func encoded(codec: Codec, rawBytes: Int, stored: UnsafeRawBufferPointer) -> [UInt8] {
        var writer = ByteWriter(reserving: byteCount)
        writer.raw([codec.rawValue, 0, 0, 0])
        writer.integer(UInt32(stored.count))
        writer.integer(UInt32(rawBytes))
        let sum = writer.bytes.withUnsafeBytes { crc32($0, stored) }
        writer.integer(sum)
        return writer.bytes
    }

    package init(decoding reader: inout ByteReader) throws(FormatError) {
        let start = try reader.take(BlockHeader.byteCount)
        guard let codec = Codec(rawValue: start[0]) else { throw .value(what: "codec of a block", UInt64(start[0])) }
        guard start[1] == 0, start[2] == 0, start[3] == 0 else { throw .value(what: "reserved bytes of a block", 1) }
        self.codec = codec
        storedBytes = UInt32(littleEndian: start.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        rawBytes = UInt32(littleEndian: start.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        checksum = UInt32(littleEndian: start.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        guard rawBytes > 0, rawBytes <= UInt32(Limits.maxBlockBytes) else {
            throw .limit("raw bytes of a block", value: UInt64(rawBytes), limit: UInt64(Limits.maxBlockBytes))
        }
        guard codec == .none ? storedBytes == rawBytes : storedBytes < rawBytes else {
            throw .value(what: "stored bytes of a block", UInt64(storedBytes))
        }
    }
}

/// The 40 bytes at the end of a segment (walship-segment(5), "Trailer").
package struct SegmentTrailer: Hashable, Sendable {
    package static let byteCount = 40
    package static let magic: [UInt8] = [0x57, 0x41, 0x4C, 0x45, 0x4E, 0x44, 0x0D, 0x0A]

    /// Digest of all blocks as they stand, with their headers.
    package var bodyDigest: Digest
    package var chain: Digest

    package init(header: [UInt8], bodyDigest: Digest) {
        self.bodyDigest = bodyDigest
        var writer = ByteWriter(reserving: header.count + Digest.byteCount)
        writer.raw(header)
        writer.digest(bodyDigest)
        chain = Digest(of: writer.bytes)
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(reserving: SegmentTrailer.byteCount)
        writer.raw(SegmentTrailer.magic)
        writer.digest(bodyDigest)
        writer.digest(chain)
        return writer.bytes
    }

    package init(decoding reader: inout ByteReader) throws(FormatError) {
        guard try reader.take(SegmentTrailer.magic.count).elementsEqual(SegmentTrailer.magic) else {
            throw .magic(what: "segment trailer")
        }
        bodyDigest = try reader.digest()
        chain = try reader.digest()
    }
}
