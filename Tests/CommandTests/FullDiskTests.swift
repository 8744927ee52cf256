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
            try fill(disk + "/ballast", leavingMegabytes: 20, of: disk)
            for index in 0..<24 { try writeFile("\(source)/file-\(index)", random.bytes(1 << 20)) }
            _ = try world.mark(primary)
            let stalled = try replica.waitForState("stalled")
            expectNamed(stalled, in: replica)
            #expect(try primary.status()?.replica("disk/replica") != nil)
            unlink(disk + "/ballast")
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
            try fill(disk + "/ballast", leavingMegabytes: 20, of: disk)
            let replica = try world.replica("disk/replica", from: port)
            expectNamed(try replica.waitForState("stalled"), in: replica)
            unlink(disk + "/ballast")
            try world.expectEqual(primary, port: port, [replica])
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
            try fill(disk + "/ballast", leavingMegabytes: 30, of: disk)
            // The tree takes 20 of them, so the log has 10.
            for index in 0..<20 { try writeFile("\(source)/file-\(index)", random.bytes(1 << 20)) }
            let stalled = try primary.waitForState("stalled")
            expectNamed(stalled, in: primary)
            unlink(disk + "/ballast")
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
            try fill(disk + "/ballast", leavingMegabytes: 30, of: disk)
            for index in 0..<20 { try writeFile("\(source)/file-\(index)", random.bytes(1 << 20)) }
            try primary.waitForState("stalled")
            try primary.stop()
            try replica.stop()
            unlink(disk + "/ballast")
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

    /// Takes all room of the file system but so much.
    private func fill(_ path: String, leavingMegabytes: Int, of disk: String) throws {
        var status = statvfs()
        guard statvfs(disk, &status) == 0 else { throw Failed("statvfs: \(String(cString: strerror(errno)))") }
        let free = Int(status.f_bavail) * Int(status.f_frsize)
        let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        let code = posix_fallocate(descriptor, 0, off_t(free - (leavingMegabytes << 20)))
        guard code == 0 else { throw Failed("fallocate: \(String(cString: strerror(code)))") }
    }
}
