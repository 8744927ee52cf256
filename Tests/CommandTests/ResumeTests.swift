import Foundation
import Glibc
import Testing
import WALFormat
import WALTestKit

/// Whatever ends, goes on from where it was.
@Suite struct ResumeTests {
    @Test func aReplicaThatWasAwayGetsWhatItMissed() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            try writeFile(source + "/old", random.bytes(8 << 20))
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("replica", from: proxy.port)
            try world.catchUp(primary, [replica])
            try replica.stop()
            proxy.resetCounts()
            for index in 0..<20 {
                try writeFile(source + "/new-\(index)", random.bytes(10_000))
                _ = try world.mark(primary)
            }
            try replica.restart()
            try world.expectEqual(primary, port: port, [replica])
            #expect(proxy.down < 1 << 20, "\(proxy.down) bytes for 200,000 new ones")
        }
    }

    /// What was acknowledged is what it says it has, also before its tree is there again: others ask that who are about to
    /// choose the next primary.
    @Test func aReplicaThatIsBehindWithItsTreeSaysWhatItHas() throws {
        try withMirroredFile { world, primary, replica, _, _ in
            let source = primary.folder
            try replica.stop()
            // Nothing can be shown: a mode that cannot be set is tried again and again.
            let faults = Faults(
                root: replica.folder, action: .noSpace, at: 1, times: 0, calls: ["chmod"], place: "tree")
            try replica.restart(wrapper: faults.wrapper)
            try Do.setMode(Bytes(source) / "file", 0o600)
            try world.must("walctl", "mark", source)
            try writeFile(source + "/later", "content")
            let end = try world.must("walctl", "mark", source)
            let seq = try #require(Int(end.split(separator: ":")[1]))
            try until("the acknowledgement") {
                try primary.status()?.replica("replica")?["durable_seq"] as? Int == seq
            }
            try primary.stop()
            try replica.crash()
            try replica.restart(wrapper: faults.wrapper)
            let status = try poll("the replica", seconds: 60) { try replica.status() }
            #expect(status["durable_seq"] as? Int == seq)
            #expect(status.appliedSeq < seq)
        }
    }

    /// It has the segment that says so, and nothing of the tree that it speaks of.
    @Test func whereAPrimaryBeganAnewIsAcknowledgedOnceItIsReconciled() throws {
        try withMirroredFile { world, primary, replica, port, before in
            let source = primary.folder
            for node in [replica, primary] { try node.stop() }
            try FileManager.default.removeItem(atPath: source + "/.wal/catalog.sqlite")
            try writeFile(source + "/file", "changed")
            let faults = Faults(root: replica.folder, action: .kill, at: 1, calls: ["write"], place: "staging")
            try primary.restart()
            try replica.restart(wrapper: faults.wrapper)
            try until("the end of the replica") { !replica.child.isRunning }
            #expect(replica.child.exitStatus == -SIGKILL)
            let seq = Int(before.split(separator: ":")[1])
            #expect(try primary.status()?.replica("replica")?["durable_seq"] as? Int == seq)
            try replica.restart()
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    /// Rot in the primary's log is found before it is applied, told, and no reason for a replica to stay behind.
    @Test func aDamagedLogIsToldAndReplicasReconcile() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            try writeFile(source + "/first", "first")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            try replica.stop()
            for index in 0..<5 {
                try writeFile("\(source)/file-\(index)", random.bytes(30_000))
                try world.must("walctl", "mark", source)
            }
            let log = try #require(
                try FileManager.default.contentsOfDirectory(atPath: source + "/.wal/log").sorted().last)
            let path = "\(source)/.wal/log/\(log)"
            var bytes = try bytes(ofFile: path)
            for index in bytes.count / 2..<bytes.count / 2 + 4 { bytes[index] ^= 0xFF }
            // In place, as a disk does it.
            let file = try #require(FileHandle(forUpdatingAtPath: path))
            try file.seek(toOffset: UInt64(bytes.count / 2))
            try file.write(contentsOf: Data(bytes[bytes.count / 2..<bytes.count / 2 + 4]))
            try file.close()
            try replica.restart()
            try until("word of the damage") {
                try #require(try primary.status()).notes.contains { $0.contains("reconcile with the tree") }
            }
            try writeFile(source + "/last", "last")
            try world.expectEqual(primary, port: port, [replica])
            #expect(primary.child.errors.contains("critical"))
            for node in [primary, replica] { try node.stop() }
        }
    }

    @Test func aSegmentThatIsCutInTheMiddleGoesOnThere() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("replica", from: proxy.port)
            try world.catchUp(primary, [replica])
            let before = try received(replica)
            // One segment of 12 MiB, cut twice in its middle.
            proxy.cut(afterDown: 4 << 20)
            try writeFile(source + "/large", random.bytes(12 << 20))
            try proxy.waitForCut()
            proxy.cut(afterDown: 4 << 20)
            proxy.open()
            try proxy.waitForCut()
            proxy.open()
            try world.expectEqual(primary, port: port, [replica])
            // At most the block that was not whole comes again after each cut. What a proxy and the kernel had taken and
            // could not deliver is not the replica's.
            let bytes = try received(replica) - before
            #expect(bytes < (12 << 20) + 2 * Limits.maxBlockBytes + 100_000, "\(bytes) bytes")
        }
    }

    private func received(_ replica: Node) throws -> Int {
        let traffic = try #require(try replica.status())["traffic"] as? [String: Any]
        return try #require(traffic?["received_bytes"] as? Int)
    }

    @Test func bothSidesRestartWhileThePrimaryIsWrittenTo() throws {
        try withWorld { world in
            let random = SeededRandom()
            random.announce()
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            var workload = try Workload(source, random)
            try workload.run(200)
            try world.catchUp(primary, [replica])
            try primary.stop()
            try workload.run(100)
            try primary.restart()
            try workload.run(50)
            try replica.stop()
            try primary.stop()
            try workload.run(50)
            try replica.restart()
            try primary.restart()
            try world.expectEqual(primary, port: port, [replica], random.reproduce)
        }
    }

    enum Side: CaseIterable {
        case primary, replica
    }

    @Test(arguments: Side.allCases) func killedTwentyTimesWhileItWorks(side: Side) throws {
        try withWorld { world in
            let random = SeededRandom()
            random.announce("killedTwentyTimes(\(side))")
            let source = try world.folder("source")
            let port = try freePort()
            var workload = try Workload(source, random)
            var chance = SeededRandom(seed: random.seed ^ 1)
            try workload.run(300)
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            let victim = side == .primary ? primary : replica
            for round in 0..<20 {
                try workload.run(80)
                if round % 4 == 3 { try world.catchUp(primary, [replica]) }
                usleep(UInt32(chance.int(in: 0..<250_000)))
                try victim.crash()
                try workload.run(20)
                try victim.restart()
            }
            try world.expectEqual(primary, port: port, [replica], random.reproduce)
            // Nothing was lost from the log on the way either.
            let log = try world.must("walctl", "log", source, "--json").split(separator: "\n")
            let numbers = try log.map { try Status(String($0))["seq"] as? Int }
            #expect(numbers == Array(1...numbers.count))
        }
    }
}
