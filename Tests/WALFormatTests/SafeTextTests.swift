import Testing
import WALFormat

@Suite struct SafeTextTests {
    @Test func controlCharactersBecomeSpaces() {
        #expect(SafeText.oneLine("plain \u{E4}") == "plain \u{E4}")
        #expect(SafeText.oneLine("a\nb\r\n\u{1B}[2J\u{7F}\u{85}\u{9B}c") == "a b   [2J   c")
    }

    @Test func jsonEscapesWhatItMayLeave() {
        let text = Array("{\"a\":\"\u{7F}\u{80}\u{9F}\u{A0}\u{E4}\"}".utf8)
        #expect(String(decoding: SafeText.json(text), as: UTF8.self) == "{\"a\":\"\\u007f\\u0080\\u009f\u{A0}\u{E4}\"}")
        // Of a longer sequence these bytes are a part.
        #expect(SafeText.json(Array("\u{1085}\u{1F480}".utf8)) == Array("\u{1085}\u{1F480}".utf8))
    }
}
