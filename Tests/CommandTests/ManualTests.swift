import Foundation
import Testing

/// The man pages of the commands tell what the commands tell of themselves, no more and no less.
@Suite struct ManualTests {
    @Test(arguments: ["walship", "walrecv"])
    func optionsOfDaemon(_ name: String) throws {
        let page = try ManualPage(name + ".8")
        let help = try HelpText(name)
        expectEqual(try page.options(of: "DESCRIPTION"), help.options, "\(name) --help and \(page.file)")
        expectEqual(
            page.synopsis[""] ?? [], Set(help.options.keys), "\(name) --help and the synopsis of \(page.file)")
    }

    @Test func commandsOfWalctl() throws {
        let page = try ManualPage("walctl.1")
        let commands = Set(try HelpText("walctl").commands)
        expectEqual(Set(try page.subsections(of: "COMMANDS")), commands, "walctl --help and \(page.file)")
        expectEqual(
            Set(page.synopsis.keys).subtracting([""]), commands, "walctl --help and the synopsis of \(page.file)")
    }

    @Test func optionsOfWalctl() throws {
        let page = try ManualPage("walctl.1")
        let common = try HelpText("walctl")
        expectEqual(try page.options(of: "COMMANDS"), common.options, "walctl --help and \(page.file)")
        expectEqual(page.synopsis[""] ?? [], Set(common.options.keys), "walctl --help and the synopsis")
        for command in common.commands {
            let all = try HelpText("walctl", command).options
            let own = all.filter { common.options[$0.key] == nil }
            #expect(Set(common.options.keys).isSubset(of: all.keys), "walctl \(command) --help")
            expectEqual(try page.options(of: command), own, "walctl \(command) --help and \(page.file)")
            expectEqual(page.synopsis[command] ?? [], Set(own.keys), "walctl \(command) --help and the synopsis")
        }
    }

    /// Names in the contract of `--json`, as paths such as `replicas[].name`.
    @Test(arguments: [
        ("NodeStatus", "STATUS AS JSON"), ("VerifyReport", "VERIFY AS JSON"), ("Outcome", "PROMOTE AS JSON"),
    ])
    func namesInJSON(type: String, section: String) throws {
        let page = try ManualPage("walctl.1")
        let documented = try page.section(section).compactMap { line in
            line.hasPrefix(".It Va ") ? String(line.dropFirst(".It Va ".count)) : nil
        }
        #expect(documented.count == Set(documented).count)
        // A position is explained once, in the status.
        let declared = try JSONNames().paths(of: type, followsPosition: type == "NodeStatus")
        expectEqual(Set(documented), Set(declared), "\(type) and \(page.file)")
    }

    @Test(arguments: ["walship.8", "walrecv.8", "walctl.1"])
    func exitCodes(_ file: String) throws {
        let declared = try Checkout.text("Sources/WALNode/NodeError.swift").matches(of: /case \w+ = (\d+)/)
            .compactMap { Int($0.1) }
        let documented = try ManualPage(file).section("EXIT STATUS").compactMap { line in
            line.hasPrefix(".It ") ? Int(line.dropFirst(4)) : nil
        }
        #expect(documented == [0] + declared.sorted(), "NodeError.Code and \(file)")
    }

    /// Who looks a message up finds it only if it is written there as the program writes it.
    @Test(arguments: ["walship.8", "walrecv.8", "walctl.1"])
    func messagesAreThoseOfTheSource(_ file: String) throws {
        let source = try Checkout.sources()
        let messages = try ManualPage(file).section("DIAGNOSTICS").compactMap { line in
            line.hasPrefix(".It \"") ? String(line.dropFirst(5).dropLast()) : nil
        }
        #expect(!messages.isEmpty)
        for message in messages {
            // Not in the expectation, which would print all of the source.
            let isWritten = source.contains(message)
            #expect(isWritten, "\(file) explains a message that no program writes: \(message)")
        }
    }

    @Test func pagesHaveNoWarnings() throws {
        let folder = Checkout.path + "/man"
        let pages = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        #expect(Set(pages).isSuperset(of: ["walship.8", "walrecv.8", "walctl.1"]))
        try withWorld { world in
            // Not installed is a failure: .ci/setup installs it.
            let outcome = try world.run("mandoc", ["-Tlint", "-Wwarning"] + pages.map { folder + "/" + $0 })
            #expect(outcome.status == 0 && outcome.output.isEmpty && outcome.errors.isEmpty, "\(outcome)")
        }
    }

