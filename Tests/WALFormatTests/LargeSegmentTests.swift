import Dispatch
import Synchronization
import Testing
import WALFormat
import WALTestKit

/// A segment of 64 KiB as it is on disk, with each single bit of it flipped and at each length: none is taken for whole.
@Suite(.hangLimit) struct LargeSegmentTests {
    private static let byteCount = 64 << 10

    /// Three files whose content nothing makes smaller.
    private static func segment(_ count: Int) -> [UInt8] {
        var random = SeededRandom(seed: 64)
        var writer = ChangeWriter()
        for (object, count) in [(UInt64(2), 20_000), (3, 30_000), (4, count)] {
            let content = random.bytes(count)
            writer.beginFile(object, Metadata(mode: 0o644, uid: 0, gid: 0, mtime: .zero))
            content.withUnsafeBytes { writer.data($0) }
            writer.endFile(size: UInt64(count), digest: Digest(of: content))
            writer.bind(parent: .root, Name(trusted: Array("file-\(object)".utf8)), object)
        }
        let context = SegmentContext(
            history: HistoryID(Digest(of: [6, 4])), epoch: 3,
            previous: Position(epoch: 2, seq: 63, chain: Digest(of: [1])), captureTime: 1, treeDigest: Digest(of: [2]),
            lastObject: 4, flags: .fuzzy)
        return Segment(writer, context: context, compression: .standard).bytes
    }

    private static let bytes: [UInt8] = {
        let others = segment(15_000).count - 15_000
        // A length may take a byte more or less than it did there.
        return (-4...4).map { segment(byteCount - others + $0) }.first { $0.count == byteCount } ?? []
    }()

    /// Halves of the work side by side: two cores are what there is.
    private func concurrently(_ count: Int, _ body: @Sendable (Int, inout [UInt8]) -> Bool) -> [Int] {
        let accepted = Mutex<[Int]>([])
        DispatchQueue.concurrentPerform(iterations: 16) { part in
            var bytes = Self.bytes
            for index in count * part / 16..<count * (part + 1) / 16 where body(index, &bytes) {
                accepted.withLock { $0.append(index) }
            }
        }
        return accepted.withLock { $0 }
    }

    private static func isWhole(_ bytes: [UInt8]) -> Bool { (try? Segment(verifying: bytes)) != nil }

    @Test func everyBit() throws {
        #expect(Self.bytes.count == Self.byteCount && Self.isWhole(Self.bytes))
        let accepted = concurrently(Self.byteCount * 8) { bit, bytes in
            bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            defer { bytes[bit / 8] ^= 1 << UInt8(bit % 8) }
            return Self.isWhole(bytes)
        }
        #expect(accepted.isEmpty, "bits \(accepted.prefix(20)) of \(accepted.count)")
    }

    /// Cut off, and with zeros in place of what was cut off, as a disk may leave it.
    @Test func everyLength() throws {
        let whole = Self.bytes
        let accepted = concurrently(Self.byteCount) { count, _ in Self.isWhole(Array(whole[..<count])) }
        #expect(accepted.isEmpty, "lengths \(accepted.prefix(20)) of \(accepted.count)")
        let filled = concurrently(Self.byteCount) { count, bytes in
            guard bytes[(Self.byteCount - 1 - count)...].contains(where: { $0 != 0 }) else { return false }
            bytes[Self.byteCount - 1 - count] = 0
            return bytes != whole && Self.isWhole(bytes)
        }
        #expect(filled.isEmpty, "zeros of \(filled.prefix(20)) bytes, \(filled.count)")
    }

    /// One bit of each field of the header, which then has the right checksum: fields whose values are all valid are told
    /// by the chain.
    @Test(arguments: [
        ("magic", 0), ("version", 8), ("length", 10), ("flags", 12), ("history", 16), ("epoch", 32), ("seq", 40),
        ("previous chain", 48), ("capture time", 64), ("tree digest", 72), ("raw bytes", 88), ("stored bytes", 96),
        ("entries", 104), ("blocks", 108), ("last object", 112), ("reserved", 120), ("checksum", 124),
    ])
    func everyFieldOfTheHeader(field: String, offset: Int) throws {
        for bit in 0..<8 {
            var bytes = Self.bytes
            bytes[offset] ^= 1 << UInt8(bit)
            if offset < 124 {
                let sum = bytes[..<124].withUnsafeBytes { crc32($0) }
                withUnsafeBytes(of: sum.littleEndian) { bytes.replaceSubrange(124..<128, with: $0) }
            }
            #expect(throws: FormatError.self, "bit \(bit) of \(field)") { try Segment(verifying: bytes) }
        }
    }
}
