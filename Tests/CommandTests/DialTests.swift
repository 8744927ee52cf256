import Foundation
import Glibc
import Testing

/// Either side dials; whoever has done what it was asked to do ends with 0.
@Suite struct DialTests {
    @Test func thePrimaryDials() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let ports = [try freePort(), try freePort()]
            let primary = try Node(
                world, "walship", source, ["--to", "127.0.0.1:\(ports[0])", "--to", "127.0.0.1:\(ports[1])"])
            let replicas = try ports.enumerated().map { index, port in
                try listeningReplica(world, "replica-\(index)", port)
            }
            try world.catchUp(primary, replicas)
            try writeFile(source + "/later", "later")
            let position = try world.catchUp(primary, replicas)
            try world.must("walctl", "wait", source, position, "--replicas", "2")
            for (replica, port) in zip(replicas, ports) {
                #expect(try world.difference(source, replica.folder) == "")
                // A node that listens answers clients too, and each can be held against the other.
                let other = port == ports[0] ? ports[1] : ports[0]
                let verify = try world.run(
                    "walctl", "verify", "--deep", "127.0.0.1:\(port)", "--against", "127.0.0.1:\(other)")
                #expect(verify.status == 0, "\(verify)")
            }
            // Stopped in the middle of its life, each goes on.
            try replicas[0].crash()
            try writeFile(source + "/third", "third")
            try replicas[0].restart()
            try world.catchUp(primary, replicas)
            for node in [primary] + replicas { try node.stop() }
        }
    }

    @Test func onceEndsWhenEveryReplicaHasAppliedAll() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let port = try freePort()
            let replica = try listeningReplica(world, "replica", port)
            for text in ["first", "second"] {
                try writeFile(source + "/file", text)
                let outcome = try world.run("walship", source, "--to", "127.0.0.1:\(port)", "--once")
                #expect(outcome.status == 0, "\(outcome)")
                #expect(try world.difference(source, replica.folder) == "")
            }
        }
    }

    @Test func onceWaitsForAReplicaThatIsNotThereYet() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let port = try freePort()
            let primary = try world.start("walship", [source, "--to", "127.0.0.1:\(port)", "--once"])
            try until("word of the replica that does not answer") { primary.errors.contains("127.0.0.1:\(port)") }
            #expect(primary.isRunning)
            let replica = try listeningReplica(world, "replica", port)
            #expect(try primary.wait() == 0, "\(primary.errors)")
            #expect(try world.difference(source, replica.folder) == "")
        }
    }

    @Test func untilEndsWhenThePositionIsApplied() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let position = try world.mark(primary)
            let short = position.split(separator: ":").prefix(2).joined(separator: ":")
            let mirror = try world.folder("mirror")
            for text in [short, position] {
                let outcome = try world.run("walrecv", mirror, "--from", "127.0.0.1:\(port)", "--until", text)
                #expect(outcome.status == 0, "\(outcome)")
                #expect(try world.difference(source, mirror) == "")
            }
        }
    }

    @Test(arguments: [SIGTERM, SIGINT]) func signalsEndEveryDaemonWith0(signal: Int32) throws {
        try withMirroredFile { world, primary, replica, _, _ in
            let alone = try Node(
                world, "walrecv", try world.folder("alone"), ["--from", "127.0.0.1:\(try freePort())"])
            try alone.waitForState("connecting")
            for node in [alone, replica, primary] {
                node.child.signal(signal)
                #expect(try node.child.wait() == 0, "\(node.child.command)\n\(node.child.errors)")
            }
        }
    }

    @Test func aSignalDuringTheFirstScanAndTheFirstSyncIsHeard() throws {
        try withWorld { world in
            let source = try world.copyRealFiles(to: "source", count: 3_000)
            let port = try freePort()
            let early = try world.primary(source, port: port)
            early.child.signal(SIGTERM)
            // Before it listens for signals it ends like any other program.
            #expect([0, -SIGTERM].contains(try early.child.wait()), "\(early.child.errors)")
            let primary = try world.primary(source, port: port)
            try primary.waitForState("streaming")
            let replica = try world.replica("replica", from: port)
            try until("first sync") { replica.child.errors.contains("syncing") }
            try replica.stop()
            try replica.restart()
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    private func listeningReplica(_ world: World, _ name: String, _ port: Int) throws -> Node {
        try Node(world, "walrecv", try world.folder(name), ["--listen", "127.0.0.1:\(port)", "--name", name])
    }
}
