import Foundation
import Glibc
import Testing

/// Names are bytes: any but NUL and the slash, in any number, as deep as somebody likes.
@Suite struct FidelityNameTests {
    static let odd: [Bytes] = [
        Bytes([0xFF, 0xFE, 0x80]), "line\nbreak", "\n", " ", "  two  ", "-rf", "--help", "tab\tbed",
        "\u{1B}[31mred\u{7}",
        "back\\slash", "\\x41", "quote\"s'", "*?[x]", "$(reboot)`x`;&|", "...", "..a", ".hidden", "~", "#", "%41",
        "a:b",
        Bytes([UInt8](repeating: 0x78, count: 255)), Bytes([UInt8](repeating: 0xE4, count: 255)), "\u{E4}", "a\u{308}",
        "\u{202E}reversed", "\u{85}next\u{9B}2J", Bytes([0x7F]), Bytes([0xC3]), Bytes([0xED, 0xA0, 0x80]), "case",
        "CASE", Bytes(Array(1..<0x2F)), Bytes(Array(0x30...0xFF)), "\u{1F600}", ".wal2",
        "a,b", "a b\r",
    ]

    @Test func namesOfAnyBytes() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.makeDirectory(root / "files")
                for name in Self.odd { try Do.write(root / "files" / name, name.bytes) }
                // The name of the state folder is only taken in the root.
                try Do.makeDirectory(root / "files/.wal")
                try Do.write(root / "files/.wal/inside")
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("directories with such names, and what is in them") { root in
                try Do.makeDirectory(root / "folders")
                for name in Self.odd {
                    try Do.makeDirectory(root / "folders" / name)
                    try Do.symlink(root / "folders" / name / name, to: name)
                    try Do.write(root / "folders" / name / "-", name.bytes)
                }
            }
            try mirrored.step("renamed from one to the next") { root in
                for (name, next) in zip(Self.odd, Self.odd.dropFirst()).reversed() {
                    try Do.exchange(root / "files" / name, root / "files" / next)
                }
                try Do.rename(root / "files", root / Bytes([0xFF]))
            }
            try mirrored.step("by case alone") { root in
                try Do.rename(root / "folders", root / "Folders")
                try Do.rename(root / Bytes([0xFF]) / "case", root / Bytes([0xFF]) / "Case")
                try Do.rename(root / Bytes([0xFF]) / "\u{E4}", root / Bytes([0xFF]) / "a\u{308}")
            }
            try mirrored.step("removed") { root in
                for name in Self.odd.dropFirst(3).prefix(10) { try Do.remove(root / Bytes([0xFF]) / name) }
            }
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    /// A chain of directories, each opened from the one above it: no path leads there in one call.
    private func deepen(_ root: Bytes, _ name: [UInt8], _ depth: Int, _ leaf: (Int32) throws -> Void) throws {
        var directory = try Do.openFile(root, O_DIRECTORY)
        let text = name.map(CChar.init(bitPattern:)) + [0]
        for _ in 0..<depth {
            mkdirat(directory, text, 0o755)
            let next = openat(directory, text, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            close(directory)
            guard next >= 0 else { throw Failed("openat: \(String(cString: strerror(errno)))") }
            directory = next
        }
        defer { close(directory) }
        try leaf(directory)
    }

    private func write(_ directory: Int32, _ name: String, _ text: String) throws {
        let file = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw Failed("openat: \(String(cString: strerror(errno)))") }
        defer { close(file) }
        try Do.write(file, Array(text.utf8), at: 0)
    }

