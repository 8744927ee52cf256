import Foundation
import Glibc
import Testing
import WALNode
import WALSystem
import WALTestKit

/// Writes of clients: what is there afterwards, on every node, and what is refused.
@Suite struct ClientWriteTests {
    @Test func everyVerbChangesBothTrees() throws {
        try withTwoNodes { world, primary, replica, port in
            let node = "127.0.0.1:\(port)"
            try world.put(node, "plain", "one\n")
            #expect(try text(ofFile: primary.folder + "/plain") == "one\n")
            #expect(try world.must("walctl", "get", node, "plain") == "one")
            try world.put(node, "deep/er/file", "two", "--parents", "--mode", "0640", "--mtime", "1000000000.5")
            var status = stat()
            #expect(lstat(primary.folder + "/deep/er/file", &status) == 0)
            #expect(status.st_mode & 0o7777 == 0o640 && status.st_mtim.tv_sec == 1_000_000_000)
            #expect(status.st_mtim.tv_nsec == 500_000_000)
            // What is replaced keeps its mode.
            try world.put(node, "deep/er/file", "three")
            #expect(lstat(primary.folder + "/deep/er/file", &status) == 0 && status.st_mode & 0o7777 == 0o640)
            try world.must("walctl", "chmod", node, "0600", "plain")
            try world.must("walctl", "mkdir", node, "dir")
            try world.must("walctl", "mkdir", node, "-p", "dir/a/b")
            try world.must("walctl", "mkdir", node, "-p", "dir/a/b")
            try world.must("walctl", "mv", node, "plain", "dir/a/moved")
            try world.must("walctl", "ln", node, "-s", "a/moved", "dir/link")
            try world.must("walctl", "rmdir", node, "dir/a/b")
            let rows = try world.must("walctl", "ls", node, "dir", "-l").split(separator: "\n")
            #expect(rows.count == 2 && rows[1].hasSuffix("link -> a/moved"), "\(rows)")
            #expect(try world.must("walctl", "ls", node) == "deep\ndir")
            try world.expectEqual(primary, port: port, [replica])
            // A symlink is replaced, and what it points to is left alone.
            try world.put(node, "dir/link", "a file now")
            #expect(try text(ofFile: primary.folder + "/dir/a/moved") == "one\n")
            try world.must("walctl", "rm", node, "-r", "dir")
            #expect(!FileManager.default.fileExists(atPath: primary.folder + "/dir"))
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    @Test func aWriteIsOneSegmentAndTheScanAddsNothing() throws {
        try withTwoNodes { world, primary, _, port in
            let node = "127.0.0.1:\(port)"
            try writeFile(primary.folder + "/before", "before")
            _ = try world.mark(primary)
            var last = seq(try world.must("walctl", "position", node))
            let many = String(repeating: "content ", count: 100_000)
            for (count, arguments) in [
                (1, ["put", node, "a/b/file", "--parents"]), (1, ["put", node, "a/b/file"]),
                (1, ["mv", node, "a", "c"]), (1, ["put", node, "before"]), (1, ["chmod", node, "0600", "before"]),
                (1, ["ln", node, "-s", "x", "link"]), (1, ["mkdir", node, "d"]), (1, ["rmdir", node, "d"]),
                (1, ["rm", node, "-r", "c"]), (0, ["chmod", node, "0600", "before"]),
            ] {
                let outcome = try world.walctl(arguments, input: Array(many.utf8))
                #expect(outcome.status == 0, "\(outcome)")
                let position = seq(outcome.output)
                #expect(position == last + count, "\(arguments)")
                #expect(seq(try world.mark(primary)) == position, "a mark after \(arguments)")
                last = position
            }
            // Nor do the scan at a start, and what an application does beside.
            try primary.stop()
            try primary.restart()
            try primary.waitForState("streaming")
            #expect(seq(try world.mark(primary)) == last)
        }
    }

    @Test func refusals() throws {
        try withTwoNodes { world, primary, _, port in
            let node = "127.0.0.1:\(port)"
            try world.put(node, "file", "content")
            try world.must("walctl", "mkdir", node, "dir")
            try world.put(node, "dir/in", "content")
            try world.must("mkfifo", primary.folder + "/fifo")
            try world.must("ln", "-s", "dir", primary.folder + "/symlink")
            let before = try world.mark(primary)
            for (arguments, status) in [
                (["put", node, "../x"], Int32(64)), (["put", node, "/x"], 64), (["put", node, "a//b"], 64),
                (["put", node, "./x"], 64), (["put", node, ""], 64), (["put", node, ".wal/x"], 64),
                (["put", node, "x\\y"], 64), (["put", node, "a\\x00b"], 64), (["put", node, "dir/"], 64),
                (["put", node, "x", "--mode", "9"], 64), (["put", node, "x", "--mtime", "soon"], 64),
                (["put", node, "x", "--durable", "0"], 64), (["put", node, "x", "--request", "1"], 64),
                (["put", node, String(repeating: "n", count: 256)], 64),
                (["get", node, "../x"], 64), (["get", node, ".wal/node.json"], 64), (["ls", node, ".wal"], 64),
                (["put", node, "file", "--create"], 2), (["put", node, "missing/file"], 1), (["put", node, "dir"], 1),
                (["put", node, "file/x"], 1), (["put", node, "fifo"], 1), (["put", node, "symlink/x"], 1),
                (["get", node, "symlink/in"], 1), (["get", node, "dir"], 1), (["get", node, "missing"], 1),
                (["stat", node, "missing"], 1), (["rm", node, "missing"], 1), (["rm", node, "dir"], 1),
                (["rmdir", node, "dir"], 2), (["rmdir", node, "file"], 1), (["mkdir", node, "dir"], 2),
                (["mkdir", node, "-p", "file"], 2), (["mv", node, "dir", "dir/in/x"], 1),
                (["mv", node, "dir", "dir/y"], 1), (["mv", node, "file", "dir"], 1),
                (["mv", node, "file", "dir/in", "--no-replace"], 2), (["ln", node, "-s", "x", "file"], 2),
                (["ln", node, "x", "y"], 64), (["chmod", node, "0600", "symlink"], 1),
                (["put", "127.0.0.1:1", "x"], 6), (["get", "no-such-host.invalid", "x"], 6),
            ] {
                let outcome = try world.walctl(arguments, input: [65])
                #expect(outcome.status == status, "\(outcome)")
                #expect(outcome.output.isEmpty && outcome.errorLines.count == 1, "\(outcome)")
            }
            #expect(try world.mark(primary) == before, "something was changed by what was refused")
            #expect(try world.must("walctl", "ls", node) == "dir\nfifo\nfile\nsymlink")
        }
    }

    /// Content beyond what goes into the log, with parts that the primary has, and holes.
    @Test func largeContentIsWhatItWas() throws {
        try withTwoNodes { world, primary, replica, port in
            let node = "127.0.0.1:\(port)"
            var random = SeededRandom(seed: 1)
            var bytes = random.bytes(24 << 20)
            for isPipe in [false, true] {
                let outcome = try world.walctl(["put", node, "large"], input: bytes, isPipe: isPipe)
                #expect(outcome.status == 0, "\(outcome)")
                #expect(try CommandTests.bytes(ofFile: primary.folder + "/large") == bytes)
                try world.expectEqual(primary, port: port, [replica])
                bytes.replaceSubrange(9_000_000..<9_000_100, with: random.bytes(150))
            }
            let holes = [UInt8](repeating: 0, count: 32 << 20) + Array("end".utf8)
            #expect(try world.walctl(["put", node, "holes"], input: holes).status == 0)
            var status = stat()
            #expect(lstat(primary.folder + "/holes", &status) == 0)
            #expect(status.st_size == holes.count && status.st_blocks < 1000)
            #expect(try world.must("walctl", "get", node, "holes", "--offset", "\(32 << 20)", "--length", "2") == "en")
            try world.expectEqual(primary, port: port, [replica])
            #expect(try FileManager.default.contentsOfDirectory(atPath: primary.folder + "/.wal/uploads").isEmpty)
            #expect(try FileManager.default.contentsOfDirectory(atPath: primary.folder + "/.wal/staging").isEmpty)
        }
    }

    @Test func durableSaysWhoLacksIt() throws {
        try withTwoNodes { world, primary, replica, port in
            let node = "127.0.0.1:\(port)"
            try world.catchUp(primary, [replica])
            let position = try world.put(node, "file", "safe", "--durable", "1")
            #expect(try #require(try primary.status()?.replica("replica")?["durable_seq"] as? Int) >= seq(position))
            try replica.stop()
            let outcome = try world.walctl(
                ["put", node, "file", "--durable", "1", "--timeout", "400ms"], input: Array("lonely".utf8))
            #expect(outcome.status == 2, "\(outcome)")
            #expect(seq(outcome.output) == seq(position) + 1, "\(outcome)")
            #expect(
                outcome.errors.contains("it is done") && outcome.errors.contains("without it: replica"), "\(outcome)")
            #expect(try text(ofFile: primary.folder + "/file") == "lonely")
            try replica.restart()
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    @Test func aRequestIsDoneOnce() throws {
        try withTwoNodes { world, primary, _, port in
            let node = "127.0.0.1:\(port)"
            let id = "00112233445566778899aabbccddeeff"
            let first = try world.put(node, "file", "one", "--request", id)
            try world.put(node, "file", "two")
            #expect(try world.put(node, "file", "one", "--request", id) == first)
            #expect(try text(ofFile: primary.folder + "/file") == "two")
            try primary.stop()
            try primary.restart()
            try primary.waitForState("streaming")
            #expect(try world.put(node, "file", "one", "--request", id) == first)
            // The same number for something else is another request.
            let removed = try world.must("walctl", "rm", node, "file", "--request", id)
            #expect(removed != first && !FileManager.default.fileExists(atPath: primary.folder + "/file"))
            #expect(try world.must("walctl", "rm", node, "file", "--request", id) == removed)
            #expect(try world.put(node, "other", "three", "--request", id) != first)
        }
    }

    /// What an application does to the same name is never lost: it is in the tree, or kept.
    /// Also by a primary that got its tree by a sync after the write: whole, or what it lacked of one that it had.
    @Test(arguments: [false, true]) func aRequestIsDoneOnceAfterASync(adopts: Bool) throws {
        try withWorld { world in
            let (port, other) = (try freePort(), try freePort())
            let primary = try world.primary(try world.folder("p"), port: port)
            try primary.waitForState("streaming")
            let request = String(repeating: "0123456789abcdef", count: 2)
            _ = try world.put(primary.folder, "account", "one", "--request", request)
            _ = try world.put(primary.folder, "account", "two")
            let folder = try world.folder("r")
            if adopts { try writeFile(folder + "/account", "two") }
            let replica = try Node(
                world, "walrecv", folder,
                ["--from", "127.0.0.1:\(port)", "--listen", "127.0.0.1:\(other)", "--name", "r"]
                    + (adopts ? ["--adopt"] : []))
            try world.catchUp(primary, [replica])
            try primary.crash()
            try world.must("walctl", "promote", "127.0.0.1:\(other)")
            _ = try world.put(replica.folder, "account", "one", "--request", request)
            #expect(try text(ofFile: replica.folder + "/account") == "two")
            try replica.stop()
        }
    }

    @Test func applicationsMayWriteMeanwhile() throws {
        try withTwoNodes { world, primary, replica, port in
            for index in 0..<10 {
                try writeFile(primary.folder + "/shared", "application \(index)")
                try world.put("127.0.0.1:\(port)", "shared", "client \(index)")
                #expect(try text(ofFile: primary.folder + "/shared") == "client \(index)")
                try writeFile(primary.folder + "/shared", "again \(index)")
                _ = try world.mark(primary)
                #expect(try text(ofFile: primary.folder + "/shared") == "again \(index)")
            }
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    @Test func everyOddNameCanBeNamed() throws {
        try withTwoNodes { world, primary, replica, port in
            let node = "127.0.0.1:\(port)"
            let names: [(bytes: [UInt8], text: String)] = [
                (Array("with space".utf8), "with space"), ([0x0A], "\\x0a"), ([0xFF, 0xFE], "\\xff\\xfe"),
                (Array("-rf".utf8), "-rf"), ([0x5C], "\\x5c"), (Array("é".utf8), "é"),
                (Array("e\u{301}".utf8), "e\u{301}"), ([0xC2, 0x85], "\\xc2\\x85"), (Array("*?[".utf8), "*?["),
                ([UInt8](repeating: 0x6E, count: 255), String(repeating: "n", count: 255)),
                (Array("...".utf8), "..."), (Array(" ".utf8), " "), (Array("a:b,c".utf8), "a:b,c"),
            ]
            for (bytes, text) in names {
                let content = Array("content of \(text)".utf8)
                let outcome = try world.walctl(["put", node, "--", text], input: content)
                #expect(outcome.status == 0, "\(outcome)")
                var status = stat()
                let path = Array(primary.folder.utf8) + [0x2F] + bytes + [0]
                let found = path.withUnsafeBufferPointer { all in
                    all.withMemoryRebound(to: CChar.self) { lstat($0.baseAddress!, &status) }
                }
                #expect(found == 0 && status.st_size == content.count, "\(text)")
                #expect(try world.must("walctl", "get", node, "--", text) == "content of \(text)")
            }
            let listed = Set(try world.must("walctl", "ls", node).split(separator: "\n").map(String.init))
            #expect(listed == Set(names.map(\.text)))
            try world.expectEqual(primary, port: port, [replica])
            for (_, text) in names { try world.must("walctl", "rm", node, "--", text) }
            #expect(try world.must("walctl", "ls", node) == "")
        }
    }

    @Test func noSpaceHasItsOwnCode() throws {
        try withWorld { world in
            let source = try world.mountTmpfs("source", megabytes: 24)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            try primary.waitForState("streaming")
            let node = "127.0.0.1:\(port)"
            let outcome = try world.walctl(
                ["put", node, "large"], input: [UInt8](repeating: 7, count: 30 << 20))
            #expect(outcome.status == 5, "\(outcome)")
            try world.put(node, "small", "content")
            #expect(try world.must("walctl", "get", node, "small") == "content")
        }
    }

    /// Killed again and again while clients write: what was acknowledged is there, nothing is taken back by the scan, and
    /// what was asked for twice was done once.
    @Test func killedDuringPuts() async throws {
        let world = try World()
        defer { world.end() }
        let port = try freePort()
        let primary = try world.primary(try world.folder("source"), port: port)
        let replica = try world.replica("replica", from: port)
        try primary.waitForState("streaming")
        var random = SeededRandom()
        random.announce()
        let done = Monitor([String: String]())
        let isOver = Monitor(false)
        // Each task writes its own names and one that all share.
        let tasks = (0..<3).map { task in
            Task {
                var count = 0
                while !isOver.withLock({ $0 }) {
                    count += 1
                    let name = "task\(task)-\(count % 40)"
                    // Now and then more than goes into the log.
                    let size = count % 25 == 0 ? 18 << 20 : 100 + count
                    let text = "\(task) \(count) "
                    let bytes = Array(text.utf8) + [UInt8](repeating: UInt8(count % 200 + 1), count: size)
                    try await Self.putUntilDone(port, name, bytes, isOver)
                    done.update { $0[name] = text }
                }
                return count
            }
        }
        for _ in 0..<8 {
            usleep(UInt32(random.int(in: 100_000...700_000)))
            try primary.crash()
            try primary.restart()
            try until("answer of the primary") { try primary.status() != nil }
        }
        isOver.update { $0 = true }
        var total = 0
        for task in tasks { total += try await task.value }
        try primary.crash()
        try primary.restart()
        try primary.waitForState("streaming")
        for (name, text) in done.withLock({ $0 }) {
            let bytes = try bytes(ofFile: "\(primary.folder)/\(name)")
            #expect(bytes.starts(with: Array(text.utf8)), "\(name) is not '\(text)'")
        }
        try world.expectEqual(primary, port: port, [replica])
        let rows = try world.must("walctl", "log", primary.folder, "--json").split(separator: "\n")
        let written = try rows.count { row in
            try (Status(String(row))["flags"] as? [String] ?? []).contains("client")
        }
        #expect(written == total, "\(total) writes became \(written) segments")
        // Of the log a torn tail may be kept; of the tree nothing was in the way.
        let kept = try FileManager.default.contentsOfDirectory(atPath: primary.folder + "/.wal/quarantine")
        #expect(kept.allSatisfy { $0.hasSuffix(".torn") }, "\(kept)")
    }

    private static func putUntilDone(
        _ port: Int, _ name: String, _ bytes: [UInt8], _ isOver: Monitor<Bool>
    ) async throws {
        let id = WriteRequest(.put, path: name).requestId
        let deadline = Clock.monotonicNanoseconds() + 60_000_000_000
        while true {
            do {
                let client = try await TestClient(port: port)
                do {
                    _ = try await client.put(name, bytes, id: id)
                    await client.close()
                    return
                } catch {
                    await client.close()
                    throw error
                }
            } catch {
                guard Clock.monotonicNanoseconds() < deadline else { throw error }
                try await Task.sleep(for: .milliseconds(20))
            }
        }
    }
}

/// The number in a position.
func seq(_ position: String) -> Int {
    let parts = position.trimmingCharacters(in: .whitespacesAndNewlines).split(separator: ":")
    return parts.count > 1 ? Int(parts[1]) ?? -1 : -1
}