    private func expectEqual(
        _ documented: Set<String>, _ real: Set<String>, _ what: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let missing = real.subtracting(documented).sorted()
        let invented = documented.subtracting(real).sorted()
        #expect(missing.isEmpty, "\(what): not documented", sourceLocation: sourceLocation)
        #expect(invented.isEmpty, "\(what): documented and not there", sourceLocation: sourceLocation)
    }

    /// Options with their defaults.
    private func expectEqual(
        _ documented: [String: String], _ real: [String: String], _ what: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectEqual(Set(documented.keys), Set(real.keys), what, sourceLocation: sourceLocation)
        for (name, value) in real {
            #expect(documented[name] ?? value == value, "\(what): default of \(name)", sourceLocation: sourceLocation)
        }
    }
}

/// This checkout and the commands that were built from it.
enum Checkout {
    static let path = String(#filePath.dropLast("/Tests/CommandTests/ManualTests.swift".count))

    /// Where the commands are: `WALSHIP_BIN`, beside the test program, or in the build folder.
    static let programs: String = {
        let named = ProcessInfo.processInfo.environment["WALSHIP_BIN"]
        let candidates = [World.programs, path + "/.build/release", path + "/.build/debug"]
        return named ?? candidates.first { FileManager.default.isExecutableFile(atPath: $0 + "/walctl") } ?? ""
    }()

    static func text(_ file: String) throws -> String {
        try CommandTests.text(ofFile: path + "/" + file)
    }

    /// All Swift files of the commands and their rooms.
    static func sources() throws -> String {
        let files = try FileManager.default.subpathsOfDirectory(atPath: path + "/Sources")
        return try files.filter { $0.hasSuffix(".swift") }.map { try text("Sources/" + $0) }.joined()
    }
}

/// What a command prints for `--help`.
private struct HelpText {
    /// With the default, empty where there is none.
    var options: [String: String] = [:]
    var commands: [String] = []

    init(_ program: String, _ command: String? = nil) throws {
        var text = ""
        try withWorld { world in
            text = try world.must(Checkout.programs + "/" + program, command ?? "--help", "--help")
        }
        var section = ""
        var entry = ""
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasSuffix(":"), !line.hasPrefix(" ") {
                section = String(line)
            } else if section == "OPTIONS:" {
                if line.hasPrefix("  -") || line.isEmpty {
                    add(entry)
                    entry = ""
                }
                entry += " " + line.drop { $0 == " " }
            } else if section == "SUBCOMMANDS:", let match = line.prefixMatch(of: #/  ([a-z]+) /#) {
                commands.append(String(match.1))
            }
        }
        add(entry)
    }

    /// `--settle <settle>  How long … (default: 50ms)`, `-h, --help  …`
    private mutating func add(_ entry: String) {
        let value = entry.firstMatch(of: /default: ([^)\s]+)\)/).map { String($0.1) } ?? ""
        for word in entry.split(separator: " ") {
            guard word.hasPrefix("-") else { break }
            options[String(word.filter { $0 != "," })] = value
        }
    }
}

/// A page in mdoc(7), as far as these tests read it.
private struct ManualPage {
    let file: String
    private let lines: [Substring]

    init(_ file: String) throws {
        self.file = file
        lines = try Checkout.text("man/" + file).split(separator: "\n", omittingEmptySubsequences: false)
    }

    /// The lines of a section, with its subsections.
    func section(_ name: String) throws -> ArraySlice<Substring> {
        let start = try #require(lines.firstIndex { $0 == ".Sh \(name)" }, "\(file) has no section \(name)")
        let rest = lines[(start + 1)...]
        return rest.prefix { !$0.hasPrefix(".Sh ") }
    }

    func subsections(of name: String) throws -> [String] {
        try section(name).compactMap { $0.hasPrefix(".Ss ") ? String($0.dropFirst(4)) : nil }
    }

