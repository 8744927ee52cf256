import Foundation
import Glibc
import Testing
import WALTestKit

/// A full disk delays and never loses: the daemon says `stalled`, waits, and goes on when there is room.
@Suite(.enabled(if: World.isRoot, "needs root, to mount file systems")) struct FullDiskTests {
    @Test func aReplicaWithoutRoomForTheLogWaits() throws {
        try withWorld { world in
            var random = SeededRandom()
            let disk = try world.mountExt4("disk", megabytes: 128)
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("disk/replica", from: port)
            try world.catchUp(primary, [replica])
            try world.fill(disk, leavingMegabytes: 20)
            for index in 0..<24 { try writeFile("\(source)/file-\(index)", random.bytes(1 << 20)) }
            _ = try world.mark(primary)
            let stalled = try replica.waitForState("stalled")
            expectNamed(stalled, in: replica)
            #expect(try primary.status()?.replica("disk/replica") != nil)
            try world.unfill(disk)
            try world.expectEqual(primary, port: port, [replica])
            try replica.waitForState("streaming")
        }
    }

    @Test func aReplicaWithoutRoomForTheFirstSyncWaits() throws {
        try withWorld { world in
            var random = SeededRandom()
            let disk = try world.mountExt4("disk", megabytes: 128)
            let source = try world.folder("source")
            for index in 0..<40 { try writeFile("\(source)/file-\(index)", random.bytes(1 << 20)) }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            try world.fill(disk, leavingMegabytes: 20)
            let replica = try world.replica("disk/replica", from: port)
            expectNamed(try replica.waitForState("stalled"), in: replica)
            try world.unfill(disk)
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    /// Whoever waits for room hears all the same that nobody is there to fetch from; and the sync goes on where it was.
    @Test func aSyncThatWaitsForRoomLosesItsConnection() throws {
        try withWorld { world in
            var random = SeededRandom()
            let disk = try world.mountExt4("disk", megabytes: 128)
            let source = try world.folder("source")
            for index in 0..<40 { try writeFile("\(source)/file-\(index)", random.bytes(1 << 20)) }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            try world.fill(disk, leavingMegabytes: 20)
            let replica = try world.replica("disk/replica", from: port)
            try replica.waitForState("stalled")
            try primary.crash()
            for index in 0..<5 { try writeFile("\(source)/file-\(index)", random.bytes(1 << 20)) }
            try until("word of the primary") { replica.child.errors.contains("check that it runs and listens there") }
            try primary.restart()
            try until("a connection") {
                try primary.status()?.replica("disk/replica")?["state"] as? String == "syncing"
            }
            try replica.waitForState("stalled")
            try primary.crash()
            // Nor does it keep anybody from stopping it.
            try replica.stop()
            try replica.restart()
            try world.unfill(disk)
            try primary.restart()
            try world.expectEqual(primary, port: port, [replica])
            for node in [primary, replica] { try node.stop() }
        }
    }

    @Test func aPrimaryWithoutRoomForTheLogWaits() throws {
        try withWorld { world in
            var random = SeededRandom()
            let disk = try world.mountExt4("disk", megabytes: 128)
            let source = try world.folder("disk/source")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            try world.fill(disk, leavingMegabytes: 30)
            // The tree takes 20 of them, so the log has 10.
            for index in 0..<20 { try writeFile("\(source)/file-\(index)", random.bytes(1 << 20)) }
            let stalled = try primary.waitForState("stalled")
            expectNamed(stalled, in: primary)
            try world.unfill(disk)
            try primary.waitForState("streaming")
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    @Test func whoeverIsStoppedWhileItWaitsGoesOnAfterwards() throws {
        try withWorld { world in
            var random = SeededRandom()
            let disk = try world.mountExt4("disk", megabytes: 128)
            let source = try world.folder("disk/source")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("disk/replica", from: port)
            try world.catchUp(primary, [replica])
            try world.fill(disk, leavingMegabytes: 30)
            for index in 0..<20 { try writeFile("\(source)/file-\(index)", random.bytes(1 << 20)) }
            try primary.waitForState("stalled")
            try primary.stop()
            try replica.stop()
            try world.unfill(disk)
            try primary.restart()
            try replica.restart()
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    /// What has filled the disk is its own, and by the time that it knows, nobody wants it any more.
    @Test func whatIsNotWantedAnyMoreMakesRoom() throws {
        try withWorld { world in
            var random = SeededRandom()
            random.announce()
            _ = try world.mountExt4("disk", megabytes: 28)
            let source = try world.folder("source")
            for index in 0..<4 { try writeFile("\(source)/file-\(index)", random.bytes(1000)) }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("disk/replica", from: proxy.port)
            try world.catchUp(primary, [replica])
            for round in 0..<3 {
                try writeFile(source + "/large", random.bytes(40 << 20))
                expectNamed(try replica.waitForState("stalled"), in: replica)
                // It is not asked for again and again.
                try until("a look at the room") { proxy.down > 0 }
                usleep(1_500_000)
                let before = proxy.down
                usleep(3_000_000)
                #expect(proxy.down - before < 1 << 20, "round \(round): \(proxy.down - before) bytes while it waits")
                if round == 1 {
                    try replica.stop()
                    try replica.restart()
                }
                unlink(source + "/large")
                try world.catchUp(primary, [replica])
                let status = try replica.waitForState("streaming")
                #expect(!status.notes.contains { $0.contains("No space") }, "\(status.notes)")
            }
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// The status says what cannot be written, and why.
    private func expectNamed(_ stalled: Status, in node: Node) {
        let state = "'\(node.folder)/.wal/"
        #expect(
            stalled.notes.contains { $0.contains(state) && $0.contains("No space left on device (") },
            "\(stalled.notes)")
    }

    /// The catalog's shared index is mapped: with blocks of 1 KiB its pages have holes, and writing to one of them for which there
    /// is no room ends a process by SIGBUS. How much is left decides which page that is.
    @Test(arguments: ["walship", "walrecv"]) func aStartWithoutRoomWaits(_ program: String) throws {
        try withWorld { world in
            let disk = try world.mountExt4("disk", megabytes: 64)
            let port = try freePort()
            let isPrimary = program == "walship"
            let primary = try world.primary(try world.folder(isPrimary ? "disk/source" : "source"), port: port)
            let replica = try world.replica(isPrimary ? "replica" : "disk/replica", from: port)
            var random = SeededRandom(seed: 1)
            try writeFile(primary.folder + "/file", random.bytes(100_000))
            try world.catchUp(primary, [replica])
            let node = isPrimary ? primary : replica
            for kilobytes in [0, 8, 20, 24, 100] {
                try node.stop()
                // As after a copy of the directory: it is made anew.
                unlink(node.folder + "/.wal/catalog.sqlite-shm")
                try world.fill(disk, leavingKilobytes: kilobytes)
                let offline = try world.run("walctl", "status", node.folder)
                #expect(offline.status == 5, "\(kilobytes): \(offline)")
                #expect(offline.errors.contains("'\(node.folder)/.wal/catalog.sqlite-shm': No space left on device"))
                if kilobytes == 0 {
                    // Whoever waits for its end hears of it.
                    let awaited =
                        isPrimary
                        ? try world.run("walship", node.folder, "--once", "--to", "127.0.0.1:\(port)")
                        : try world.run("walrecv", node.folder, "--until", "1:1", "--from", "127.0.0.1:\(port)")
                    #expect(awaited.status == 5, "\(awaited)")
                }
                try node.restart()
                try until("word of it") { node.child.errors.contains("waiting for room") }
                let waiting = try node.waitForState("waiting")
                #expect(waiting.notes.contains { $0.contains("catalog.sqlite-shm': No space") }, "\(waiting.notes)")
                if kilobytes == 20 {
                    #expect(try node.child.terminate() == 0, "\(node.child.errors)")
                    try node.restart()
                }
                try world.unfill(disk)
                try node.waitForState("streaming")
                try world.expectEqual(primary, port: port, [replica], "\(kilobytes) KiB")
                // It has said so once.
                let words = node.child.errors.components(separatedBy: "waiting for room").count - 1
                #expect(words <= 1, "\(node.child.errors)")
            }
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// Once it is durable that a node leads there is nobody else: so whoever has no room for that refuses before.
    @Test func whoHasNoRoomIsNotPromoted() throws {
        try withTrio(onDisk: "b") { trio in
            try trio["a"].crash()
            try trio.world.fill(trio.folder("b") + "/.wal", leavingKilobytes: 300)
            let refused = try trio.world.run("walctl", "promote", trio.address("b"))
            #expect(refused.status == 5 && refused.errors.contains("too little to lead with"), "\(refused)")
            #expect(try trio.role("b") == "replica")
            try trio.world.unfill(trio.folder("b") + "/.wal")
            try trio.promote("b")
            try trio.write("b", "new", "of b")
            try trio.catchUp("b", but: ["a"])
            #expect(trio.read("c", "new") == "of b")
            try trio["a"].restart()
        }
    }

    /// A deposed primary captures what it has alone before it gives it up, and its log has no room for that.
    @Test func aRejoinThatWaitsForRoomCanBeStopped() throws {
        try withTrio(onDisk: "a") { trio in
            try trio["a"].crash()
            try trio.promote("b")
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            var random = SeededRandom(seed: 2)
            try writeFile(trio.folder("a") + "/alone", random.bytes(8 << 20))
            try trio.world.fill(trio.folder("a") + "/.wal", leavingKilobytes: 2048)
            try trio.world.must("walctl", "rejoin", trio.folder("a"))
            try until("word of it") { trio["a"].child.errors.contains("capture waits for room") }
            let status = try trio["a"].waitForState("rejoining")
            #expect(status.notes.contains { $0.contains("No space left on device") }, "\(status.notes)")
            try trio["a"].stop()
            try trio["a"].restart()
            try until("word of it") { trio["a"].child.errors.contains("capture waits for room") }
            try trio.world.unfill(trio.folder("a") + "/.wal")
            try trio.waitForRole("replica", of: "a")
            try trio.expectEqual("b")
            #expect(try trio.quarantine("a").contains { $0.hasSuffix("/files/alone") })
        }
    }

    /// A primary has an index of all blocks, which a replica has not. It is asked whether it has room for that before anything is
    /// changed, so that the primary leads on.
    @Test func roomForTheIndexOfAPrimaryIsNeeded() throws {
        try withTrio(onDisk: "b") { trio in
            let file = open(trio.folder("a") + "/sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
            defer { close(file) }
            var random = SeededRandom(seed: 3)
            let noise = random.bytes(4096 + 30_000)
            for index in 0..<30_000 {
                #expect(pwrite(file, Array(noise[index..<index + 4096]), 4096, off_t(index) << 17) == 4096)
            }
            try trio.catchUp("a")
            try trio.world.fill(trio.folder("b") + "/.wal", leavingKilobytes: 1100)
            for command in [["switchover", trio.address("a"), trio.address("b")], ["promote", trio.address("b")]] {
                let refused = try trio.world.run("walctl", command)
                #expect(refused.status == 5 && refused.errors.contains("too little to lead with: it"), "\(refused)")
                #expect(try trio.role("a") == "primary" && trio.role("b") == "replica")
            }
            _ = try trio.world.put(trio.folder("a"), "new", "of a", "--timeout", "30s")
            try trio.world.unfill(trio.folder("b") + "/.wal")
            try trio.world.must("walctl", "switchover", trio.address("a"), trio.address("b"))
            try trio.expectEqual("b")
        }
    }

    /// What waits for room is in nobody's way: others are read, written to and promoted.
    @Test func aNodeThatWaitsForRoomIsInNobodysWay() throws {
        try withTrio(onDisk: "a") { trio in
            let state = trio.folder("a") + "/.wal"
            try trio["a"].stop()
            unlink(state + "/catalog.sqlite-shm")
            try trio.world.fill(state, leavingKilobytes: 0)
            try trio["a"].restart()
            try trio["a"].waitForState("waiting")
            let both = "\(trio.address("a")),\(trio.address("b"))"
            let read = try trio.world.run("walctl", "get", both, "file1")
            #expect(read.status == 0 && read.output == "content 1\n", "\(read)")
            let outcome = try trio.promote("b")
            #expect(!outcome.errors.contains("forced"), "\(outcome)")
            try trio.write("b", "new", "of b")
            try trio.catchUp("b", but: ["a"])
            try trio.world.unfill(state)
            try trio.waitForRole("fenced", of: "a")
            try trio.world.must("walctl", "rejoin", trio.folder("a"), "--wait")
            try trio.expectEqual("b")
            // As a replica it sends on who writes.
            try trio["a"].stop()
            unlink(state + "/catalog.sqlite-shm")
            try trio.world.fill(state, leavingKilobytes: 0)
            try trio["a"].restart()
            try trio["a"].waitForState("waiting")
            _ = try trio.world.put(trio.address("a"), "by way of a", "1")
            let fresh = try trio.world.run("walctl", "get", trio.address("a"), "by way of a")
            #expect(fresh.status == 0 && fresh.output == "1", "\(fresh)")
            try trio.world.unfill(state)
            try trio["a"].waitForState("streaming")
            try trio.expectEqual("b")
        }
    }
}
