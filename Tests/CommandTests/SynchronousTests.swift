import Foundation
import Testing
import WALTestKit

/// `walship --sync N`: what is answered is on N replicas.
@Suite(.hangLimit) struct SynchronousTests {
    @Test func nothingIsAnsweredBeforeReplicasHaveIt() throws {
        try withTrio(["a": ["--sync", "2"]]) { trio in
            #expect(try !(trio["a"].status()?.notes ?? []).contains { $0.contains("DEGRADED") })
            try trio["c"].stop()
            let degraded = try poll("a word of it") { try trio["a"].status()?.notes.first { $0.contains("DEGRADED") } }
            #expect(degraded.contains("missing: c"), "\(degraded)")
            try trio.write("a", "new", "1")
            let late = try trio.world.run("walctl", "mark", trio.folder("a"), "--timeout", "1s")
            #expect(late.status == 2 && late.errors.contains("1 of 2 replicas"), "\(late)")
            #expect(late.errors.contains("without it: c"), "\(late)")
            try trio["c"].restart()
            let made = try trio.world.run("walctl", "mark", trio.folder("a"), "--timeout", "30s")
            #expect(made.status == 0, "\(made)")
            #expect(trio.read("c", "new") == "1" || trio.read("b", "new") == "1")
            // With two that must have it, the promise of any one is enough for safety, and of two for the epoch.
            #expect(try trio.group("b")["sync_replicas"] as? Int == 2)
        }
    }

    /// A promotion asks those whom the replicas know of. One that they do not know of acknowledges nothing.
    @Test func aNewcomerCountsWhenTheOthersKnowOfIt() throws {
        try withTrio(["a": ["--sync", "1"]]) { trio in
            for name in ["b", "c"] { trio[name].child.signal(SIGSTOP) }
            let d = try Node(
                trio.world, "walrecv", try trio.world.folder("d"),
                ["--from", trio.address("a"), "--listen", "127.0.0.1:\(try freePort())", "--name", "d"])
            try until("d") { try trio["a"].status()?.replica("d")?["state"] as? String == "streaming" }
            let put = try trio.world.walctl(
                ["put", trio.folder("a"), "only-d", "--timeout", "2s"], input: Array("1".utf8))
            #expect(put.status == 2 && put.errors.contains("0 of 1 replicas"), "\(put)")
            #expect(try text(ofFile: d.folder + "/only-d") == "1")
            let note = try #require(try trio["a"].status()?.notes.first { $0.hasPrefix("d: ") })
            #expect(note.contains("1 of b, c"), "\(note)")
            // One of the two is enough: a promotion needs both.
            trio["b"].child.signal(SIGCONT)
            try until("d counts") { try trio["a"].status()?.notes.contains { $0.hasPrefix("d: ") } == false }
            trio["b"].child.signal(SIGSTOP)
            _ = try trio.world.put(trio.folder("a"), "d-alone", "2", "--timeout", "10s")
            for name in ["b", "c"] { trio[name].child.signal(SIGCONT) }
            try trio["a"].crash()
            try d.crash()
            // They cannot forget it now.
            let members = try trio.group("b")["members"] as? [[String: Any]] ?? []
            #expect(members.contains { $0["name"] as? String == "d" }, "\(members)")
            let refused = try trio.world.run("walctl", "promote", trio.address("b"))
            #expect(refused.status == 2 && refused.errors.contains("missing: d"), "\(refused)")
        }
    }

    /// One that was away when the number became higher leads by the higher one all the same.
    @Test func theNumberGoesOverToWhoWasAway() throws {
        try withWorld { world in
            let addresses = try (0..<4).map { _ in "127.0.0.1:\(try freePort())" }
            let folder = try world.folder("a")
            func primary(_ sync: String) throws -> Node {
                try Node(world, "walship", folder, ["--listen", addresses[0], "--name", "a", "--sync", sync])
            }
            func known(_ node: Node) throws -> Int? {
                (try node.status()?["group"] as? [String: Any])?["sync_replicas"] as? Int
            }
            var a = try primary("1")
            let replicas = try ["b", "c", "d"].enumerated().map { number, name in
                try Node(
                    world, "walrecv", try world.folder(name),
                    ["--from", addresses[0], "--listen", addresses[number + 1], "--name", name])
            }
            try world.catchUp(a, replicas)
            try until("one") {
                try replicas.allSatisfy { node in
                    let group = try node.status()?["group"] as? [String: Any]
                    return group?["sync_replicas"] as? Int == 1 && (group?["members"] as? [Any])?.count == 3
                }
            }
            replicas[2].child.signal(SIGSTOP)
            try a.stop()
            a = try primary("2")
            try until("two") { try replicas[..<2].allSatisfy { try known($0) == 2 } }
            try a.crash()
            replicas[2].child.signal(SIGCONT)
            #expect(try known(replicas[2]) == 1)
            try world.must("walctl", "promote", addresses[3])
            #expect(try known(replicas[2]) == 2)
            try until("two") { try replicas[..<2].allSatisfy { try known($0) == 2 } }
            for node in replicas { try node.stop() }
        }
    }

    /// What was acknowledged under the old number is as safe as it was, and what is acknowledged under the new one, too.
    @Test func anotherNumberIsInForceWhenTheReplicasKnow() throws {
        try withWorld { world in
            let port = try freePort()
            let folder = try world.folder("a")
            func primary(_ sync: String) throws -> Node {
                try Node(
                    world, "walship", folder, ["--listen", "127.0.0.1:\(port)", "--name", "a", "--sync", sync])
            }
            func known(_ node: Node) throws -> Int? {
                (try node.status()?["group"] as? [String: Any])?["sync_replicas"] as? Int
            }
            var a = try primary("1")
            let replicas = try ["b", "c"].map { try world.replica($0, from: port) }
            try world.catchUp(a, replicas)
            try until("one") { try replicas.allSatisfy { try known($0) == 1 } }
            replicas[1].child.signal(SIGSTOP)
            _ = try world.put(folder, "b-has-it", "1")
            try a.stop()
            a = try primary("2")
            try until("b is back") { try a.status()?.replica("b")?["state"] as? String == "streaming" }
            // A promotion by c alone would be enough for two, and it lacks what was acknowledged for one.
            #expect(try known(replicas[0]) == 1)
            replicas[1].child.signal(SIGCONT)
            try until("two") { try replicas.allSatisfy { try known($0) == 2 } }
            try a.stop()
            try replicas[1].stop()
            a = try primary("1")
            let note = try poll("a note") { try a.status()?.notes.first { $0.contains("--sync 1 is in force when") } }
            #expect(note.contains("2 of b, c"), "\(note)")
            let put = try world.walctl(["put", folder, "early", "--timeout", "2s"], input: Array("1".utf8))
            #expect(put.status == 2 && put.errors.contains("1 of 2 replicas"), "\(put)")
            try replicas[1].restart()
            try until("one again") { try replicas.allSatisfy { try known($0) == 1 } }
            try until("in force") { try a.status()?.notes.contains { $0.contains("in force") } == false }
            try replicas[1].stop()
            _ = try world.put(folder, "late", "2", "--timeout", "20s")
            // What it was before is no number of anybody any more.
            let file = try Status(try text(ofFile: folder + "/.wal/node.json"))
            #expect(file["sync_replicas"] as? Int == 1 && file["voters_needed"] as? Int == 1)
            for node in [a, replicas[0]] { try node.stop() }
        }
    }
}