    /// `.It Fl -settle Ar time` of a section, or of one of COMMANDS, with the defaults. Those of DESCRIPTION stand in the
    /// subsection Options; those of COMMANDS before its subsections.
    func options(of name: String) throws -> [String: String] {
        var body: ArraySlice<Substring>
        switch name {
        case "DESCRIPTION": body = try subsection("Options", of: name)
        case "COMMANDS": body = try section(name).prefix { !$0.hasPrefix(".Ss ") }
        default: body = try subsection(name, of: "COMMANDS")
        }
        var options: [String: String] = [:]
        while let start = body.firstIndex(where: { $0.hasPrefix(".It Fl ") }) {
            let rest = body[(start + 1)...]
            // Several in a row share what is said.
            let text = rest.drop { $0.hasPrefix(".It ") }.prefix { !$0.hasPrefix(".It ") && $0 != ".El" }
            let other = text.first == "As for" ? text.dropFirst().first?.split(separator: " ")[1] : nil
            let others = try other.map { $0 == Substring(name) ? [:] : try self.options(of: String($0)) }
            for option in Self.flags(body[start]) { options[option] = others?[option] ?? Self.defaultValue(text) }
            body = rest
        }
        return options
    }

    private func subsection(_ name: String, of section: String) throws -> ArraySlice<Substring> {
        let all = try self.section(section)
        let start = try #require(all.firstIndex { $0 == ".Ss \(name)" }, "\(file) has no subsection \(name)")
        return all[(start + 1)...].prefix { !$0.hasPrefix(".Ss ") }
    }

    /// Options of each command in the synopsis; those of no command under "".
    var synopsis: [String: Set<String>] {
        var options: [String: Set<String>] = [:]
        var command = ""
        for line in (try? section("SYNOPSIS")) ?? [] {
            if line == ".Nm" {
                command = ""
            } else if line.hasPrefix(".Cm ") {
                command = String(line.dropFirst(4))
            }
            options[command, default: []].formUnion(Self.flags(line))
        }
        return options
    }

    /// `Fl -name` is `--name`, `Fl h` is `-h`; `Fl h | -help` is both.
    private static func flags(_ line: Substring) -> [String] {
        let words = line.drop { $0 == "." }.split(separator: " ")
        return words.indices.dropFirst().compactMap { index in
            let isFlag = words[index - 1] == "Fl" || words[index - 1] == "|"
            return isFlag ? "-" + words[index] : nil
        }
    }

    private static func defaultValue(_ body: ArraySlice<Substring>) -> String {
        let text = body.map { $0.hasPrefix(".") ? $0.drop { $0 != " " }.dropFirst() : $0 }.joined(separator: " ")
        return text.firstMatch(of: /The default is (\S+)/).map { String($0.1) } ?? ""
    }
}

/// The names of what is printed as JSON, read from the source's text: what is null or absent now is in no output.
private struct JSONNames {
    private var fields: [String: [(name: String, type: String)]] = [:]

    init() throws {
        var current: [String] = []
        let files = ["Control/ControlTypes", "Control/NodeStatus", "Failover/Promotion"]
        let text = try files.map { try Checkout.text("Sources/WALNode/\($0).swift") }.joined()
        for line in text.split(separator: "\n") {
            if let match = line.firstMatch(of: /^ *package struct (\w+)/) {
                current.append(String(match.1))
            } else if line.firstMatch(of: /^ *(enum|extension|package enum) .*\{$/) != nil {
                current.append("")
            } else if current.count > 0, line.firstMatch(of: /^( {4})*\}$/) != nil {
                if line.prefix(while: { $0 == " " }).count / 4 == current.count - 1 { current.removeLast() }
            } else if let match = line.firstMatch(of: /^ *package var (\w+): ([^{]+)$/), let name = current.last {
                fields[name, default: []].append((String(match.1), String(match.2)))
            }
        }
    }

    func paths(of type: String, followsPosition: Bool) throws -> [String] {
        try #require(fields[type], "no type \(type)").flatMap { field in
            let inner = field.type.filter { !"[]? ".contains($0) }
            let path = Self.snakeCase(field.name)
            guard fields[inner] != nil, followsPosition || inner != "PositionStatus" else { return [path] }
            let joint = field.type.hasPrefix("[") ? "[]." : "."
            return try [path] + paths(of: inner, followsPosition: followsPosition).map { path + joint + $0 }
        }
    }

    private static func snakeCase(_ name: String) -> String {
        name.reduce("") { $0 + ($1.isUppercase ? "_" : "") + $1.lowercased() }
    }
}
