import Foundation
import Glibc
import Testing
import WALFormat
import WALNode
import WALSystem
import WALTestKit

/// Positions carry what a client has seen from call to call, and from node to node.
@Suite struct SessionTests {
    @Test func aSessionFileRemembers() throws {
        try withTwoNodes { world, primary, replica, port in
            let file = world.path + "/session"
            let position = try world.put("127.0.0.1:\(port)", "file", "1", "--session", file)
            #expect(try text(ofFile: file) == #"{"position":"\#(position)"}"# + "\n")
            for index in 2...10 {
                try world.put("127.0.0.1:\(port)", "file", "\(index)", "--session", file)
                let read = try world.must("walctl", "get", replica.folder, "file", "--session", file)
                #expect(read == "\(index)")
            }
            // What an application wrote, and was read on the primary, is not unread on a replica.
            for index in 0..<10 {
                try writeFile(primary.folder + "/file", "by hand \(index)")
                let seen = try world.must("walctl", "get", primary.folder, "file", "--session", file)
                #expect(seen == "by hand \(index)")
                #expect(try world.must("walctl", "get", replica.folder, "file", "--session", file) == seen)
            }
            // Several at once keep the highest.
            let children = try (0..<8).map { index in
                try world.start(
                    "sh",
                    [
                        "-c", "echo x | \"$@\"", "sh", World.programs + "/walctl", "put", "127.0.0.1:\(port)",
                        "file\(index)", "--session", file,
                    ])
            }
            for child in children { #expect(try child.wait() == 0, "\(child.errors)") }
            let highest = try #require(children.map { seq($0.output) }.max())
            #expect(seq(try #require(try Status(try text(ofFile: file))["position"] as? String)) == highest)
            try writeFile(file, "{}")
            let damaged = try world.run("walctl", "get", replica.folder, "file", "--session", file)
            #expect(damaged.status == 1 && damaged.errors.contains("is no session file"), "\(damaged)")
        }
    }

    /// A long listing is looked up while the tree changes: the session has seen the latest of it.
    @Test func aListingIsNoOlderThanItsEntries() throws {
        try withTwoNodes { world, primary, _, _ in
            let folder = primary.folder + "/many"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            for number in 0..<12_000 { try writeFile("\(folder)/file-\(number)", "") }
            _ = try world.mark(primary)
            let session = world.path + "/session"
            for round in 1...3 {
                let ls = try world.start("walctl", ["ls", "-l", primary.folder, "many", "--session", session])
                usleep(UInt32(round * 15_000))
                let content = String(repeating: "x", count: 5000 + round)
                let written = try world.put(primary.folder, "many/zlast", content)
                #expect(try ls.wait() == 0, "\(ls.errors)")
                guard ls.output.contains(" \(content.count) ") else { continue }
                let seen = try Status(text(ofFile: session))["position"] as? String ?? ""
                func seq(_ position: String) -> Int { Int(position.split(separator: ":")[1]) ?? 0 }
                #expect(seq(seen) >= seq(written), "\(seen) of a listing that shows \(written)")
            }
        }
    }

    @Test func afterWaitsOrSaysWhyNot() throws {
        try withTwoNodes { world, primary, replica, port in
            let position = try world.put("127.0.0.1:\(port)", "file", "content")
            #expect(try world.must("walctl", "get", replica.folder, "file", "--after", position) == "content")
            let ahead = "1:\(seq(position) + 100)"
            let zero = String(repeating: "0", count: 32)
            for node in [replica.folder, primary.folder] {
                for (after, status) in [
                    (ahead, Int32(2)), ("1:\(seq(position)):\(zero)", 3), ("2:1", 2), ("banana", 64),
                ] {
                    let outcome = try world.run(
                        "walctl", "get", node, "file", "--after", after, "--timeout", "300ms", "--no-redirect")
                    #expect(outcome.status == status, "\(outcome)")
                }
            }
            // What is waited for comes.
            replica.child.signal(SIGSTOP)
            let next = try world.put("127.0.0.1:\(port)", "file", "next")
            let child = try world.start("walctl", ["get", replica.folder, "file", "--after", next])
            replica.child.signal(SIGCONT)
            #expect(try child.wait() == 0, "\(child.errors)")
            #expect(child.output == "next")
        }
    }

    /// Reads of any node after writes through the primary, thousands of times, with replicas that lag.
    @Test(arguments: [true, false])
    func readsAreMonotonicAndSeeOwnWrites(usesPositions: Bool) async throws {
        let world = try World()
        defer { world.end() }
        let calls = usesPositions ? 10_000 : 3_000
        let port = try freePort()
        let source = try world.mountTmpfs("source", megabytes: 512)
        let primary = try world.primary(source, port: port)
        let proxies = [try world.proxy(to: port), try world.proxy(to: port)]
        let folders = [
            try world.mountTmpfs("one", megabytes: 256), try world.mountTmpfs("two", megabytes: 256),
        ]
        var nodes = [primary]
        for (folder, proxy) in zip(folders, proxies) {
            nodes.append(
                try Node(
                    world, "walrecv", folder,
                    ["--from", "127.0.0.1:\(proxy.port)", "--name", "replica\(proxy.port)"]))
        }
        try primary.waitForState("streaming")
        let writer = try await TestClient(port: port)
        let files = 20
        for file in 0..<files { _ = try await writer.put("file\(file)", Array("0".utf8)) }
        try world.catchUp(primary, Array(nodes.dropFirst()))
        for proxy in proxies { proxy.setWeather(.init(delay: 6000), [.down]) }
        var readers: [TestClient] = []
        for node in nodes { readers.append(try await TestClient(node.folder)) }
        var random = SeededRandom()
        random.announce()
        var seen = [Int](repeating: 0, count: files)
        var token: String?
        var written = 0
        var stale = 0
        for _ in 0..<calls {
            let file = random.int(in: 0..<files)
            if random.once(in: 8) {
                written += 1
                let position = try await writer.put("file\(file)", Array("\(written)".utf8))
                seen[file] = written
                token = Self.higher(token, position)
            } else {
                let reader = readers[random.int(in: 0..<readers.count)]
                let (bytes, freshness) = try await reader.get(
                    "file\(file)", after: usesPositions ? token : nil, wantsPosition: usesPositions)
                let value = Int(String(decoding: bytes, as: UTF8.self)) ?? -1
                if value < seen[file] { stale += 1 }
                seen[file] = max(seen[file], value)
                token = Self.higher(token, freshness.position?.text)
            }
        }
        if usesPositions {
            #expect(stale == 0, "\(stale) of \(calls) calls saw less than one before them")
        } else {
            #expect(stale > 0, "no call saw less than one before it, so this shows nothing")
        }
        for client in readers + [writer] { await client.close() }
    }

    private static func higher(_ one: String?, _ other: String?) -> String? {
        guard let one, let other else { return one ?? other }
        return seq(one) < seq(other) ? other : one
    }
}
