import Foundation
import Testing
import WALTestKit

/// Content that the primary has no more when a replica asks for it: until it has come, the replica says neither that it
/// has applied the position nor that it is durable, whatever happens to it meanwhile.
@Suite struct GoneTests {
    private func number(_ node: Node, _ name: String) throws -> Int {
        try node.status()?[name] as? Int ?? -1
    }

    @Test func aSyncThatLacksABlockIsNotApplied() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            for index in 1...5 { try writeFile("\(source)/f\(index)", random.bytes(3 << 20)) }
            let port = try freePort()
            // Nothing is captured before somebody asks for a mark.
            let primary = try world.primary(source, port: port, "--settle", "1h", "--max-delay", "1h")
            try primary.waitForState("streaming")
            let file = try #require(FileHandle(forUpdatingAtPath: source + "/f3"))
            try file.seek(toOffset: 1_000_000)
            try file.write(contentsOf: Data(random.bytes(100)))
            try file.close()

            let replica = try world.replica("replica", from: port)
            try until("all but one file") {
                try FileManager.default.contentsOfDirectory(atPath: replica.folder).filter { $0 != ".wal" }.count == 4
            }
            try replica.waitForState("syncing")
            for _ in 0..<2 {
                #expect(try number(replica, "applied_seq") == 0)
                #expect(try number(replica, "durable_seq") == 0)
                #expect(try world.run("walctl", "wait", replica.folder, "1:1", "--timeout", "1s").status == 2)
                #expect(try world.run("walctl", "wait", source, "1:1", "--timeout", "1s").status == 2)
                // The second time after a restart.
                try replica.stop()
                try replica.restart()
                try replica.waitForState("syncing")
            }
            // The next segment brings what was gone.
            try world.must("walctl", "mark", source)
            try world.expectEqual(primary, port: port, [replica])
            #expect(try number(replica, "applied_seq") >= 2)
            for node in [primary, replica] { try node.stop() }
        }
    }

    @Test func aSegmentThatLacksABlockIsNotAppliedAfterARestart() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            try writeFile(source + "/small", "small")
            let port = try freePort()
            let primary = try world.primary(
                source, port: port, "--inline-limit", "1M", "--settle", "1h", "--max-delay", "1h")
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            let before = try number(replica, "applied_seq")
            try replica.stop()
            try writeFile(source + "/large", random.bytes(5 << 20))
            try world.must("walctl", "mark", source)
            try writeFile(source + "/large", random.bytes(5 << 20))
            try replica.restart()
            try replica.waitForState("syncing")
            for _ in 0..<2 {
                #expect(try number(replica, "applied_seq") == before)
                #expect(try number(replica, "durable_seq") == before)
                #expect(!FileManager.default.fileExists(atPath: replica.folder + "/large"))
                #expect(
                    try world.run("walctl", "wait", replica.folder, "1:\(before + 1)", "--timeout", "1s").status == 2)
                try replica.stop()
                try replica.restart()
                try replica.waitForState("syncing")
            }
            try world.must("walctl", "mark", source)
            try world.expectEqual(primary, port: port, [replica])
            for node in [primary, replica] { try node.stop() }
        }
    }
}
