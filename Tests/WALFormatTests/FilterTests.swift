import Foundation
import Testing
import WALFormat
import WALTestKit

/// Rules as rsync(1) has them; `FilterDifferentialTests` asks rsync itself.
@Suite struct FilterTests {
    private func filter(_ lines: String...) throws -> FilterMatcher {
        try Filter(text: Array(lines.map { $0 + "\n" }.joined().utf8)).matcher
    }

    private func excludes(_ filter: FilterMatcher, _ path: String) throws -> Bool {
        let isDirectory = path.hasSuffix("/")
        let names = try path.split(separator: "/").map { try Name(Array($0.utf8)) }
        let last = try #require(names.last)
        return filter.excludes(last, in: Filter.prefix(of: names.dropLast()), isDirectory: isDirectory)
    }

    /// `path` ends with a slash for a directory; its directories are not looked at.
    @Test(arguments: [
        ("foo", "foo", true), ("foo", "a/foo", true), ("foo", "foo/a", false), ("foo", "xfoo", false),
        ("/foo", "foo", true), ("/foo", "a/foo", false), ("foo/", "foo/", true), ("foo/", "foo", false),
        ("foo/bar", "foo/bar", true), ("foo/bar", "a/foo/bar", true), ("foo/bar", "xfoo/bar", false),
        ("/foo/bar", "a/foo/bar", false), ("*", "any", true), ("*.o", "a/b.o", true), ("*.o", "a.o/b", false),
        ("?.o", "a.o", true), ("?.o", ".o", false), ("foo/*/bar", "foo/x/bar", true),
        ("foo/*/bar", "y/foo/x/bar", true),
        ("foo/*/bar", "foo/x/y/bar", false), ("foo/*", "bar", false), ("/foo/*/bar", "foo/x/y/bar", false),
        ("/*", "foo", true), ("/*", "foo/bar", false), ("/foo/**/bar", "foo/x/bar", true),
        ("/foo/**/bar", "foo/x/y/bar", true), ("/foo/**/bar", "foo/bar", false), ("foo/**", "a/foo/b/c", true),
        ("foo/**", "foo/", false), ("/foo/***", "foo/", true), ("/foo/***", "foo/a/b", true),
        ("/foo/***", "foo", false),
        ("**/foo", "foo", true), ("**/foo", "a/b/foo", true), ("**foo", "a/bfoo", true), ("a**z", "x/a/b/z", true),
        ("[a-c]", "b", true), ("[a-c]", "d", false), ("[!a-c]", "d", true), ("[^a-c]", "b", false),
        ("[]x]", "]", true), ("[a-]", "-", true), ("[[:digit:]]", "7", true), ("[[:digit:]]", "x", false),
        ("[![:space:]]", "x", true), ("[[:nothing:]]", "x", false), ("[a", "a", false), ("[c-a]", "b", false),
        ("[[:x]", ":", true), ("a\\b", "a\\b", true), ("a\\b*", "ab", true), ("a\\\\b*", "a\\b", true),
        ("\\*", "*", true), ("\\*", "x", false), ("x\\", "x\\", true), ("*\\", "x\\", false), ("x ", "x", false),
        ("foo//", "foo/", false), ("/", "a", false), ("a[/]b", "a/b", false), ("a?b/c", "a/b/c", false),
    ])
    func pattern(pattern: String, path: String, matches: Bool) throws {
        #expect(try excludes(filter("- " + pattern), path) == matches)
        #expect(try !excludes(filter("+ " + pattern, "- *"), path) == matches)
    }

    @Test func firstMatchCountsAndDefaultIsIncluded() throws {
        let filter = try filter("+ keep.o", "- *.o", "+ other.o")
        #expect(try !excludes(filter, "keep.o") && excludes(filter, "other.o") && !excludes(filter, "file"))
        #expect(!filter.looksAtPaths && !filter.isEmpty && Filter.none.isEmpty && Filter.none.matcher.isEmpty)
        #expect(try self.filter("- a", "- b/c").looksAtPaths && self.filter("- x**").looksAtPaths)
    }

    @Test func nothingIsBelowAnExcludedDirectory() throws {
        let filter = try filter("- /cache/", "+ /cache/keep")
        let path = [Name("cache"), Name("keep")]
        #expect(filter.excludes(path: path, isDirectory: false))
        #expect(!filter.excludes(path: [Name("keep")], isDirectory: false))
    }

