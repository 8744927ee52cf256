import Foundation
import Testing
import WALTestKit

/// What has gone apart is put together again on command, and nothing is lost of either side.
@Suite(.hangLimit) struct RejoinTests {
    /// Until it has been reconciled, what a deposed primary has is of another past: its numbers acknowledge nothing, and
    /// nobody is served from it.
    @Test func aForkCountsForNothing() throws {
        try withWorld { world in
            let ports = try (0..<2).map { _ in try freePort() }
            let p = try Node(
                world, "walship", try world.folder("p"), ["--listen", "127.0.0.1:\(ports[0])", "--name", "p"])
            let a = try Node(
                world, "walrecv", try world.folder("a"),
                ["--from", "127.0.0.1:\(ports[0])", "--listen", "127.0.0.1:\(ports[1])", "--name", "a"])
            try world.catchUp(p, [a])
            _ = try world.put(p.folder, "base", "base", "--durable", "1")
            try a.crash()
            let session = world.path + "/session"
            var lost: [String] = []
            for number in 0..<10 {
                lost.append(try world.put(p.folder, "tail\(number)", "of p"))
                if number == 1 { _ = try world.must("walctl", "get", p.folder, "base", "--session", session) }
            }
            let request = String(repeating: "0123456789abcdef", count: 2)
            _ = try world.put(p.folder, "asked", "of p", "--request", request)
            try p.crash()
            try a.restart()
            try until("a answers") { try a.status() != nil }
            try world.must("walctl", "promote", "127.0.0.1:\(ports[1])")
            var random = SeededRandom(seed: 3)
            try Data(random.bytes(8 << 20)).write(to: URL(fileURLWithPath: a.folder + "/big"))
            _ = try world.mark(a)
            try p.restart()
            try until("p is fenced") { try p.status()?["role"] as? String == "fenced" }
            let proxy = try world.proxy(to: ports[1])
            // The sync takes as long as this needs.
            proxy.setWeather(.init(delay: 400_000), [.down])
            try world.must("walctl", "rejoin", p.folder, "--to", proxy.address)
            try until("the sync") { try a.status()?.replica("p")?["state"] as? String == "syncing" }
            let write = try world.walctl(
                ["put", a.folder, "one", "--durable", "1", "--timeout", "500ms"], input: Array("1".utf8))
            #expect(write.status == 2, "\(write)")
            let read = try world.run("walctl", "get", p.folder, "tail3", "--no-redirect", "--timeout", "500ms")
            #expect(read.status == 2 && read.output.isEmpty == read.errors.contains("no whole tree"), "\(read)")
            #expect(try a.status()?.replica("p")?["state"] as? String == "syncing")
            proxy.setWeather(.fair)
            _ = try world.put(a.folder, "two", "2", "--durable", "1", "--timeout", "60s")
            try world.catchUp(a, [p])
            #expect(try text(ofFile: p.folder + "/one") == "1")
            #expect(!FileManager.default.fileExists(atPath: p.folder + "/tail3"))
            // Also where the log does not go back so far, a position of the past that was lost is told from others; who has
            // seen that past must not write as if nothing had happened.
            let tail = try world.run("walctl", "get", p.folder, "base", "--after", lost[2])
            #expect(tail.status == 3 && tail.errors.contains("epoch 2 began at segment"), "\(tail)")
            for verb in ["mkdir", "stat"] {
                let seen = try world.run("walctl", verb, a.folder, "base", "--session", session)
                #expect(seen.status == 3 && seen.errors.contains("remove \(session) to begin anew"), "\(seen)")
            }
            // A request whose write was lost is done when it is asked for again.
            try world.must("walctl", "switchover", "127.0.0.1:\(ports[1])", "127.0.0.1:\(ports[0])")
            _ = try world.put(p.folder, "asked", "again", "--request", request, "--timeout", "60s")
            #expect(try text(ofFile: p.folder + "/asked") == "again")
            for node in [p, a] { try node.stop() }
        }
    }

