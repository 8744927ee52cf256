import CZlib

/// How a block is stored. The raw value is the byte in its header.
package enum Codec: UInt8, Sendable, Hashable {
    case none = 0
    case zlib = 1
}

/// What the writer of segments does with blocks: `none`, or `zlib` at a level of 1 (fast) to 9 (small).
package enum Compression: Hashable, Sendable, CustomStringConvertible {
    case none
    case zlib(level: Int32)

    package static let standard = Compression.zlib(level: 1)

    /// `none`, `zlib` or `zlib:LEVEL`.
    package init(text: String) throws(FormatError) {
        switch text {
        case "none": self = .none
        case "zlib": self = .standard
        default:
            let parts = text.split(separator: ":", omittingEmptySubsequences: false)
            // Int32 would also take a sign and zeros in front.
            guard parts.count == 2, parts[0] == "zlib", parts[1].utf8.count == 1, let level = Int32(parts[1]), level > 0
            else {
                throw .text(what: "compression: none, zlib or zlib:1 to zlib:9", String(text.prefix(80)))
            }
            self = .zlib(level: level)
        }
    }

    package var description: String {
        switch self {
        case .none: "none"
        case .zlib(let level): "zlib:\(level)"
        }
    }
}

package enum Deflate {
    /// zlib's one-shot form (RFC 1950). nil when the result would not be smaller than the input.
    package static func compress(_ raw: UnsafeRawBufferPointer, level: Int32) -> [UInt8]? {
        // Below this the header and checksum of zlib eat what is gained.
        guard raw.count >= 64 else { return nil }
        var result: [UInt8]?
        let capacity = raw.count - 1
        let stored = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            var length = uLongf(capacity)
            let code = compress2(
                buffer.baseAddress, &length, raw.baseAddress!.assumingMemoryBound(to: UInt8.self), uLong(raw.count),
                level)
            count = code == Z_OK ? Int(length) : 0
        }
        if !stored.isEmpty { result = stored }
        return result
    }

    /// Whether it is worth trying: films and archives do not shrink, and finding that out costs as much as compressing. A
    /// thirty-second of a large block is looked at, spread over it; what repeats only over longer distances is missed.
    package static func mayShrink(_ raw: UnsafeRawBufferPointer) -> Bool {
        let parts = 8
        let length = 4096
        guard raw.count >= 8 * parts * length else { return true }
        var sample: [UInt8] = []
        sample.reserveCapacity(parts * length)
        for index in 0..<parts {
            let start = (raw.count - length) / (parts - 1) * index
            sample.append(contentsOf: raw[start..<start + length])
        }
        guard let stored = sample.withUnsafeBytes({ compress($0, level: 1) }) else { return false }
        return stored.count < sample.count / 16 * 15
    }

    /// Fills `raw` exactly from all of `stored`; anything else is ``FormatError/codec(what:code:)``.
    package static func decompress(
        _ stored: UnsafeRawBufferPointer, into raw: UnsafeMutableRawBufferPointer
    ) throws(FormatError) {
        var length = uLongf(raw.count)
        guard let source = stored.baseAddress, let target = raw.baseAddress else {
            throw .codec(what: "compressed block", code: Z_DATA_ERROR)
        }
        var used = uLong(stored.count)
        let code = uncompress2(
            target.assumingMemoryBound(to: UInt8.self), &length, source.assumingMemoryBound(to: UInt8.self), &used)
        guard code == Z_OK, Int(length) == raw.count, Int(used) == stored.count else {
            throw .codec(what: "compressed block", code: code == Z_OK ? Z_DATA_ERROR : code)
        }
    }
}

/// CRC-32 of IEEE 802.3, as zlib's `crc32` gives it.
package func crc32(_ parts: UnsafeRawBufferPointer...) -> UInt32 {
    var sum = uLong(0)
    for part in parts where !part.isEmpty {
        sum = crc32_z(sum, part.baseAddress!.assumingMemoryBound(to: UInt8.self), part.count)
    }
    return UInt32(truncatingIfNeeded: sum)
}
