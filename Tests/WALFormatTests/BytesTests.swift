import Testing
import WALFormat
import WALTestKit

@Suite struct BytesTests {
    @Test func integersAreLittleEndian() throws {
        var writer = ByteWriter()
        writer.integer(UInt8(0x01))
        writer.integer(UInt16(0x0203))
        writer.integer(UInt32(0x0405_0607))
        writer.integer(Int64(-2))
        #expect(writer.bytes == [0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0xFE] + [UInt8](repeating: 0xFF, count: 7))
        try writer.bytes.withBytes { bytes throws(FormatError) in
            var reader = ByteReader(bytes, what: "test")
            #expect(try reader.integer(UInt8.self) == 0x01)
            #expect(try reader.integer(UInt16.self) == 0x0203)
            #expect(try reader.integer(UInt32.self) == 0x0405_0607)
            #expect(try reader.integer(Int64.self) == -2)
            try reader.expectEnd()
        }
    }

    @Test(
        arguments: [
            (0, [0x00]), (1, [0x01]), (127, [0x7F]), (128, [0x80, 0x01]), (300, [0xAC, 0x02]),
            (16384, [0x80, 0x80, 0x01]),
            (UInt64.max, [UInt8](repeating: 0xFF, count: 9) + [0x01]),
        ] as [(UInt64, [UInt8])])
    func varintOfKnownValue(value: UInt64, bytes: [UInt8]) throws {
        var writer = ByteWriter()
        writer.varint(value)
        #expect(writer.bytes == bytes)
        #expect(try reading(bytes) { reader throws(FormatError) in try reader.varint() } == value)
    }

    @Test(
        arguments: [
            (0, [0x00]), (-1, [0x01]), (1, [0x02]), (-64, [0x7F]), (64, [0x80, 0x01]),
            (Int64.max, [0xFE] + [UInt8](repeating: 0xFF, count: 8) + [0x01]),
            (Int64.min, [UInt8](repeating: 0xFF, count: 9) + [0x01]),
        ] as [(Int64, [UInt8])])
    func signedVarintOfKnownValue(value: Int64, bytes: [UInt8]) throws {
        var writer = ByteWriter()
        writer.signedVarint(value)
        #expect(writer.bytes == bytes)
        #expect(try reading(bytes) { reader throws(FormatError) in try reader.signedVarint() } == value)
    }

    @Test func scalarsComeBack() throws {
        var random = SeededRandom()
        for _ in 0..<10_000 {
            let number = random.anyUInt64()
            let signed = Int64(bitPattern: random.anyUInt64())
            let digest = Digest(high: random.next(), low: random.next())
            let bytes = random.bytes(random.int(in: 0...300))
            var writer = ByteWriter()
            writer.varint(number)
            writer.signedVarint(signed)
            writer.digest(digest)
            writer.counted(bytes)
            try writer.bytes.withBytes { all throws(FormatError) in
                var reader = ByteReader(all, what: "test")
                #expect(try reader.varint() == number, "\(random.reproduce)")
                #expect(try reader.signedVarint() == signed, "\(random.reproduce)")
                #expect(try reader.digest() == digest, "\(random.reproduce)")
                #expect(try reader.counted("bytes", limit: 300) == bytes, "\(random.reproduce)")
                try reader.expectEnd()
            }
        }
    }

    /// One value has one form; 65 bits do not fit.
    @Test(
        arguments: [
            [0x80, 0x00], [0xFF, 0x80, 0x00], [UInt8](repeating: 0x80, count: 9) + [0x00],
            [UInt8](repeating: 0xFF, count: 9) + [0x02], [UInt8](repeating: 0xFF, count: 9) + [0x81, 0x00],
            [UInt8](repeating: 0x80, count: 11) + [0x01],
        ] as [[UInt8]])
    func overlongVarintIsRefused(bytes: [UInt8]) {
        #expect {
            try reading(bytes) { reader throws(FormatError) in try reader.varint() }
        } throws: { error in
            if case .value(what: "test: variable integer", _) = error as? FormatError { true } else { false }
        }
    }

    @Test func unfinishedVarintIsTruncated() {
        #expect(throws: FormatError.truncated(what: "test", needed: 1, available: 0)) {
            try reading([0xFF, 0x80]) { reader throws(FormatError) in try reader.varint() }
        }
    }

    @Test(arguments: [5, Int.max, -1])
    func takeBeyondTheEndIsTruncated(count: Int) {
        #expect(throws: FormatError.truncated(what: "test", needed: UInt64(clamping: count), available: 4)) {
            try reading([1, 2, 3, 4]) { reader throws(FormatError) in _ = try reader.take(count) }
        }
    }

    /// The limit comes before the bytes: a hostile length is named, not looked for.
    @Test func countBeyondItsLimitIsRefused() {
        var writer = ByteWriter()
        writer.varint(UInt64.max)
        #expect(throws: FormatError.limit("things", value: .max, limit: 9)) {
            try reading(writer.bytes) { reader throws(FormatError) in _ = try reader.counted("things", limit: 9) }
        }
        #expect(throws: FormatError.limit("things", value: 10, limit: 9)) {
            try reading([10]) { reader throws(FormatError) in _ = try reader.count("things", limit: 9) }
        }
        #expect(throws: FormatError.truncated(what: "test", needed: 9, available: 0)) {
            try reading([9]) { reader throws(FormatError) in _ = try reader.countedText("things", limit: 9) }
        }
    }

    @Test func bytesLeftOverAreCounted() {
        #expect(throws: FormatError.trailing(what: "test", bytes: 3)) {
            try reading([1, 2, 3]) { reader throws(FormatError) in try reader.expectEnd() }
        }
    }

    @Test func writerTakesBack() {
        var writer = ByteWriter()
        writer.raw([1, 2, 3])
        writer.truncate(to: 1)
        let written = writer.append(capacity: 100) { buffer in
            buffer[0] = 7
            buffer[1] = 8
            return 2
        }
        #expect(written == 2)
        #expect(writer.bytes == [1, 7, 8])
        struct Refused: Error {}
        #expect(throws: Refused.self) { try writer.append(capacity: 10) { _ in throw Refused() } }
        #expect(writer.bytes == [1, 7, 8])
        writer.overwrite([9, 9], at: 1)
        #expect(writer.bytes == [1, 9, 9])
        writer.removeAll(keepingCapacity: true)
        #expect(writer.count == 0)
    }

    private func reading<R>(
        _ bytes: [UInt8], _ body: (inout ByteReader) throws(FormatError) -> R
    ) throws(FormatError) -> R {
        try bytes.withBytes { all throws(FormatError) in
            var reader = ByteReader(all, what: "test")
            return try body(&reader)
        }
    }
}
