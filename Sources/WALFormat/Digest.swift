import CXXHash

/// 128 bits of XXH3 (https://github.com/Cyan4973/xxHash, XXH3_128bits with seed 0), or a sum of such. It finds accidents
/// and divergence; it is no defence against somebody who makes collisions on purpose.
package struct Digest: Hashable, Sendable {
    package var high: UInt64
    package var low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    package static let zero = Digest(high: 0, low: 0)
    package static let byteCount = 16

    package init(of bytes: UnsafeRawBufferPointer) {
        let hash = XXH3_128bits(bytes.baseAddress, bytes.count)
        self.init(high: hash.high64, low: hash.low64)
    }

    package init(of bytes: [UInt8]) {
        self = bytes.withUnsafeBytes { Digest(of: $0) }
    }

    /// Its last four bytes: enough against accidents for what is checked once and then forgotten.
    package var short: UInt32 { UInt32(truncatingIfNeeded: low) }

    /// 32 hexadecimal digits, most significant first, as `xxh128sum` prints them.
    package init(text: some StringProtocol) throws(FormatError) {
        let digits = Array(text.utf8)
        guard digits.count == 32, let high = UInt64(String(text.prefix(16)), radix: 16),
            let low = UInt64(String(text.dropFirst(16)), radix: 16), digits.allSatisfy({ $0 != 0x2B && $0 != 0x2D })
        else { throw .text(what: "digest of 32 hexadecimal digits", String(text.prefix(80))) }
        self.init(high: high, low: low)
    }

    /// Sums are taken modulo 2^128, so that the order in which parts are added does not matter and each can be taken
    /// out again.
    package static func &+= (left: inout Digest, right: Digest) {
        let (low, carry) = left.low.addingReportingOverflow(right.low)
        left.low = low
        left.high = left.high &+ right.high &+ (carry ? 1 : 0)
    }

    package static func &-= (left: inout Digest, right: Digest) {
        let (low, borrow) = left.low.subtractingReportingOverflow(right.low)
        left.low = low
        left.high = left.high &- right.high &- (borrow ? 1 : 0)
    }

    /// 16 bytes, most significant first (the canonical form of xxHash).
    package var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.digest(self)
        return writer.bytes
    }

    /// nil unless there are exactly 16 bytes.
    package init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count == Digest.byteCount else { return nil }
        self.init(
            high: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
            low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }
}

extension Digest: CustomStringConvertible {
    package var description: String {
        func padded(_ value: UInt64) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        return padded(high) + padded(low)
    }
}
