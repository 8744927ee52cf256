/// One block of a file's content.
package struct ContentBlock: Hashable, Sendable {
    /// Bytes; at most `Limits.maxChunkBytes` of data, `Limits.maxHoleBytes` of a hole.
    package var length: UInt32
    /// Digest of the bytes; zero for a hole.
    package var digest: Digest

    package init(length: UInt32, digest: Digest) {
        self.length = length
        self.digest = digest
    }

    package var isHole: Bool { digest == .zero }
}

/// What a file's content is: its blocks in order, 20 bytes each (length, little-endian; digest, canonical). The digest of
/// the content is the digest of this table, so that whoever knows the table can prove it, and a change of a few blocks
/// costs no reading of the others.
package struct BlockTable: Hashable, Sendable {
    package static let entryBytes = 20

    package private(set) var bytes: [UInt8]

    package init() { bytes = [] }

    /// Throws when the length is not a multiple of 20 or beyond the limit, or a block is empty or too long.
    package init(bytes: [UInt8]) throws(FormatError) {
        guard bytes.count % BlockTable.entryBytes == 0 else {
            throw .value(what: "length of a block table", UInt64(bytes.count))
        }
        let count = bytes.count / BlockTable.entryBytes
        guard count <= Limits.maxContentBlocks else {
            throw .limit("blocks of a file", value: UInt64(count), limit: UInt64(Limits.maxContentBlocks))
        }
        self.bytes = bytes
        for index in 0..<count { try BlockTable.check(self[index]) }
    }

    package static func check(_ block: ContentBlock) throws(FormatError) {
        guard block.length > 0 else { throw .value(what: "length of a block", 0) }
        let limit = block.isHole ? Limits.maxHoleBytes : Limits.maxChunkBytes
        guard block.length <= UInt32(limit) else {
            throw .limit("bytes of a block", value: UInt64(block.length), limit: UInt64(limit))
        }
    }

    package var count: Int { bytes.count / BlockTable.entryBytes }

    package subscript(index: Int) -> ContentBlock {
        precondition(index >= 0 && index < count, "index of a block table")
        return bytes.withUnsafeBytes { all in
            let start = index * BlockTable.entryBytes
            let length = UInt32(littleEndian: all.loadUnaligned(fromByteOffset: start, as: UInt32.self))
            let high = UInt64(bigEndian: all.loadUnaligned(fromByteOffset: start + 4, as: UInt64.self))
            let low = UInt64(bigEndian: all.loadUnaligned(fromByteOffset: start + 12, as: UInt64.self))
            return ContentBlock(length: length, digest: Digest(high: high, low: low))
        }
    }

    package mutating func append(_ block: ContentBlock) {
        withUnsafeBytes(of: block.length.littleEndian) { bytes.append(contentsOf: $0) }
        withUnsafeBytes(of: block.digest.high.bigEndian) { bytes.append(contentsOf: $0) }
        withUnsafeBytes(of: block.digest.low.bigEndian) { bytes.append(contentsOf: $0) }
    }

    /// Blocks that a hole of `length` bytes, more than 0, becomes.
    package static func blocks(ofHole length: UInt64) -> UInt64 {
        (length - 1) / UInt64(Limits.maxHoleBytes) + 1
    }

    /// A hole as blocks of `Limits.maxHoleBytes` and the rest. ``ChangeReader`` refuses what would be too many.
    package mutating func appendHole(_ length: UInt64) {
        var rest = length
        while rest > 0 {
            let part = UInt32(min(rest, UInt64(Limits.maxHoleBytes)))
            append(ContentBlock(length: part, digest: .zero))
            rest -= UInt64(part)
        }
    }

    /// Appends the blocks of `source` that fill exactly `offset..<offset + length`; false, with nothing appended, when the
    /// range does not begin and end at blocks. A cut through a hole is no block either.
    package mutating func append(
        from source: BlockTable, _ offsets: BlockOffsets, offset: UInt64, length: UInt64
    ) -> Bool {
        let (end, overflow) = offset.addingReportingOverflow(length)
        guard !overflow, let first = offsets.block(at: offset), let last = offsets.block(at: end) else { return false }
        bytes.append(contentsOf: source.bytes[first * Self.entryBytes..<last * Self.entryBytes])
        return true
    }

    /// Sum of the blocks' lengths, in bytes.
    package var size: UInt64 {
        var sum: UInt64 = 0
        for index in 0..<count { sum += UInt64(self[index].length) }
        return sum
    }

    /// Digest of the content that the table describes.
    package var digest: Digest { Digest(of: bytes) }

    /// Digest of content that is one block, without a table made for it.
    package static func digest(ofSingle block: ContentBlock) -> Digest {
        var table = BlockTable()
        table.append(block)
        return table.digest
    }
}
