/// Appends the scalar forms of the formats: little-endian integers, LEB128 variable integers, digests in canonical order.
package struct ByteWriter {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    package init(reserving capacity: Int) {
        bytes.reserveCapacity(capacity)
    }

    package var count: Int { bytes.count }

    package mutating func integer<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// Unsigned LEB128 (DWARF 5, 7.6): 7 bits a byte, least significant first.
    package mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    package mutating func varint(_ value: Int) {
        varint(UInt64(value))
    }

    /// Zigzag, then LEB128: small magnitudes of either sign are short.
    package mutating func signedVarint(_ value: Int64) {
        varint(UInt64(bitPattern: (value << 1) ^ (value >> 63)))
    }

    package mutating func digest(_ digest: Digest) {
        integer(digest.high.bigEndian)
        integer(digest.low.bigEndian)
    }

    package mutating func raw(_ more: some Sequence<UInt8>) {
        bytes.append(contentsOf: more)
    }

    package mutating func raw(_ more: UnsafeRawBufferPointer) {
        bytes.append(contentsOf: more)
    }

    /// A length as varint, then the bytes.
    package mutating func counted(_ more: [UInt8]) {
        varint(more.count)
        bytes.append(contentsOf: more)
    }

    package mutating func counted(_ text: String) {
        counted(Array(text.utf8))
    }

    package mutating func removeAll(keepingCapacity: Bool) {
        bytes.removeAll(keepingCapacity: keepingCapacity)
    }

    /// Replaces what stands at `offset`; the writer must hold that much already.
    package mutating func overwrite(_ more: [UInt8], at offset: Int) {
        bytes.withUnsafeMutableBytes { all in
            UnsafeMutableRawBufferPointer(rebasing: all[offset..<offset + more.count]).copyBytes(from: more)
        }
    }

    /// Takes back what was appended after `count` was this.
    package mutating func truncate(to count: Int) {
        bytes.removeLast(bytes.count - count)
    }

    /// Appends up to `capacity` bytes that `body` writes, and returns what it says it wrote.
    package mutating func append(
        capacity: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Int
    ) rethrows -> Int {
        let start = bytes.count
        bytes.append(contentsOf: repeatElement(0, count: capacity))
        var written = 0
        defer { bytes.removeLast(capacity - written) }
        written = try bytes.withUnsafeMutableBytes { all in
            try body(UnsafeMutableRawBufferPointer(rebasing: all[start...]))
        }
        return written
    }
}

/// Reads the same forms from bytes that nobody vouches for: every step is checked against what remains.
package struct ByteReader {
    package let bytes: UnsafeRawBufferPointer
    package private(set) var offset: Int
    private let what: String

    /// `what` names the thing in errors. The bytes must outlive the reader.
    package init(_ bytes: UnsafeRawBufferPointer, what: String, offset: Int = 0) {
        self.bytes = bytes
        self.what = what
        self.offset = offset
    }

    package var remaining: Int { bytes.count - offset }

    /// The next `count` bytes, in place.
    package mutating func take(_ count: Int) throws(FormatError) -> UnsafeRawBufferPointer {
        guard count >= 0, count <= remaining else {
            throw .truncated(what: what, needed: UInt64(clamping: count), available: UInt64(remaining))
        }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }

    package mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws(FormatError) -> T {
        T(littleEndian: try take(MemoryLayout<T>.size).loadUnaligned(as: T.self))
    }

    package mutating func varint() throws(FormatError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            guard offset < bytes.count else {
                throw .truncated(what: what, needed: 1, available: 0)
            }
            let byte = bytes[offset]
            offset += 1
            // The tenth byte holds the 64th bit and nothing else.
            guard shift < 63 || byte <= 1 else { throw .value(what: "\(what): variable integer", value) }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 {
                // One value has one form: what was read can be written again byte by byte.
                guard byte > 0 || shift == 0 else { throw .value(what: "\(what): variable integer", value) }
                return value
            }
            shift += 7
        }
    }

    package mutating func signedVarint() throws(FormatError) -> Int64 {
        let value = try varint()
        return Int64(bitPattern: (value >> 1) ^ (0 &- (value & 1)))
    }

    /// A varint that must not exceed `limit`, as an Int.
    package mutating func count(_ name: String, limit: Int) throws(FormatError) -> Int {
        let value = try varint()
        guard value <= UInt64(limit) else { throw .limit(name, value: value, limit: UInt64(limit)) }
        return Int(value)
    }

    package mutating func digest() throws(FormatError) -> Digest {
        let part = try take(Digest.byteCount)
        return Digest(
            high: UInt64(bigEndian: part.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
            low: UInt64(bigEndian: part.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }

    package mutating func counted(_ name: String, limit: Int) throws(FormatError) -> [UInt8] {
        let length = try count(name, limit: limit)
        return Array(try take(length))
    }

    package mutating func countedText(_ name: String, limit: Int) throws(FormatError) -> String {
        String(decoding: try counted(name, limit: limit), as: UTF8.self)
    }

    package func expectEnd() throws(FormatError) {
        guard remaining == 0 else { throw .trailing(what: what, bytes: UInt64(remaining)) }
    }
}

extension Array where Element == UInt8 {
    /// `withUnsafeBytes` that keeps the type of what is thrown.
    package func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        let result: Result<R, E> = withUnsafeBytes { bytes in
            do throws(E) { return .success(try body(bytes)) } catch { return .failure(error) }
        }
        return try result.get()
    }
}
