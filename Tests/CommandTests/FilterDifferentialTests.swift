import Foundation
import Testing
import WALFormat
import WALSystem
import WALTestKit

/// rsync is the specification of its own language: what it transfers under a filter is what the filter does not exclude.
@Suite struct FilterDifferentialTests {
    @Test(arguments: (1...12).map { UInt64($0) })
    func randomFilters(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        try withWorld { world in
            let source = try world.folder("source")
            let paths = try makeTree(source, &random)
            for round in 0..<25 {
                let rules = (0..<random.int(in: 1...6)).map { _ in rule(of: paths.keys.sorted(), &random) }
                let usesFile = random.once(in: 2)
                var made = FilterRules()
                var arguments = ["-a"]
                if usesFile {
                    let file = "\(world.path)/rules"
                    let text = rules.map { "\($0.isInclude ? "+" : "-") \($0.pattern)\n" }.joined()
                    try Data(text.utf8).write(to: URL(filePath: file))
                    try made.file(Array(text.utf8))
                    arguments.append("--filter=merge \(file)")
                } else {
                    for rule in rules {
                        try made.option(isInclude: rule.isInclude, Array(rule.pattern.utf8))
                        arguments.append("--\(rule.isInclude ? "include" : "exclude")=\(rule.pattern)")
                    }
                }
                let filter = try made.filter
                let matcher = filter.matcher
                let target = try world.folder("target \(round)")
                let outcome = try world.run("rsync", arguments + [source + "/", target + "/"])
                #expect(outcome.status == 0, "\(outcome)")
                let transferred = try Set(FileManager.default.subpathsOfDirectory(atPath: target))
                let ours = Set(
                    paths.filter { path, isDirectory in
                        !matcher.excludes(
                            path: path.split(separator: "/").map { Name(trusted: Array($0.utf8)) },
                            isDirectory: isDirectory)
                    }.keys)
                let difference = transferred.symmetricDifference(ours).sorted()
                #expect(difference.isEmpty, "seed \(seed), round \(round), \(usesFile): \(filter.lines)")
                try FileManager.default.removeItem(atPath: target)
            }
        }
    }

    /// Short names of few letters, so that patterns meet them.
    private func makeTree(_ root: String, _ random: inout SeededRandom) throws -> [String: Bool] {
        var paths: [String: Bool] = [:]
        var folders = [""]
        for _ in 0..<160 {
            let folder = folders[random.int(in: 0..<folders.count)]
            let path = folder + name(&random)
            guard paths[path] == nil else { continue }
            let isDirectory = random.once(in: 3)
            paths[path] = isDirectory
            if isDirectory {
                try FileManager.default.createDirectory(atPath: "\(root)/\(path)", withIntermediateDirectories: false)
                folders.append(path + "/")
            } else {
                try Data().write(to: URL(filePath: "\(root)/\(path)"))
            }
        }
        return paths
    }

    private func name(_ random: inout SeededRandom) -> String {
        let letters = ["a", "b", "c", "ab", "A", "1", ".", "-", "]", "[", "*", "\\", "?", " ", "!", "é"]
        let name = (0..<random.int(in: 1...3)).map { _ in letters[random.int(in: 0..<letters.count)] }.joined()
        return name == "." || name == ".." ? "a" : name
    }

    private func rule(of paths: [String], _ random: inout SeededRandom) -> (isInclude: Bool, pattern: String) {
        while true {
            let pattern = random.once(in: 2) ? anyPattern(&random) : pattern(of: paths, &random)
            // Forms of the option that are no patterns.
            if pattern != "!", !pattern.hasPrefix("- "), !pattern.hasPrefix("+ ") {
                return (random.once(in: 3), pattern)
            }
        }
    }

    /// Something that is near to a path of the tree.
    private func pattern(of paths: [String], _ random: inout SeededRandom) -> String {
        var parts = paths[random.int(in: 0..<paths.count)].split(separator: "/").map(String.init)
        if random.once(in: 2) { parts.removeFirst(random.int(in: 0..<parts.count)) }
        for index in parts.indices where random.once(in: 2) {
            var bytes = Array(parts[index])
            let wild = ["*", "?", "[!x]", "**", "\\\(bytes[0])", "[[:alnum:]]", "*\(bytes.last!)"]
            bytes[random.int(in: 0..<bytes.count)] = "\u{1}"
            parts[index] = String(bytes).replacing("\u{1}", with: wild[random.int(in: 0..<wild.count)])
        }
        let before = ["", "", "/", "/", "**/", "**", "*/", "/**/"][random.int(in: 0..<8)]
        let behind = ["", "", "", "/", "/*", "/**", "/***", "*"][random.int(in: 0..<8)]
        return before + parts.joined(separator: "/") + behind
    }

    private func anyPattern(_ random: inout SeededRandom) -> String {
        let parts = [
            "a", "b", "c", "ab", "A", "1", "*", "*", "*", "**", "***", "?", "?", "/", "/", "/", "[a-c]", "[!a]", "[^b]",
            "[]a]", "[a-]", "[[:alpha:]]", "[[:digit:][:upper:]]", "[[:no:]]", "[\\]a]", "[c-a]", "[[:a]", "\\", "\\*",
            "\\a", ".", "-", "]", "[", " ", "!", "é",
        ]
        var pattern = (0..<random.int(in: 1...5)).map { _ in parts[random.int(in: 0..<parts.count)] }.joined()
        if random.once(in: 4) { pattern = "/" + pattern }
        if random.once(in: 4) { pattern += "/" }
        return pattern
    }
}