    /// A replica whose log holds no segment stands on what its first sync brought. Where that is of a past that was given up, a
    /// rejoin reconciles it all the same.
    @Test func aFirstSyncOfAPastThatWasGivenUp() throws {
        try withWorld { world in
            let addresses = try (0..<3).map { _ in "127.0.0.1:\(try freePort())" }
            let p = try Node(world, "walship", try world.folder("p"), ["--listen", addresses[0], "--name", "p"])
            func replica(_ name: String, _ number: Int, _ from: String...) throws -> Node {
                try Node(
                    world, "walrecv", try world.folder(name),
                    from.flatMap { ["--from", $0] } + ["--listen", addresses[number], "--name", name])
            }
            let a = try replica("a", 1, addresses[0])
            try world.catchUp(p, [a])
            try a.crash()
            let request = String(repeating: "0123456789abcdef", count: 2)
            _ = try world.put(p.folder, "tail", "of p", "--request", request)
            let c = try replica("c", 2, addresses[0], addresses[1])
            try world.catchUp(p, [c])
            try p.crash()
            try a.restart()
            try until("a answers") { try a.status() != nil }
            try world.must("walctl", "promote", addresses[1])
            _ = try world.put(a.folder, "one", "of a")
            try until("c has diverged") { try c.status()?.state == "diverged" }
            try world.must("walctl", "rejoin", c.folder, "--to", addresses[1], "--wait", "--timeout", "60s")
            try world.catchUp(a, [c])
            #expect(try text(ofFile: c.folder + "/one") == "of a")
            #expect(!FileManager.default.fileExists(atPath: c.folder + "/tail"))
            // No segment says what it had alone, so all of it is kept.
            let kept = try FileManager.default.subpathsOfDirectory(atPath: c.folder + "/.wal/quarantine")
            let tail = try #require(kept.first { $0.hasSuffix("/files/tail") })
            #expect(try text(ofFile: "\(c.folder)/.wal/quarantine/\(tail)") == "of p")
            // What was asked of that past was not done.
            try world.must("walctl", "switchover", addresses[1], addresses[2])
            _ = try world.put(c.folder, "tail", "again", "--request", request, "--timeout", "60s")
            #expect(try text(ofFile: c.folder + "/tail") == "again")
            for node in [a, c] { try node.stop() }
        }
    }

    /// The primary is put back twice to one day. What the replica had beyond that is kept both times: it may be all that there
    /// is of what was acknowledged.
    @Test func whatAnEarlierRejoinHasKeptStays() throws {
        try withWorld { world in
            let ports = try (0..<2).map { _ in try freePort() }
            let p = try world.primary(try world.folder("p"), port: ports[0])
            let a = try world.replica("a", from: ports[0], "--listen", "127.0.0.1:\(ports[1])")
            try world.catchUp(p, [a])
            _ = try world.put(p.folder, "base", "base", "--durable", "1")
            try p.stop()
            try world.must("rsync", "-aHAX", p.folder + "/", world.path + "/backup/")
            for word in ["first", "second"] {
                try p.restart()
                try until("p answers") { try p.status() != nil }
                _ = try world.put(p.folder, word, word, "--durable", "1", "--timeout", "30s")
                try p.crash()
                try world.must("rsync", "-aHAX", "--delete", world.path + "/backup/", p.folder + "/")
                try p.restart()
                try until("a has diverged") { try a.status()?.state == "diverged" }
                try world.must("walctl", "rejoin", a.folder, "--wait", "--timeout", "60s")
                if word == "first" { try p.stop() }
            }
            let kept = try FileManager.default.subpathsOfDirectory(atPath: a.folder + "/.wal/quarantine").sorted()
            for word in ["first", "second"] {
                let path = try #require(kept.first { $0.hasSuffix("/files/" + word) }, "\(kept)")
                #expect(try text(ofFile: "\(a.folder)/.wal/quarantine/\(path)") == word)
            }
            // It has nothing to give up now.
            let again = try world.must("walctl", "rejoin", a.folder)
            #expect(again == "a is a replica already, of 127.0.0.1:\(ports[0])")
            for node in [p, a] { try node.stop() }
        }
    }

    /// Two promotions by force, each where the other was not to be asked.
    @Test func oneOfTwoPrimariesOfAnEpochIsGivenUp() throws {
        let hook = ["--on-fence", #"/bin/sh -c 'touch "$WALSHIP_TREE".fenced'"#]
        try withTrio(["b": hook]) { trio in
            try trio["a"].crash()
            trio["c"].child.signal(SIGSTOP)
            try trio.promote("b", "--force", "--timeout", "10s")
            _ = try trio.world.put(trio.folder("b"), "of", "b")
            trio["b"].child.signal(SIGSTOP)
            trio["c"].child.signal(SIGCONT)
            try trio.promote("c", "--force", "--timeout", "10s")
            _ = try trio.world.put(trio.folder("c"), "of", "c")
            trio["b"].child.signal(SIGCONT)
            guard try trio.epoch("b") == trio.epoch("c") else { return }
            for (name, other) in [("b", "c"), ("c", "b")] {
                let note = try poll("a note of \(name)") { try trio[name].status()?.notes.first { $0.contains("too") } }
                #expect(note.contains("\(other) at \(trio.address(other)) leads epoch 2"), "\(note)")
            }
            try trio.world.must(
                "walctl", "rejoin", trio.folder("b"), "--to", trio.address("c"), "--wait", "--timeout", "60s")
            try trio.expectEqual("c", but: ["a"])
            #expect(trio.read("b", "of") == "c")
            // Whoever writes to its tree must hear that it does not lead any more.
            try until("the hook") { FileManager.default.fileExists(atPath: trio.folder("b") + ".fenced") }
            #expect(try trio.quarantine("b").contains { $0.hasSuffix("files/of") })
        }
    }

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
