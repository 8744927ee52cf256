import Foundation
import Testing
import WALFormat

/// What the README shows works, and what it tells of the sources is so.
@Suite struct ReadmeTests {
    private let readme: [Substring]

    init() throws {
        readme = try Checkout.text("README.md").split(separator: "\n", omittingEmptySubsequences: false)
    }

    /// Lines of a section, up to the next of the same or a higher level.
    private func section(_ title: String) throws -> ArraySlice<Substring> {
        let start = try #require(readme.firstIndex { $0 == "## \(title)" }, "README.md has no section \(title)")
        return readme[(start + 1)...].prefix { !$0.hasPrefix("## ") && !$0.hasPrefix("# ") }
    }

    private func commands(_ title: String) throws -> [String] {
        try section(title).filter { $0.hasPrefix("    ") }.map { String($0.dropFirst(4)) }
    }

    /// The first column of a section's tables, without its code quotes.
    private func firstColumn(_ title: String) throws -> [String] {
        try section(title).compactMap { $0.prefixMatch(of: /\| `([^`]+)`/).map { String($0.1) } }
    }

    // MARK: The two commands

    @Test func mirrorCommandProvesEquality() throws {
        let setUp = ".ci/setup && swift run -c release "
        let line = try #require(try commands("Try it").first { $0.hasPrefix(setUp) })
        try withWorld { world in
            // In a copy, since the state folder of the source stands in it.
            try world.must("cp", "-a", Checkout.path + "/fixtures/tree", try world.folder("fixtures") + "/tree")
            try world.must("rm", "-rf", world.path + "/fixtures/tree/.wal")
            let scratch = try world.folder("scratch")
            let outcome = try run(
                world, ["export TMPDIR=\(scratch)", "cd \(world.path)", String(line.dropFirst(setUp.count))])
            #expect(outcome.status == 0 && outcome.lines.last == "equal", "\(outcome)")
            let digests = outcome.output.matches(of: #/(source|mirror) tree +([0-9a-f]{32}) /#).map(\.2)
            #expect(digests.count == 2 && digests.first == digests.last, "\(outcome)")

            let mirror = try #require(try FileManager.default.contentsOfDirectory(atPath: scratch).first)
            #expect(try FileManager.default.subpathsOfDirectory(atPath: scratch + "/" + mirror).count > 15)
            let differences = try world.must(
                "rsync", "-aHAXcni", "--delete", "--exclude=/.wal", world.path + "/fixtures/tree/",
                scratch + "/" + mirror + "/")
            #expect(differences == "")
        }
    }

    @Test func testCommandIsTheOneThatIsRunByCI() throws {
        let line = try #require(try commands("Try it").first { $0.contains("swift test") })
        let script = try Checkout.text(".ci/run")
        #expect(script.contains("tests='\(line)'"), ".ci/run does not run: \(line)")
    }

    // MARK: The tour

    @Test func tour() throws {
        let lines = try commands("Tour")
        #expect(lines.count == 10)
        try withWorld { world in
            let port = try freePort()
            let folder = try world.folder("srv")
            try world.must("cp", "-a", Checkout.path + "/fixtures/tree", folder + "/photos")
            try world.must("rm", "-rf", folder + "/photos/.wal")
            var script = [Self.up]
            for (number, line) in lines.enumerated() {
                let own = line.replacing("/srv/", with: folder + "/").replacing("7420", with: "\(port)")
                script += ["echo '### \(number)'", own]
                if own.contains(" & ") { script.append("up \(own.split(separator: " ")[1])") }
            }
            let outcome = try run(world, script)
            try #require(outcome.status == 0, "\(outcome)")
            let answers = outcome.output.split(separator: "### ").map { $0.split(separator: "\n").dropFirst() }
            try #require(answers.count == lines.count, "\(outcome)")
            func answer(_ command: String) throws -> ArraySlice<Substring> {
                let number = try #require(lines.firstIndex { $0.contains("walctl \(command)") }, "\(command)")
                return answers[number]
            }
            let status = try answer("status").joined(separator: "\n")
            #expect(status.hasPrefix("primary ") && status.contains("REPLICA") && status.contains("0 seg"), "\(status)")
            #expect(try answer("verify").last == "equal to 127.0.0.1:\(port)")
            #expect(try answer("verify").contains { $0.hasSuffix("(all content read)") })
            #expect(try answer("log").dropFirst().first?.hasPrefix("1:1 ") == true)
            #expect(try answer("dump").first?.hasPrefix("segment 1:1 ") == true)
            #expect(try answer("mirror").last == "equal")
            #expect(try text(ofFile: folder + "/mirror/hello") == "hello\n")
        }
    }

    /// Every line works when it is copied, one after the other.
    @Test func failover() throws {
        let lines = try commands("Failover")
        for verb in ["promote", "rejoin", "switchover"] {
            #expect(lines.contains { $0.hasPrefix("walctl \(verb) ") }, "\(verb)")
        }
        try withWorld { world in
            let folder = try world.folder("srv")
            let ports = try ["7420", "7421", "7422"].map { (known: $0, own: try freePort()) }
            var script = [Self.up]
            for line in lines {
                var own = line.replacing("/srv/", with: folder + "/")
                for port in ports { own = own.replacing(":\(port.known)", with: ":\(port.own)") }
                script.append(own)
                if own.contains(" &") && !own.contains("&&") { script.append("up \(own.split(separator: " ")[1])") }
            }
            let outcome = try run(world, script)
            try #require(outcome.status == 0, "\(outcome)")
            #expect(outcome.lines.last == "equal to 127.0.0.1:\(ports[0].own)", "\(outcome)")
            for node in ["a", "b", "c"] { #expect(try text(ofFile: "\(folder)/\(node)/world") == "world\n") }
            let kept = try FileManager.default.subpathsOfDirectory(atPath: folder + "/a/.wal/quarantine")
            #expect(kept.contains { $0.hasSuffix("/files/late") }, "\(kept)")
            #expect(!FileManager.default.fileExists(atPath: folder + "/a/late"))
        }
    }

    /// A daemon that a person starts in a terminal is up when the next line is typed.
    private static let up =
        "up() { for _ in {1..600}; do [ -S \"$1/.wal/control.sock\" ] && return; sleep 0.1; done; return 1; }"

    /// The commands in `lines` by one shell, the built ones first in its path; at its end, whatever that is, nothing of it
    /// runs any more.
    private func run(_ world: World, _ lines: [String]) throws -> Outcome {
        let file = world.path + "/script"
        let head = [
            "set -euo pipefail", "export PATH='\(Checkout.programs)':$PATH",
            "trap 'jobs -p | xargs -r kill; wait' EXIT",
        ]
        try Data((head + lines).joined(separator: "\n").utf8).write(to: URL(filePath: file))
        return try world.run("timeout", ["--kill-after=10", "90", "bash", file])
    }

    // MARK: What it tells of the sources

    @Test func roomsAreTheSourceFolders() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: Checkout.path + "/Sources")
        #expect(try firstColumn("Rooms").filter { !$0.hasSuffix("/") }.sorted() == folders.sorted())
    }

    @Test func limitsAreThoseOfTheCode() throws {
        let table = try section("Limits").joined(separator: "\n")
        func grouped(_ value: Int) -> String {
            let digits = String(String(value).reversed())
            let parts = stride(from: 0, to: digits.count, by: 3).map { digits.dropFirst($0).prefix(3) }
            return String(parts.joined(separator: ",").reversed())
        }
        for row in [
            "| name | \(Limits.maxNameBytes) bytes |",
            "| depth of the tree | \(grouped(Limits.maxDepth)) |",
            "| a segment | \(Limits.maxSegmentRawBytes >> 20) MiB raw, \(grouped(Int(Limits.maxSegmentEntries))) entries |",
            "| new content of one file in the log | \(Limits.defaultMaxInlineContentBytes >> 20) MiB (`--inline-limit`)",
            "| sent and not yet taken, per connection | \(Limits.sendWindowBytes >> 20) MiB |",
            "| replicas that a primary tells of | \(grouped(Limits.maxGroupMembers)) |",
        ] {
            #expect(table.contains(row), "the README's limits lack: \(row)")
        }
    }
}
