import Testing
import WALCommand

@Suite struct QuotedWordsTests {
    @Test(arguments: [
        ("", []), ("  ", []), ("/a", ["/a"]), (" /a  b\tc ", ["/a", "b", "c"]), ("/a 'b c' d", ["/a", "b c", "d"]),
        ("/a \"b 'c\"", ["/a", "b 'c"]), ("/a ''", ["/a", ""]), ("/a b\\ c", ["/a", "b c"]), ("/a '\\'", ["/a", "\\"]),
        ("/a \"\\\"\\\\\\n\"", ["/a", "\"\\\\n"]), ("/a b'c'd", ["/a", "bcd"]),
        ("/a $(b) `c` *", ["/a", "$(b)", "`c`", "*"]),
    ]) func words(text: String, words: [String]) {
        #expect(QuotedWords.split(text) == words)
    }

    @Test(arguments: ["'", "/a \"b", "/a b\\", "/a 'b\\'c'"]) func unfinished(text: String) {
        #expect(QuotedWords.split(text) == nil)
    }
}
