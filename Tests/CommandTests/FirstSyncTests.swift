import Foundation
import Glibc
import Testing
import WALTestKit

/// How a replica comes to hold a tree that the log alone cannot bring it, and that no byte is sent twice for it.
@Suite struct FirstSyncTests {
    @Test func anEmptyReplicaGetsEverything() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/empty", "")
            try FileManager.default.createDirectory(atPath: source + "/folder/deep", withIntermediateDirectories: true)
            try writeFile(source + "/folder/deep/file", "content")
            symlink("folder/deep/file", source + "/link")
            chmod(source + "/folder/deep", 0o2750)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    @Test func aSeededReplicaTransfersAlmostNothing() throws {
        try withWorld { world in
            let random = SeededRandom()
            let source = try world.folder("source")
            let content = try fill(source, files: 400, random)
            let seeded = try world.folder("replica")
            try world.must("rsync", "-a", source + "/", seeded + "/")
            try writeFile(source + "/changed-since", "changed since")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("replica", from: proxy.port, "--adopt")
            try world.expectEqual(primary, port: port, [replica])
            #expect(proxy.down < content / 20, "\(proxy.down) bytes came for \(content) that were there")
        }
    }

    @Test func whatTheAdoptedFolderHadBesidesIsKeptInQuarantine() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/same", "same")
            try writeFile(source + "/other", "the primary's")
            let adopted = try world.folder("replica")
            try world.must("cp", "-a", source + "/same", adopted)
            try writeFile(adopted + "/other", "local")
            try writeFile(adopted + "/only-here", "only here")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port, "--adopt")
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    @Test func aReplicaThatTheBudgetOverranIsLostAndReconciles() throws {
        try withWorld { world in
            let random = SeededRandom()
            let source = try world.folder("source")
            let content = try fill(source, files: 50, random)
            let port = try freePort()
            let primary = try world.primary(
                source, port: port, "--log-budget", "256M", "--log-keep", "0", "--compress", "none")
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("replica", from: proxy.port)
            try world.expectEqual(primary, port: port, [replica])
            try replica.stop()
            // One file again and again: the log grows beyond its budget, the tree does not.
            var bytes = random
            for _ in 0..<34 {
                try writeFile(source + "/busy", bytes.bytes(10 << 20))
                _ = try world.mark(primary)
            }
            let lost = try #require(try primary.status()?.replica("replica"))
            #expect(lost["state"] as? String == "lost")
            let log = try #require(try primary.status()?["log"] as? [String: Any])
            #expect(try #require(log["bytes"] as? Int) <= 256 << 20, "\(log)")
            proxy.resetCounts()
            try replica.restart()
            try world.expectEqual(primary, port: port, [replica])
            let wanted: UInt64 = 10 << 20
            #expect(
                proxy.down < wanted + wanted / 5 + content / 20,
                "\(proxy.down) bytes came where \(wanted) were missing")
            let found = try #require(try primary.status()?.replica("replica"))
            #expect(found["state"] as? String == "streaming")
        }
    }

    @Test func aFirstSyncThatIsCutAgainAndAgainSendsNothingTwice() throws {
        try withWorld { world in
            let random = SeededRandom()
            let source = try world.folder("source")
            var content = try fill(source, files: 300, random)
            var bytes = random
            let large = 200 << 20
            try writeFile(source + "/large", bytes.bytes(large))
            content += UInt64(large)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            try primary.waitForState("streaming")
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("replica", from: proxy.port)
            var cuts = 0
            for megabytes in [5, 60, 60] {
                proxy.cut(afterDown: UInt64(megabytes) << 20)
                proxy.open()
                try proxy.waitForCut()
                cuts += 1
            }
            proxy.open()
            try world.expectEqual(primary, port: port, [replica])
            // What was on its way at a cut is lost: a window each time, and the listings.
            let allowed = content + UInt64(cuts) * (24 << 20)
            #expect(proxy.down < allowed, "\(proxy.down) bytes for \(content), in \(cuts + 1) connections")
        }
    }

    @Test func aLargeFileComesAndChangesWhileItIsFetched() throws {
        try withWorld { world in
            let random = SeededRandom()
            random.announce()
            var bytes = random
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(source, port: port, "--inline-limit", "1M")
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            // Beyond the inline limit: the log has digests only, and the replica asks for the blocks.
            try writeFile(source + "/large", bytes.bytes(40 << 20))
            try world.expectEqual(primary, port: port, [replica], random.reproduce)
            // Changed, and gone, while the replica is at it.
            for round in 0..<6 {
                try writeFile(source + "/large", bytes.bytes(20 << 20))
                try writeFile(source + "/short-lived-\(round)", bytes.bytes(8 << 20))
                usleep(UInt32(bytes.int(in: 0..<300_000)))
                try patch(source + "/large", at: bytes.int(in: 0..<19 << 20), bytes.bytes(4096))
                unlink(source + "/short-lived-\(round)")
            }
            try world.expectEqual(primary, port: port, [replica], random.reproduce)
        }
    }

    @Test func aFileThatIsGoneBeforeTheReplicaCanFetchIt() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(source, port: port, "--inline-limit", "1M")
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            try replica.stop()
            try writeFile(source + "/gone", random.bytes(30 << 20))
            try writeFile(source + "/changed", random.bytes(30 << 20))
            _ = try world.mark(primary)
            unlink(source + "/gone")
            try writeFile(source + "/changed", random.bytes(2 << 20))
            _ = try world.mark(primary)
            try replica.restart()
            try world.expectEqual(primary, port: port, [replica], random.reproduce)
        }
    }

    /// Files that do not compress, in folders; returns how many bytes they hold.
    private func fill(_ path: String, files: Int, _ random: SeededRandom) throws -> UInt64 {
        var random = random
        var total: UInt64 = 0
        for index in 0..<files {
            let folder = "\(path)/folder-\(index / 50)"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let bytes = random.bytes(random.int(in: 0..<60_000))
            total += UInt64(bytes.count)
            try writeFile("\(folder)/file-\(index)", bytes)
        }
        return total
    }

    private func patch(_ path: String, at offset: Int, _ bytes: [UInt8]) throws {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        #expect(descriptor >= 0 && pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count)
        close(descriptor)
    }
}
