/// Collects the rules of a filter in the order in which a person gives them, in the forms that rsync(1) takes.
package struct FilterRules: Sendable {
    /// Why something is no rule, as the end of a line for a person.
    package struct Wrong: Error, Sendable, CustomStringConvertible {
        package var description: String

        init(_ description: String) {
            self.description = description
        }
    }

    private var text: [UInt8] = []

    package init() {}

    /// The filter that the rules make.
    package var filter: Filter {
        get throws(Wrong) {
            do { return try Filter(text: text) } catch { throw Wrong("\(error)") }
        }
    }

    /// `--include` and `--exclude`: a pattern; or, as rsync has it since its beginnings, a `!`, which forgets all rules
    /// before it, or a pattern with its own `+ ` or `- `.
    package mutating func option(isInclude: Bool, _ value: [UInt8]) throws(Wrong) {
        if value == [0x21] {
            text = []
        } else if value.starts(with: [0x2B, 0x20]) || value.starts(with: [0x2D, 0x20]) {
            try add(isInclude: value[0] == 0x2B, value.dropFirst(2))
        } else {
            try add(isInclude: isInclude, value[...])
        }
    }

    /// A file of rules. What is wrong with it is said with the number of the line, from 1 on.
    package mutating func file(_ content: [UInt8]) throws(Wrong) {
        // What ends a line for rsync.
        let lines = content.split(omittingEmptySubsequences: false) { $0 == 0x0A || $0 == 0x0D }
        var number = 0
        for line in lines {
            // A carriage return and a line feed end one line.
            let start = line.startIndex
            if start < 2 || content[start - 2] != 0x0D || content[start - 1] != 0x0A { number += 1 }
            do throws(Wrong) { try self.line(line) } catch { throw Wrong("\(number): \(error)") }
        }
    }

    private static let supported =
        "a line is '- PATTERN', '+ PATTERN', 'exclude PATTERN', 'include PATTERN', '!', 'clear', empty, or a comment "
        + "that begins with # or ;"

    private mutating func line(_ line: ArraySlice<UInt8>) throws(Wrong) {
        guard let first = line.first, first != 0x23, first != 0x3B else { return }
        let words: [(word: String, isInclude: Bool?)] = [
            ("exclude", false), ("include", true), ("clear", nil), ("-", false), ("+", true), ("!", nil),
        ]
        for (word, isInclude) in words where line.starts(with: word.utf8) {
            let rest = line.dropFirst(word.utf8.count)
            if let isInclude {
                guard let space = rest.first, space == 0x20 || space == 0x5F else { break }
                try add(isInclude: isInclude, rest.dropFirst())
            } else {
                guard rest.isEmpty else { break }
                text = []
            }
            return
        }
        throw Wrong("'\(PathText.escaped(line.prefix(80)))' is no rule; \(Self.supported)")
    }

    private mutating func add(isInclude: Bool, _ pattern: ArraySlice<UInt8>) throws(Wrong) {
        guard !pattern.isEmpty else { throw Wrong("the pattern is empty") }
        guard !pattern.contains(0), !pattern.contains(0x0A) else {
            throw Wrong(
                "the pattern '\(PathText.escaped(pattern.prefix(80)))' holds a line feed or a NUL; use ? for it")
        }
        guard pattern.count <= Limits.maxPatternBytes else {
            throw Wrong("a pattern has \(pattern.count) bytes, at most \(Limits.maxPatternBytes) are possible")
        }
        text += [isInclude ? 0x2B : 0x2D, 0x20] + pattern + [0x0A]
        guard text.count <= Limits.maxFilterBytes else {
            throw Wrong("a filter has at most \(Limits.maxFilterBytes) bytes")
        }
    }
}
