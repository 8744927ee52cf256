import CZlib
import Testing
import WALFormat
import WALTestKit

@Suite struct CompressionTests {
    @Test(
        arguments: [("none", .none), ("zlib", .standard), ("zlib:1", .zlib(level: 1)), ("zlib:9", .zlib(level: 9))]
            as [(String, Compression)])
    func textIsRead(text: String, compression: Compression) throws {
        #expect(try Compression(text: text) == compression)
        #expect(try Compression(text: compression.description) == compression)
    }

    @Test(arguments: [
        "", "zlib:", "zlib:0", "zlib:10", "zlib:-1", "zlib:+5", "zlib:05", "zlib:5:", "zlib: 5", "ZLIB", "zstd",
        "none:1", ":5", "zlib:\u{665}",
    ])
    func malformedTextIsRefused(text: String) {
        #expect(throws: FormatError.text(what: "compression: none, zlib or zlib:1 to zlib:9", text)) {
            try Compression(text: text)
        }
    }
}

@Suite struct DeflateTests {
    @Test func compressedComesBack() throws {
        var random = SeededRandom()
        for length in [64, 65, 1000, 4096, 65_536, Limits.maxBlockBytes] {
            let raw = SeededRandom.text(length, &random)
            for level: Int32 in [1, 6, 9] {
                let stored = try #require(raw.withUnsafeBytes { Deflate.compress($0, level: level) })
                #expect(stored.count < length, "\(random.reproduce)")
                #expect(firstDifference(try inflate(stored, length), raw) == nil, "\(random.reproduce)")
            }
        }
    }

    /// What does not shrink is stored, also where it would only just fit.
    @Test func whatDoesNotShrinkIsNil() {
        var random = SeededRandom()
        for length in [0, 1, 63, 64, 1000, 65_536] {
            let raw = random.bytes(length)
            #expect(raw.withUnsafeBytes { Deflate.compress($0, level: 9) } == nil, "\(random.reproduce)")
        }
        #expect([UInt8](repeating: 0, count: 63).withUnsafeBytes { Deflate.compress($0, level: 9) } == nil)
    }

    @Test func onlyLargeNoiseIsNotTried() {
        var random = SeededRandom()
        let noise = random.bytes(Limits.maxBlockBytes)
        #expect(!noise.withUnsafeBytes { Deflate.mayShrink($0) }, "\(random.reproduce)")
        #expect(noise[..<200_000].withUnsafeBytes { Deflate.mayShrink($0) }, "\(random.reproduce)")
        let text = SeededRandom.text(Limits.maxBlockBytes, &random)
        #expect(text.withUnsafeBytes { Deflate.mayShrink($0) }, "\(random.reproduce)")
        // A quarter of text in noise is worth it wherever it stands.
        for start in [0, 300_000, 786_432] {
            var mixed = noise
            mixed.replaceSubrange(start..<start + 262_144, with: text[..<262_144])
            #expect(mixed.withUnsafeBytes { Deflate.mayShrink($0) }, "at \(start), \(random.reproduce)")
        }
        for length in 262_144...262_150 {
            #expect(!noise[..<length].withUnsafeBytes { Deflate.mayShrink($0) }, "\(random.reproduce)")
        }
    }

    @Test func everyByteMustBeUsedAndFilled() throws {
        var random = SeededRandom()
        let raw = SeededRandom.text(1000, &random)
        let stored = try #require(raw.withUnsafeBytes { Deflate.compress($0, level: 1) })
        #expect(throws: FormatError.codec(what: "compressed block", code: Z_DATA_ERROR)) { try inflate(stored, 1001) }
        #expect(throws: FormatError.codec(what: "compressed block", code: Z_BUF_ERROR)) { try inflate(stored, 999) }
        #expect(throws: FormatError.codec(what: "compressed block", code: Z_DATA_ERROR)) {
            try inflate(stored + [0], 1000)
        }
        for length in 0..<stored.count {
            #expect(throws: FormatError.self) { try inflate(Array(stored[..<length]), 1000) }
        }
    }

    /// A dictionary that nobody has, a wrong checksum, and noise.
    @Test func garbageIsRefused() throws {
        var random = SeededRandom()
        for _ in 0..<2000 {
            let length = random.int(in: 1...200)
            let noise = random.bytes(length)
            // One in 2^32 would have a right Adler-32.
            #expect(throws: FormatError.self, "\(random.reproduce)") { try inflate(noise, length + 1) }
        }
        #expect(throws: FormatError.self) { try inflate([0x78, 0xBB, 0, 0, 0, 1], 10) }
    }

    private func inflate(_ stored: [UInt8], _ length: Int) throws(FormatError) -> [UInt8] {
        var raw = [UInt8](repeating: 0xAA, count: length)
        var failure: FormatError?
        stored.withUnsafeBytes { source in
            raw.withUnsafeMutableBytes { target in
                do throws(FormatError) { try Deflate.decompress(source, into: target) } catch { failure = error }
            }
        }
        if let failure { throw failure }
        return raw
    }
}

@Suite struct ChecksumTests {
    /// The check value of CRC-32/ISO-HDLC.
    @Test func knownVector() {
        #expect(Array("123456789".utf8).withUnsafeBytes { WALFormat.crc32($0) } == 0xCBF4_3926)
        #expect([UInt8]().withUnsafeBytes { WALFormat.crc32($0) } == 0)
    }

    @Test func partsAreOneStream() {
        let bytes = Array("123456789".utf8)
        for cut in 0...bytes.count {
            let sum = bytes.withUnsafeBytes { all in
                WALFormat.crc32(
                    UnsafeRawBufferPointer(rebasing: all[..<cut]), UnsafeRawBufferPointer(rebasing: all[cut...]))
            }
            #expect(sum == 0xCBF4_3926)
        }
    }
}

extension SeededRandom {
    /// Bytes that compress: words drawn from a few.
    static func text(_ length: Int, _ random: inout SeededRandom) -> [UInt8] {
        let words = ["segment ", "epoch ", "chain ", "durable ", "applied\n"].map { Array($0.utf8) }
        var text: [UInt8] = []
        while text.count < length { text += words.randomElement(using: &random)! }
        return Array(text[..<length])
    }
}
