import Testing
import WALFormat
import WALTestKit

@Suite struct DigestTests {
    /// Vectors of XXH3_128bits with seed 0, in the canonical order that `xxh128sum` prints.
    @Test(arguments: [
        ("", "99aa06d3014798d86001c324468d497f"),
        ("a", "a96faf705af16834e6c632b61e964e1f"),
        ("abc", "06b05ab6733a618578af5f94892f3950"),
    ])
    func knownVector(input: String, expected: String) throws {
        let digest = Digest(of: Array(input.utf8))
        #expect(digest.description == expected)
        #expect(try Digest(text: expected) == digest)
    }

    @Test func formsComeBack() throws {
        var random = SeededRandom()
        for _ in 0..<1000 {
            let digest = Digest(high: random.anyUInt64(), low: random.anyUInt64())
            #expect(try Digest(text: digest.description) == digest, "\(random.reproduce)")
            #expect(try Digest(text: digest.description.uppercased()) == digest, "\(random.reproduce)")
            #expect(digest.bytes.withUnsafeBytes { Digest(bytes: $0) } == digest, "\(random.reproduce)")
        }
    }

    @Test func bytesStandAsTheDigitsDo() {
        let digest = Digest(high: 0x0011_2233_4455_6677, low: 0x8899_AABB_CCDD_EEFF)
        #expect(digest.bytes == (0...15).map { UInt8($0 * 0x11) })
        #expect(digest.description == "00112233445566778899aabbccddeeff")
        #expect([UInt8](repeating: 0, count: 15).withUnsafeBytes { Digest(bytes: $0) } == nil)
        #expect([UInt8](repeating: 0, count: 17).withUnsafeBytes { Digest(bytes: $0) } == nil)
    }

    @Test(arguments: [
        "", "0", "99aa06d3014798d86001c324468d497", "99aa06d3014798d86001c324468d497f0",
        "+9aa06d3014798d86001c324468d497f", "99aa06d3014798d8-001c324468d497f", "99aa06d3014798d86001c324468d497g",
        "99aa06d3014798d86001c324468d497\u{301}", "éééééééééééééééé", " 9aa06d3014798d86001c324468d497f",
    ])
    func malformedTextIsRefused(text: String) {
        #expect(throws: FormatError.self) { try Digest(text: text) }
    }

    @Test func sumCarriesFromLowToHigh() {
        var sum = Digest(high: 1, low: .max)
        sum &+= Digest(high: 0, low: 1)
        #expect(sum == Digest(high: 2, low: 0))
        sum &-= Digest(high: 0, low: 1)
        #expect(sum == Digest(high: 1, low: .max))
    }

    @Test func sumIsModulo2To128() {
        var sum = Digest(high: .max, low: .max)
        sum &+= Digest(high: 0, low: 1)
        #expect(sum == .zero)
        sum &-= Digest(high: 0, low: 1)
        #expect(sum == Digest(high: .max, low: .max))
    }

    @Test func sumIsFreeOfOrderAndCanBeTakenBack() {
        var random = SeededRandom()
        let parts = (0..<500).map { _ in Digest(high: random.next(), low: random.next()) }
        var forward = Digest.zero
        for part in parts { forward &+= part }
        var shuffled = Digest.zero
        for part in parts.shuffled(using: &random) { shuffled &+= part }
        #expect(forward == shuffled, "\(random.reproduce)")
        for part in parts.shuffled(using: &random) { forward &-= part }
        #expect(forward == .zero, "\(random.reproduce)")
    }
}
