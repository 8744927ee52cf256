/// What of a tree is replicated: rules in rsync's language, of which the first that matches a name counts. What none
/// matches is included. What is below an excluded directory is not there, whatever later rules say of it.
///
/// Its text is its one canonical form: a line for each rule, `+ ` or `- ` and the pattern. A history has one filter at a
/// time, and it is part of the tree digest.
package struct Filter: Hashable, Sendable {
    package let text: [UInt8]

    package static let none = Filter(trusted: [])

    package var isEmpty: Bool { text.isEmpty }

    /// Throws where that is not the canonical form, or beyond a limit.
    package init(text: [UInt8]) throws(FormatError) {
        guard text.count <= Limits.maxFilterBytes else {
            throw .limit("bytes of a filter", value: UInt64(text.count), limit: UInt64(Limits.maxFilterBytes))
        }
        guard text.isEmpty || text.last == 0x0A else { throw .value(what: "end of a filter", UInt64(text.last ?? 0)) }
        var count = 0
        for line in text.split(separator: 0x0A, omittingEmptySubsequences: false).dropLast() {
            count += 1
            guard count <= Limits.maxFilterRules else {
                throw .limit("rules of a filter", value: UInt64(count), limit: UInt64(Limits.maxFilterRules))
            }
            guard line.count > 2, line.first == 0x2B || line.first == 0x2D, line.dropFirst().first == 0x20,
                !line.contains(0)
            else { throw .value(what: "rule of a filter", UInt64(count)) }
            guard line.count - 2 <= Limits.maxPatternBytes else {
                throw .limit(
                    "bytes of a pattern", value: UInt64(line.count - 2), limit: UInt64(Limits.maxPatternBytes))
            }
        }
        self.init(trusted: text)
    }

    private init(trusted text: [UInt8]) {
        self.text = text
    }

    /// The rules as people see them.
    package var lines: [String] {
        text.split(separator: 0x0A).map { PathText.escaped($0) }
    }

    /// The inverse of ``lines``.
    package init(lines: [String]) throws(FormatError) {
        var text: [UInt8] = []
        for line in lines {
            guard let bytes = PathText.unescaped(line) else { throw .text(what: "rule of a filter", line) }
            text += bytes + [0x0A]
        }
        try self.init(text: text)
    }

    /// Made anew at each call: whoever looks at many names keeps it. It takes some forty times the memory of the text, so
    /// none is made of what a peer has sent before that is in force.
    package var matcher: FilterMatcher { FilterMatcher(self) }

    /// `directory` of ``FilterMatcher/excludes(_:in:isDirectory:)``.
    package static func prefix(of path: [Name]) -> [UInt8] {
        var bytes: [UInt8] = []
        for name in path {
            bytes += name.bytes
            bytes.append(0x2F)
        }
        return bytes
    }
}

/// A filter that is ready to be asked.
package struct FilterMatcher: Sendable {
    private struct Rule: Sendable {
        var isInclude: Bool
        var pattern: FilterPattern
    }

    private let rules: [Rule]
    /// Some rule looks at the path of a name and not only at its last component.
    package let looksAtPaths: Bool

    fileprivate init(_ filter: Filter) {
        rules = filter.text.split(separator: 0x0A).map { line in
            Rule(isInclude: line.first == 0x2B, pattern: FilterPattern(Array(line.dropFirst(2))))
        }
        looksAtPaths = rules.contains { $0.pattern.isOfPaths }
    }

    package var isEmpty: Bool { rules.isEmpty }

    /// Of a name in a directory that is not excluded itself.
    ///
    /// - Parameter directory: the path from the root to the directory that the name is in, with a slash at its end; empty
    ///   for the root, and where no rule ``looksAtPaths``.
    package func excludes(_ name: Name, in directory: [UInt8], isDirectory: Bool) -> Bool {
        guard looksAtPaths, !directory.isEmpty else {
            return name.bytes.withUnsafeBytes { excludes(path: $0, name: $0, isDirectory) }
        }
        return (directory + name.bytes).withUnsafeBytes { path in
            excludes(path: path, name: UnsafeRawBufferPointer(rebasing: path[directory.count...]), isDirectory)
        }
    }

    private func excludes(path: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer, _ isDirectory: Bool) -> Bool {
        for rule in rules where rule.pattern.matches(path: path, name: name, isDirectory: isDirectory) {
            return !rule.isInclude
        }
        return false
    }

    /// Of a path whose directories are looked at, too, from the root on.
    package func excludes(path: [Name], isDirectory: Bool) -> Bool {
        var directory: [UInt8] = []
        for (index, name) in path.enumerated() {
            if excludes(name, in: directory, isDirectory: index + 1 < path.count || isDirectory) { return true }
            directory += name.bytes + [0x2F]
        }
        return false
    }
}
