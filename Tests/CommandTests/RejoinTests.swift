import Foundation
import Testing

/// What has gone apart is put together again on command, and nothing is lost of either side.
@Suite(.timeLimit(.minutes(10))) struct RejoinTests {
    /// Both sides of a partition are written to; nobody hears of the other.
    @Test func partitionThatHeals() throws {
        try withWorld { world in
            let ports = try (0..<3).map { _ in try freePort() }
            let proxies = try ports.map { try world.proxy(to: $0) }
            func arguments(_ number: Int, _ name: String) -> [String] {
                [
                    "--listen", "127.0.0.1:\(ports[number])", "--advertise", "127.0.0.1:\(proxies[number].port)",
                    "--name",
                    name,
                ]
            }
            let a = try Node(world, "walship", try world.folder("a"), arguments(0, "a"))
            let others = try ["b", "c"].enumerated().map { index, name in
                try Node(
                    world, "walrecv", try world.folder(name),
                    ["--from", "127.0.0.1:\(proxies[0].port)"] + arguments(index + 1, name))
            }
            try Data("1".utf8).write(to: URL(fileURLWithPath: a.folder + "/shared"))
            try world.catchUp(a, others)
            try until("group") {
                try others.allSatisfy { node in
                    let group = try node.status()?["group"] as? [String: Any]
                    return (group?["members"] as? [Any])?.count == 2
                }
            }
            // To a and from it nothing goes through any more.
            proxies[0].cut()
            try until("cut") { try others.allSatisfy { try $0.status()?.state == "connecting" } }
            let promoted = try world.run("walctl", "promote", "127.0.0.1:\(ports[1])")
            #expect(promoted.status == 0, "\(promoted)")
            for (node, text) in [(a, "of a"), (others[0], "of b")] {
                try Data(text.utf8).write(to: URL(fileURLWithPath: node.folder + "/shared"))
                try Data(text.utf8).write(to: URL(fileURLWithPath: node.folder + "/" + String(text.last!)))
            }
            try world.catchUp(others[0], [others[1]])
            proxies[0].open()
            try until("fence") { try a.status()?["role"] as? String == "fenced" }
            try world.must("walctl", "rejoin", a.folder)
            try until("replica") { try a.status()?["role"] as? String == "replica" }
            try world.catchUp(others[0], [a, others[1]])
            for node in [a, others[1]] {
                #expect(try Oracle.differences(others[0].folder, node.folder).isEmpty)
                #expect(try text(ofFile: node.folder + "/shared") == "of b")
            }
            let kept = try FileManager.default.subpathsOfDirectory(atPath: a.folder + "/.wal/quarantine")
            #expect(
                kept.contains { $0.hasSuffix("files/shared") } && kept.contains { $0.hasSuffix("files/a") }, "\(kept)")
            for node in [a] + others { try node.stop() }
        }
    }

    /// The primary was restored from a copy: its replicas are ahead of it, or have other segments of the same number.
    @Test(arguments: [false, true]) func replicaAheadOfARestoredPrimary(writesToo: Bool) throws {
        try withTrio { trio in
            try trio.catchUp("a")
            try trio["a"].stop()
            try trio.world.must("cp", "-a", trio.folder("a"), trio.world.path + "/copy")
            try trio["a"].restart()
            try trio.write("a", "lost", "1")
            try trio.catchUp("a")
            try trio["a"].stop()
            try trio.world.must("rsync", "-aHAX", "--delete", trio.world.path + "/copy/", trio.folder("a") + "/")
            try FileManager.default.removeItem(atPath: trio.world.path + "/copy")
            if writesToo { try trio.write("a", "other", "2") }
            try trio["a"].restart()
            for name in ["b", "c"] {
                try trio[name].waitForState("diverged")
                #expect(trio.read(name, "lost") == "1")
                try trio.world.must("walctl", "rejoin", trio.folder(name))
            }
            try trio.expectEqual("a")
            for name in ["b", "c"] {
                #expect(trio.read(name, "lost") == nil)
                #expect(try trio.quarantine(name).contains { $0.hasSuffix("files/lost") })
            }
        }
    }

    /// Killed again and again on its way.
    @Test func aRejoinGoesOnAfterACrash() throws {
        try withTrio { trio in
            try trio["a"].crash()
            try trio.promote("b")
            for number in 1...20 { try trio.write("a", "file\(number)", "tail \(number)") }
            try trio.write("b", "new", "1")
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            try trio.world.must("walctl", "rejoin", trio.folder("a"))
            for round in 0..<5 {
                usleep(UInt32(round * 25_000))
                try trio["a"].crash()
                try trio["a"].restart()
            }
            try trio.waitForRole("replica", of: "a")
            try trio.expectEqual("b")
            let kept = try trio.quarantine("a")
            for number in 1...20 {
                #expect(kept.contains { $0.hasSuffix("files/file\(number)") }, "\(number) of \(kept)")
            }
        }
    }
}
