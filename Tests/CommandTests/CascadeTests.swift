import Foundation
import Testing
import WALTestKit

/// A replica that serves replicas of its own.
@Suite(.hangLimit) struct CascadeTests {
    private struct Chain {
        let world: World
        let a: Node
        let b: Node
        let c: Node
        let addresses: [String]

        init(_ world: World) throws {
            self.world = world
            addresses = try (0..<2).map { _ in "127.0.0.1:\(try freePort())" }
            let source = try world.folder("a")
            try Data(repeating: 7, count: 300_000).write(to: URL(fileURLWithPath: source + "/large"))
            a = try Node(world, "walship", source, ["--listen", addresses[0], "--name", "a"])
            b = try Node(
                world, "walrecv", try world.folder("b"),
                ["--from", addresses[0], "--listen", addresses[1], "--name", "b"])
            c = try Node(world, "walrecv", try world.folder("c"), ["--from", addresses[1], "--name", "c"])
        }

        func expectEqual(_ leader: Node, _ others: [Node]) throws {
            try world.catchUp(leader, others)
            for node in others { #expect(try Oracle.differences(leader.folder, node.folder).isEmpty, "\(node.folder)") }
        }

        func stop() throws { for node in [a, b, c] where node.child.isRunning { try node.stop() } }
    }

    @Test func changesGoDownTheChain() throws {
        try withWorld { world in
            let chain = try Chain(world)
            try chain.expectEqual(chain.a, [chain.b, chain.c])
            // Content that is not in the log is had from the one in between.
            var bytes = Data((0..<30_000_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 7) })
            try bytes.write(to: URL(fileURLWithPath: chain.a.folder + "/huge"))
            try chain.expectEqual(chain.a, [chain.b, chain.c])
            bytes[17_000_000] ^= 1
            try bytes.write(to: URL(fileURLWithPath: chain.a.folder + "/huge"))
            try FileManager.default.removeItem(atPath: chain.a.folder + "/large")
            try chain.expectEqual(chain.a, [chain.b, chain.c])
            let status = try #require(try chain.b.status())
            #expect(status.replica("c")?["state"] as? String == "streaming")
            let group = try #require(try chain.c.status()?["group"] as? [String: Any])
            #expect(group["primary"] as? String == chain.addresses[0])
            // One of a chain counts for the primary once.
            #expect(try chain.a.status()?.replicas.count == 1)
            try chain.stop()
        }
    }

    /// A replica of a replica is none of those that the primary counts: its own promise is not enough, and theirs are.
    @Test func theEndOfTheChainIsPromoted() throws {
        try withWorld { world in
            let addresses = try (0..<3).map { _ in "127.0.0.1:\(try freePort())" }
            let a = try Node(world, "walship", try world.folder("a"), ["--listen", addresses[0], "--name", "a"])
            func replica(_ name: String, _ number: Int) throws -> Node {
                try Node(
                    world, "walrecv", try world.folder(name),
                    ["--from", addresses[number - 1], "--listen", addresses[number], "--name", name])
            }
            let b = try replica("b", 1)
            let c = try replica("c", 2)
            try world.catchUp(a, [b, c])
            _ = try world.put(a.folder, "before", "1", "--durable", "1", "--timeout", "30s")
            try world.catchUp(a, [b, c])
            try a.crash()
            b.child.signal(SIGSTOP)
            let refused = try world.run("walctl", "promote", addresses[2], "--timeout", "5s")
            #expect(refused.status == 2 && refused.errors.contains("0 of 1 replicas can promise"), "\(refused)")
            b.child.signal(SIGCONT)
            try world.must("walctl", "promote", addresses[2])
            _ = try world.put(c.folder, "after", "2", "--durable", "1", "--timeout", "60s")
            try world.catchUp(c, [b])
            #expect(try Oracle.differences(c.folder, b.folder).isEmpty)
            #expect(try text(ofFile: b.folder + "/before") == "1" && text(ofFile: b.folder + "/after") == "2")
            for node in [b, c] { try node.stop() }
        }
    }

