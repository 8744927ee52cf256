import Testing
import WALFormat
import WALTestKit

@Suite struct NameTests {
    @Test(
        arguments: [
            [0x61], [0x2E, 0x61], [0x2E, 0x2E, 0x2E], [0x20], [0x0A], [0x5C], [0xFF, 0xFE], [0x01],
            [UInt8](repeating: 0x61, count: 255),
        ] as [[UInt8]])
    func validName(bytes: [UInt8]) throws {
        #expect(Name.isValid(bytes))
        #expect(try Name(bytes).bytes == bytes)
    }

    @Test(
        arguments: [
            [], [0x2E], [0x2E, 0x2E], [0x2F], [0x61, 0x2F], [0x2F, 0x61], [0x61, 0x2F, 0x62], [0x00], [0x61, 0x00],
            [UInt8](repeating: 0x61, count: 256),
        ] as [[UInt8]])
    func invalidName(bytes: [UInt8]) {
        #expect(!Name.isValid(bytes))
        #expect(throws: FormatError.name(bytes)) { try Name(bytes) }
    }

    @Test func orderIsThatOfBytes() {
        let names = [Name("Z"), Name("a"), Name("aa"), Name("b"), Name("\u{E9}")]
        #expect(names.shuffled().sorted() == names)
    }
}

@Suite struct PathTextTests {
    @Test(arguments: [
        ("plain name.txt", "plain name.txt"), ("", ""), ("a\nb", "a\\x0ab"), ("back\\slash", "back\\x5cslash"),
        ("\u{7F}", "\\x7f"), ("Größe/東京/🙂", "Größe/東京/🙂"), ("\u{9B}31m", "\\xc2\\x9b31m"), ("\u{A0}", "\u{A0}"),
        ("tab\tand\u{1B}[0m", "tab\\x09and\\x1b[0m"),
        ("\u{202E}gpj.exe", "\\xe2\\x80\\xaegpj.exe"), ("\u{2028}", "\\xe2\\x80\\xa8"), ("\u{61C}a", "\\xd8\\x9ca"),
        ("a\u{200D}b\u{FEFF}", "a\u{200D}b\u{FEFF}"),
    ])
    func escapedText(path: String, text: String) {
        #expect(PathText.escaped(Array(path.utf8)) == text)
    }

    /// Table 3-7 of Unicode: overlong forms, surrogates, what lies beyond U+10FFFF, and sequences that end too soon.
    @Test(
        arguments: [
            ([0xFF], "\\xff"), ([0xC3], "\\xc3"), ([0xC0, 0xAF], "\\xc0\\xaf"),
            ([0xE0, 0x80, 0xAF], "\\xe0\\x80\\xaf"),
            ([0xED, 0xA0, 0x80], "\\xed\\xa0\\x80"), ([0xF4, 0x90, 0x80, 0x80], "\\xf4\\x90\\x80\\x80"),
            ([0xE2, 0x82], "\\xe2\\x82"), ([0xE2, 0x82, 0x41], "\\xe2\\x82A"), ([0x80, 0xC3, 0xA9], "\\x80é"),
            ([0xF0, 0x9F, 0x99], "\\xf0\\x9f\\x99"),
        ] as [([UInt8], String)])
    func bytesThatAreNotUTF8(bytes: [UInt8], text: String) {
        #expect(PathText.escaped(bytes) == text)
        #expect(PathText.unescaped(text) == bytes)
    }

    @Test func anyBytesComeBackFromOneLine() {
        var random = SeededRandom()
        // Bytes around the borders of UTF-8's ranges, where random ones alone would rarely meet.
        let borders: [UInt8] = [
            0x00, 0x0A, 0x1F, 0x20, 0x41, 0x5C, 0x78, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0,
            0xE1, 0xED, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5, 0xFF,
        ]
        for round in 0..<20_000 {
            let count = random.int(in: 0...40)
            let bytes =
                round % 2 == 0 ? random.bytes(count) : (0..<count).map { _ in borders.randomElement(using: &random)! }
            let text = PathText.escaped(bytes)
            #expect(PathText.unescaped(text) == bytes, "\(random.reproduce)")
            let controls = text.unicodeScalars.filter { $0.properties.generalCategory == .control }
            #expect(controls.isEmpty, "\(random.reproduce)")
        }
    }

    @Test func digitsOfEitherCaseAreRead() {
        #expect(PathText.unescaped("\\xAb\\xaB") == [0xAB, 0xAB])
    }

    @Test(arguments: ["\\", "\\x", "\\x4", "\\n", "\\\\", "a\\xg0", "\\x0g", "\\X41", "\\x+1"])
    func malformedEscapeIsRefused(text: String) {
        #expect(PathText.unescaped(text) == nil)
    }
}