    @Test func deeperThanAnyPath() throws {
        try withWorld { world in
            let long = [UInt8](repeating: 0x6C, count: 200)
            let mirrored = try Mirrored(world) { root in
                try deepen(root, long, 60) { try write($0, "file", "deep") }
                try deepen(root, [0x64], 400) { try write($0, "file", "deeper") }
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("in the depth") { root in
                try deepen(root, long, 60) { directory in
                    try write(directory, "file", "changed")
                    try write(directory, "new", "new")
                    mkdirat(directory, "more", 0o700)
                }
                try deepen(root, [0x64], 450) { try write($0, "file", "still deeper") }
            }
            try mirrored.step("moved as a whole") { root in
                try Do.rename(root / Bytes(long), root / "d/moved")
            }
            try mirrored.step("in the depth of what was moved", isVerified: true) { root in
                try Do.rename(root / "d/moved", root / Bytes(long))
                try deepen(root, long, 60) { unlinkat($0, "file", 0) }
            }
            try mirrored.stop()
        }
    }

    /// The kernel's queue of events is too short for this many.
    @Test func aDirectoryWithTwoHundredThousandEntries() throws {
        try withWorld { world in
            let count = 100_000
            // A file has at most 65,000 names on ext4.
            func fill(_ folder: Bytes, _ label: String) throws {
                try Do.makeDirectory(folder)
                for number in 0..<count {
                    if number % 1000 == 0 {
                        try Do.write(folder / "\(label)\(number)")
                    } else {
                        try Do.link(folder / "\(label)\(number / 1000 * 1000)", folder / "\(label)\(number)")
                    }
                }
            }
            let mirrored = try Mirrored(world) { root in
                try fill(root / "folder", "first")
            }
            try mirrored.replica()
            try world.catchUp(mirrored.primary, mirrored.replicas)
            try Do.rename(mirrored.root / "folder", mirrored.root / "moved")
            for number in 0..<count {
                try Do.link(
                    mirrored.root / "moved/first\(number / 1000 * 1000)", mirrored.root / "moved/second\(number)")
            }
            try world.catchUp(mirrored.primary, mirrored.replicas)
            try mirrored.step("two of them", isVerified: true) { root in
                try Do.remove(root / "moved/first77777")
                try Do.rename(root / "moved/second5", root / "moved/third")
            }
            try mirrored.stop()
        }
    }

    // MARK: What people and scripts see

    /// Neither a control character nor a byte that is not UTF-8.
    private func expectClean(_ text: [UInt8], _ what: String) {
        let string = String(validating: text, as: UTF8.self)
        #expect(string != nil, "\(what) is not UTF-8")
        for scalar in string?.unicodeScalars ?? "".unicodeScalars {
            let isControl = scalar.value < 0x20 && scalar.value != 0x0A || 0x7F..<0xA0 ~= scalar.value
            #expect(!isControl, "\(what) holds U+\(String(scalar.value, radix: 16)):\n\(string ?? "")")
            if isControl { return }
        }
    }

    private func outputs(_ world: World, _ program: String, _ arguments: String...) throws -> (Int32, [UInt8]) {
        let base = "\(world.path)/said"
        let child = try Child(
            program == "walctl" ? World.programs + "/walctl" : program, arguments, outputBase: base)
        let status = try child.wait()
        let all = try bytes(ofFile: base + ".out") + bytes(ofFile: base + ".err")
        unlink(base + ".out")
        unlink(base + ".err")
        return (status, all)
    }

    @Test(arguments: [["--log-format", "json"], []])
    func whatIsSaidOfThemIsSafe(_ format: [String]) throws {
        try withWorld { world in
            // The tree's own path has such a name, too.
            let source = try world.folder("so\nu\u{1B}[31mr\u{9B}ce\\\"'")
            let mirrored = try Mirrored(world, format + ["--log-level", "debug"], source: source) { root in
                for name in Self.odd {
                    try Do.makeDirectory(root / name)
                    try Do.makeSocket(root / "s")
                    try Do.remove(root / "s")
                    try Do.symlink(root / name / name, to: name)
                    // What is reported by its path: it has more attributes than there is room for.
                    try Do.write(root / name / "file")
                    try Do.setAttribute(
                        root / name / "file", Bytes(Array("user.".utf8) + name.bytes.prefix(200)), name.bytes)
                }
            }
            let replica = try Node(
                world, "walrecv", try world.folder("re\u{1B}\npli\u{85}ca"),
                ["--from", "127.0.0.1:\(mirrored.port)", "--name", "replica", "--log-level", "debug"] + format)
            try world.catchUp(mirrored.primary, [replica])
            for name in Self.odd { try Do.write(mirrored.root / name / "more", name.bytes) }
            try world.catchUp(mirrored.primary, [replica])
            #expect(try Oracle.differences(source, replica.folder) == [])
            // Drift of every name, and extras with such names.
            for name in Self.odd {
                try Do.write(Bytes(replica.folder) / name / "more", "drift")
                try Do.remove(Bytes(replica.folder) / name / name)
                try Do.write(Bytes(replica.folder) / name / Bytes(name.bytes.prefix(250) + [0x2B]), "extra")
            }
            for arguments in [
                ["verify", replica.folder], ["status", replica.folder], ["status", source], ["log", source],
            ] {
                let (_, text) = try outputs(world, "walctl", arguments[0], arguments[1])
                expectClean(text, "\(arguments[0])")
                #expect(text.split(separator: 0x0A).count >= 2)
                let (_, json) = try outputs(world, "walctl", arguments[0], arguments[1], "--json")
                expectClean(json, "\(arguments[0]) --json")
            }
            // One line for each difference, which names it as it can be typed back.
            let verify = try world.run("walctl", "verify", replica.folder, "--json")
            let report = try Status(verify.output)
            let paths = (report["differences"] as? [[String: Any]] ?? []).compactMap { $0["path"] as? String }
            #expect(paths.contains("\\xff\\xfe\\x80/more") && paths.contains("line\\x0abreak/more"), "\(paths)")
            #expect(paths.contains("\\x1b[31mred\\x07/more") && paths.contains("back\\x5cslash/more"), "\(paths)")
            for file in try FileManager.default.contentsOfDirectory(atPath: source + "/.wal/log") {
                let (code, text) = try outputs(world, "walctl", "dump", source + "/.wal/log/" + file)
                #expect(code == 0)
                expectClean(text, "dump")
                let (_, json) = try outputs(world, "walctl", "dump", "--json", source + "/.wal/log/" + file)
                expectClean(json, "dump --json")
                for line in json.split(separator: 0x0A) { _ = try JSONSerialization.jsonObject(with: Data(line)) }
            }
            // The drift is healed and said by its path.
            _ = try world.run("walctl", "verify", replica.folder, "--repair")
            try until("the repair") { try Oracle.differences(source, replica.folder).isEmpty }
            // Wrong command lines with the same.
            for arguments in [
                ["status", source + "/\u{1B}[2J\n"], ["dump", source + "/\u{9B}"], ["log", "\u{1B}x\n"],
            ] {
                let (code, text) = try outputs(world, "walctl", arguments[0], arguments[1])
                #expect(code != 0)
                expectClean(text, "the error of \(arguments[0])")
                #expect(text.count(where: { $0 == 0x0A }) == 1, "\(String(decoding: text, as: UTF8.self))")
            }
            for node in [mirrored.primary, replica] {
                try node.stop()
                expectClean(Array(node.child.errors.utf8), "the log of \(node.program)")
                #expect(node.child.errorLines.count > 2)
                guard !format.isEmpty else { continue }
                for line in node.child.errorLines {
                    _ = try JSONSerialization.jsonObject(with: Data(line.utf8))
                }
            }
        }
    }
}