    /// Whoever starts first.
    @Test func oneThatHasNothingYetIsWaitedFor() throws {
        try withWorld { world in
            let addresses = try (0..<2).map { _ in "127.0.0.1:\(try freePort())" }
            let b = try Node(
                world, "walrecv", try world.folder("b"),
                ["--from", addresses[0], "--listen", addresses[1], "--name", "b"])
            let c = try Node(world, "walrecv", try world.folder("c"), ["--from", addresses[1], "--name", "c"])
            try until("it is told to wait") { c.child.errors.contains("b has nothing yet") }
            let a = try Node(world, "walship", try world.folder("a"), ["--listen", addresses[0], "--name", "a"])
            try until("the chain") { try b.status()?.replica("c")?["state"] as? String == "streaming" }
            #expect(try a.status()?.replicas.count == 1)
            for node in [a, b, c] { try node.stop() }
        }
    }

    /// It has what it had, and needs nobody to say so.
    @Test func oneInBetweenServesAtOnceWhenItStartsAgain() throws {
        try withWorld { world in
            let chain = try Chain(world)
            try chain.expectEqual(chain.a, [chain.b, chain.c])
            for node in [chain.a, chain.b] { try node.stop() }
            try chain.b.restart()
            let late = try Node(
                world, "walrecv", try world.folder("late"), ["--from", chain.addresses[1], "--name", "late"])
            try until("the tree") { try chain.b.status()?.replica("late")?["state"] as? String == "streaming" }
            #expect(try Oracle.differences(chain.b.folder, late.folder).isEmpty)
            for node in [chain.b, chain.c, late] { try node.stop() }
        }
    }

    @Test func oneInBetweenMayBeAway() throws {
        try withWorld { world in
            let chain = try Chain(world)
            try chain.expectEqual(chain.a, [chain.b, chain.c])
            for round in 0..<3 {
                try chain.b.crash()
                try Data("\(round)".utf8).write(to: URL(fileURLWithPath: chain.a.folder + "/file\(round)"))
                try chain.b.restart()
                if round == 1 { try chain.c.crash(); try chain.c.restart() }
                try chain.expectEqual(chain.a, [chain.b, chain.c])
            }
            try chain.stop()
        }
    }

    @Test func theOneInBetweenIsPromoted() throws {
        try withWorld { world in
            let chain = try Chain(world)
            try chain.expectEqual(chain.a, [chain.b, chain.c])
            try chain.a.crash()
            try world.must("walctl", "promote", chain.addresses[1])
            try Data("new".utf8).write(to: URL(fileURLWithPath: chain.b.folder + "/new"))
            try chain.expectEqual(chain.b, [chain.c])
            try until("new leader") {
                (try chain.c.status()?["group"] as? [String: Any])?["primary"] as? String == chain.addresses[1]
            }
            try chain.stop()
        }
    }

    /// What only the end of a chain has is on nobody whom a promotion asks.
    @Test func theEndOfTheChainAcknowledgesNothing() throws {
        try withWorld { world in
            let addresses = try (0..<3).map { _ in "127.0.0.1:\(try freePort())" }
            let a = try Node(
                world, "walship", try world.folder("a"), ["--listen", addresses[0], "--name", "a", "--sync", "2"])
            let nodes = try [("b", 0), ("c", 0), ("d", 1)].map { name, from in
                let listen = from == 0 && name == "b" ? ["--listen", addresses[1]] : []
                return try Node(
                    world, "walrecv", try world.folder(name), ["--from", addresses[from], "--name", name] + listen)
            }
            try world.catchUp(a, nodes)
            _ = try world.put(a.folder, "first", "1", "--timeout", "60s")
            try world.catchUp(a, nodes)
            nodes[1].child.signal(SIGSTOP)
            let put = try world.walctl(["put", a.folder, "second", "--timeout", "2s"], input: Array("2".utf8))
            #expect(put.status == 2 && put.errors.contains("1 of 2 replicas"), "\(put)")
            // It is there all the same, at both.
            try until("the end of the chain") { (try? text(ofFile: nodes[2].folder + "/second")) == "2" }
            nodes[1].child.signal(SIGCONT)
            _ = try world.put(a.folder, "third", "3", "--timeout", "60s")
            for node in [a] + nodes { try node.stop() }
        }
    }
}
