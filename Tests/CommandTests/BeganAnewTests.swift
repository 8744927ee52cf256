import Foundation
import Glibc
import Testing
import WALTestKit

/// A primary that has lost its catalog begins anew: a segment of its log says so, and what it stands for is in its tree alone.
/// Then it dies, before any replica has reconciled.
@Suite(.hangLimit) struct BeganAnewTests {
    /// Brings replicas to where their log has that segment and their tree stands before it, at what is returned; that of the
    /// `stalled` is not even there. The primary is gone then.
    private func beginAnewAndDie(
        _ primary: Node, _ replicas: [Node], _ world: World, stalled: Node? = nil
    ) throws -> Int {
        for replica in replicas { try replica.stop() }
        let source = primary.folder
        // Not shown while no mode can be set, so nor is what follows.
        try Do.setMode(Bytes(source) / "file", 0o600)
        let before = try world.must("walctl", "mark", source)
        let seq = try #require(Int(before.split(separator: ":")[1]))
        try primary.stop()
        try loseCatalog(of: primary)
        try writeFile(source + "/lost", "lost")
        try primary.restart()
        try primary.waitForState("streaming")
        try writeFile(source + "/lost too", "lost")
        let end = try world.must("walctl", "mark", source)
        let last = try #require(Int(end.split(separator: ":")[1]))
        #expect(last > seq + 1)
        for replica in replicas {
            let faults = Faults(
                root: replica.folder, action: .noSpace, at: 1, times: 0, calls: ["chmod"], place: "tree")
            try replica.restart(wrapper: faults.wrapper)
            try until("all of it in the log of \(replica.folder)") {
                let log = try replica.status()?["log"] as? [String: Any]
                return log?["last_seq"] as? Int == last
            }
        }
        try primary.crash()
        for replica in replicas where replica !== stalled {
            try replica.stop()
            try replica.restart()
            try until("the segment") { replica.child.errors.contains("is where the primary began anew") }
            let status = try #require(try replica.status())
            #expect(status.appliedSeq == seq && status["durable_seq"] as? Int == seq, "\(replica.child.errors)")
        }
        return seq
    }

    /// Nothing that was acknowledged is behind that segment.
    @Test func aReplicaLeadsFromBeforeIt() throws {
        try withTrio(replicas: ["b", "c", "d"]) { trio in
            try trio.write("a", "file", "content")
            try trio.catchUp("a")
            let replicas = ["b", "c", "d"].map { trio[$0] }
            let seq = try beginAnewAndDie(trio["a"], replicas, trio.world, stalled: trio["d"])
            let outcome = try trio.promote("b", "--json")
            let position = try #require(try Status(outcome.output)["position"] as? String)
            #expect(position.hasPrefix("2:\(seq + 1):"), "\(outcome)")
            // One that has not come so far follows once it has.
            try trio["d"].stop()
            try trio["d"].restart()
            try trio.write("b", "after", "after")
            try trio.expectEqual("b", but: ["a"])
            #expect(trio.read("c", "file") == "content" && trio.read("c", "lost") == nil)
            // What is left out is not gone.
            let kept = try #require(try trio.quarantine("b").last { $0.hasPrefix("log-after-1-\(seq)-") })
            let dump = try trio.world.must("walctl", "dump", trio.folder("b") + "/.wal/quarantine/" + kept)
            #expect(dump.contains("lost too"), "\(dump)")
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            try trio.world.must("walctl", "rejoin", trio.folder("a"))
            try trio.waitForRole("replica", of: "a")
            try trio.expectEqual("b")
            #expect(try trio.quarantine("a").contains { $0.hasSuffix("files/lost") })
        }
    }

    /// That is found out when it has begun.
    @Test(.enabled(if: World.isRoot, "an immutable file needs root")) func aLeadThatBeginsWithADamagedCatalog() throws {
        try withTrio { trio in
            try freeze(trio["b"], true)
            defer { try? freeze(trio["b"], false) }
            let broken = try trio.world.run("walctl", "switchover", trio.address("a"), trio.address("b"))
            #expect(broken.status == 2, "\(broken)")
            #expect(try trio.role("a") == "fenced")
            try trio["a"].stop()
            // The page that holds some of the names; the others tell where the node stands.
            let path = trio.folder("a") + "/.wal/catalog.sqlite"
            var catalog = try bytes(ofFile: path)
            let name = try #require(catalog.firstRange(of: Array("file7".utf8)))
            let page = name.lowerBound / 4096 * 4096
            for index in page..<page + 100 { catalog[index] = 0xFF }
            try writeFile(path, catalog)
            try trio["a"].restart()
            try freeze(trio["b"], false)
            try until("a answers") { try trio["a"].status() != nil }
            try trio.promote("a")
            try until("it is found") { trio["a"].child.errors.contains("is damaged") }
            try trio["a"].waitForState("streaming")
            try trio.write("a", "after", "after")
            try trio.expectEqual("a")
        }
    }

    private func loseCatalog(of node: Node) throws {
        for suffix in ["", "-wal", "-shm"] {
            try? FileManager.default.removeItem(atPath: node.folder + "/.wal/catalog.sqlite" + suffix)
        }
    }

    /// Who must reconcile has no tree to give: what it gave would lead to that segment again.
    @Test func aReplicaInBetweenLetsItsOwnWait() throws {
        try withWorld { world in
            let addresses = try (0..<2).map { _ in "127.0.0.1:\(try freePort())" }
            let source = try world.folder("a")
            try writeFile(source + "/file", "content")
            let a = try Node(world, "walship", source, ["--listen", addresses[0], "--name", "a"])
            let b = try Node(
                world, "walrecv", try world.folder("b"),
                ["--from", addresses[0], "--listen", addresses[1], "--name", "b"])
            let c = try Node(world, "walrecv", try world.folder("c"), ["--from", addresses[1], "--name", "c"])
            try world.catchUp(a, [b, c])
            try c.stop()
            _ = try beginAnewAndDie(a, [b], world)
            try c.restart()
            try until("the segment at the end") { c.child.errors.contains("is where the primary began anew") }
            try until("its wait") { try b.status()?.replica("c")?["state"] as? String == "syncing" }
            // Else it lists over and over.
            sleep(1)
            let times = c.child.errors.components(separatedBy: "is where the primary began anew").count - 1
            #expect(times == 1, "\(c.child.errors)")
            try a.restart()
            try world.catchUp(a, [b, c])
            for node in [b, c] { #expect(try Oracle.differences(source, node.folder).isEmpty, "\(node.folder)") }
            for node in [a, b, c] { try node.stop() }
        }
    }
}