    @Test func namesAreBytes() throws {
        let filter = try Filter(text: [0x2D, 0x20, 0xE9, 0x2A, 0x0A])
        #expect(filter.matcher.excludes(Name(trusted: [0xE9, 0x0A, 0xFF]), in: [], isDirectory: false))
        #expect(!filter.matcher.excludes(Name(trusted: [0xC3, 0xA9]), in: [], isDirectory: false))
        #expect(filter.lines == ["- \\xe9*"])
        #expect(try Filter(lines: filter.lines) == filter)
    }

    /// What makes a backtracking matcher take longer than the universe lasts.
    @Test func hostilePatternsTakeLinearTime() throws {
        let stars = Array(String(repeating: "*a", count: 2000).utf8) + [0x62]
        let double = Array(String(repeating: "**a", count: 1300).utf8) + [0x62]
        let filter = try Filter(text: [0x2D, 0x20] + stars + [0x0A, 0x2D, 0x20] + double + [0x0A]).matcher
        let name = Name(trusted: [UInt8](repeating: 0x61, count: 255))
        let directory = Filter.prefix(of: [Name](repeating: name, count: 16))
        let clock = ContinuousClock()
        let elapsed = clock.measure { #expect(!filter.excludes(name, in: directory, isDirectory: true)) }
        #expect(elapsed < .seconds(10))
    }

    // MARK: What people write

    private func rules(_ file: String) throws(FilterRules.Wrong) -> [String] {
        var rules = FilterRules()
        try rules.file(Array(file.utf8))
        return try rules.filter.lines
    }

    @Test func file() throws {
        let text = "# comment\n; another\n\n- *.o\r\n+ keep me \nexclude_tmp/\ninclude x\n-_y\n- - z"
        #expect(try rules(text) == ["- *.o", "+ keep me ", "- tmp/", "+ x", "- y", "- - z"])
        #expect(try rules("- a\nclear\n- b\n!\n- c\n") == ["- c"])
        #expect(try rules("") == [])
    }

    @Test(arguments: [
        ("- a\n. other", "2: '. other' is no rule"), ("merge x", "1: 'merge x'"), ("dir-merge .f", "1: "),
        ("\r\n\r\n: .f", "3: ': .f'"), ("H x", "1: "), ("S x", "1: "), ("P x", "1: "), ("R x", "1: "),
        ("-! x", "1: '-! x'"), ("-s x", "1: "), ("exclude,! x", "1: "), ("hide x", "1: "), ("#a\n x", "2: ' x'"),
        ("! x", "1: "), ("clearly", "1: "), ("excluded", "1: "), ("-", "1: "), ("- ", "1: the pattern is empty"),
        ("- \u{0}", "1: the pattern"), ("caf\u{7}", "1: 'caf\\x07'"),
    ])
    func wrongFile(text: String, error: String) {
        let found = #expect(throws: FilterRules.Wrong.self) { try rules(text) }
        #expect(found?.description.hasPrefix(error) == true, "\(String(describing: found))")
    }

    @Test func options() throws {
        var rules = FilterRules()
        try rules.option(isInclude: false, Array("lost".utf8))
        try rules.option(isInclude: false, [0x21])
        try rules.option(isInclude: false, Array("+ a".utf8))
        try rules.option(isInclude: true, Array("- b".utf8))
        try rules.option(isInclude: true, Array("!c".utf8))
        #expect(try rules.filter.lines == ["+ a", "- b", "+ !c"])
        #expect(throws: FilterRules.Wrong.self) { try rules.option(isInclude: true, []) }
        let long = [UInt8](repeating: 0x61, count: Limits.maxPatternBytes)
        #expect(throws: FilterRules.Wrong.self) { try rules.option(isInclude: true, long + [0x61]) }
        #expect(throws: FilterRules.Wrong.self) {
            for _ in 0..<20 { try rules.option(isInclude: true, long) }
        }
    }

    @Test func tooManyRules() throws {
        var rules = FilterRules()
        for _ in 0...Limits.maxFilterRules { try rules.option(isInclude: true, [0x61]) }
        #expect(throws: FilterRules.Wrong.self) { try rules.filter }
    }
}
