import Foundation
import Glibc
import Testing
import WALSystem

/// A client names any node and ends at the one that can do it, or knows why not.
@Suite struct RedirectTests {
    @Test func aReplicaSendsWritesToItsPrimary() throws {
        try withTwoNodes { world, primary, replica, port in
            let outcome = try world.walctl(["put", replica.folder, "file"], input: Array("content".utf8))
            #expect(outcome.status == 0, "\(outcome)")
            #expect(outcome.errors == "walctl: redirected to 127.0.0.1:\(port)\n")
            #expect(try text(ofFile: primary.folder + "/file") == "content")
            let shown = try world.walctl(["put", replica.folder, "file", "--no-redirect"], input: [])
            #expect(shown.status == 2 && shown.output == "127.0.0.1:\(port)\n", "\(shown)")
            for verb in [["rm", replica.folder, "file"], ["mkdir", replica.folder, "dir"]] {
                let outcome = try world.run("walctl", verb)
                #expect(outcome.status == 0 && outcome.errors.contains("redirected to"), "\(outcome)")
            }
            let read = try world.run("walctl", "get", replica.folder, "dir", "--primary")
            #expect(read.status == 1 && read.errors.contains("redirected to 127.0.0.1:\(port)"), "\(read)")
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    @Test func noPrimaryIsToldApart() throws {
        try withWorld { world in
            let port = try freePort()
            let replica = try Node(
                world, "walrecv", try world.folder("replica"), ["--listen", "127.0.0.1:\(port)", "--name", "replica"])
            try replica.waitForState("connecting")
            let begin = Clock.monotonicNanoseconds()
            let outcome = try world.walctl(["put", "127.0.0.1:\(port)", "file", "--timeout", "700ms"], input: [])
            #expect(outcome.status == 4 && outcome.errors.contains("knows of no primary"), "\(outcome)")
            #expect(Clock.monotonicNanoseconds() - begin > 300_000_000, "it was not tried again")
            #expect(try world.run("walctl", "get", "127.0.0.1:\(port)", "file").status == 2)
            try replica.stop()
            #expect(try world.run("walctl", "get", "127.0.0.1:\(port)", "file").status == 6)
            #expect(try world.run("walctl", "get", replica.folder, "file").status == 6)
        }
    }

    @Test func loopsAndLongWaysAreNamed() throws {
        try withWorld { world in
            let ports = Monitor<[Int]>([])
            @Sendable func redirect(_ number: Int) -> String {
                let port = ports.withLock { $0.count > number ? $0[number] : 0 }
                return #"{"error":{"code":2,"text":"elsewhere","redirect":"127.0.0.1:\#(port)"}}"#
            }
            let nodes = try (0..<7).map { index in try FakeNode { redirect(index) } }
            defer { for node in nodes { node.stop() } }
            // 0 -> 1 -> 2 -> 1
            ports.update { $0 = [nodes[1].port, nodes[2].port, nodes[1].port] }
            let loop = try world.walctl(["put", "127.0.0.1:\(nodes[0].port)", "file", "--timeout", "1s"], input: [])
            #expect(loop.status == 4, "\(loop)")
            let way = [0, 1, 2, 1].map { "127.0.0.1:\(nodes[$0].port)" }.joined(separator: " -> ")
            #expect(loop.errors.contains("in a circle: \(way)"), "\(loop)")
            ports.update { $0 = (1..<7).map { nodes[$0].port } + [1] }
            let long = try world.walctl(["put", "127.0.0.1:\(nodes[0].port)", "file", "--timeout", "1s"], input: [])
            #expect(long.status == 4 && long.errors.contains("redirected more than 5 times"), "\(long)")
        }
    }

    /// What the redirect names is not there yet: a failover is under way.
    @Test func aDeadPrimaryIsWaitedFor() throws {
        try withTwoNodes { world, primary, replica, port in
            try primary.crash()
            let failed = try world.walctl(["put", replica.folder, "file", "--timeout", "500ms"], input: [])
            #expect(failed.status == 6, "\(failed)")
            let input = "\(world.path)/input"
            try writeFile(input, "late")
            let client = try world.start(
                "sh",
                ["-c", "exec \"$@\" < \(input)", "sh", World.programs + "/walctl", "put", replica.folder, "file"])
            try until("word of the redirect") { client.errors.contains("redirected") }
            try primary.restart()
            #expect(try client.wait() == 0, "\(client.errors)")
            #expect(try text(ofFile: primary.folder + "/file") == "late")
        }
    }
}
