import Foundation
import Testing
import WALFormat
import WALLog
import WALSystem
import WALTestKit

/// Real file systems, mounted for the test: only root may.
@Suite(.enabled(if: isRoot, "mounting needs root"), .serialized) struct FullDiskTests {
    /// Mounts at a path of its own, and unmounts what is there in the end.
    private final class Mount {
        let path = "/tmp/wallog-mount-\(UInt64.random(in: 0...UInt64.max))"

        init(_ arguments: [String]) throws {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            process.arguments = ["mount"] + arguments + [path]
            try process.run()
            process.waitUntilExit()
            try #require(process.terminationStatus == 0, "cannot mount")
        }

        deinit {
            #expect(throws: Never.self) { try run("umount", path) }
            rmdir(path)
        }
    }

    @Test func aFullDiskTakesTheAppendBackAndGoesOnLater() throws {
        let mount = try Mount(["-t", "tmpfs", "-o", "size=512k", "wallog-tests"])
        try fillAndGoOn(on: mount, rollBytes: Limits.logFileBytes, batch: 1)
        try fillAndGoOn(on: mount, rollBytes: Limits.logFileBytes, batch: 7)
        try fillAndGoOn(on: mount, rollBytes: 60_000, batch: 1)
        try fillAndGoOn(on: mount, rollBytes: 60_000, batch: 7)
    }

    private func fillAndGoOn(on mount: Mount, rollBytes: UInt64, batch: Int) throws {
        let folder = try LogFolder(parent: mount.path)
        defer { try? FileManager.default.removeItem(atPath: folder.path) }
        var source = SegmentSource()
        do {
            let (writer, _) = try folder.open(rollBytes: rollBytes)
            try folder.put("filler", [UInt8](repeating: 1, count: 200_000))
            var waiting: [Segment] = []
            var failed: LogError?
            while failed == nil {
                waiting = source.next(batch, content: 9000)
                do throws(LogError) { try writer.append(waiting) } catch { failed = error }
                try #require(source.end.seq < 1000, "the disk never filled up")
            }
            guard case .noSpace = failed else {
                Issue.record("\(String(describing: failed))")
                return
            }
            waiting.removeAll { $0.header.seq <= writer.end.seq }
            #expect(!waiting.isEmpty)
            // All of it is taken back, to the byte, and the same error may come as often as it likes.
            #expect(throws: LogError.self) { try writer.append(waiting) }
            waiting.removeAll { $0.header.seq <= writer.end.seq }
            let kept = source.made.filter { $0.header.seq <= writer.end.seq }
            #expect(try folder.names("log").flatMap { try folder.bytes("log/" + $0) } == kept.flatMap(\.bytes))
            try writer.sync()
            #expect(try writer.view.readAll().map(\.bytes) == kept.map(\.bytes))

            try FileManager.default.removeItem(atPath: folder.path + "/filler")
            try writer.append(waiting)
            try writer.append(source.next(content: 9000))
            try writer.sync()
            #expect(writer.durableEnd == source.end)
        }
        let (writer, report) = try folder.open(rollBytes: rollBytes)
        #expect(report.cut == nil)
        #expect(try writer.view.readAll().map(\.bytes) == source.made.map(\.bytes))
    }

    /// Fault model: the machine stops, and what the device was not sent by then is lost. An ext4 on a loop device sends
    /// to its backing file what fdatasync(2) and fsync(2) demand (and what the kernel sees fit); a copy of the backing
    /// file is the disk after the power failed.
    @Test func whatWasSyncedSurvivesThePowerFailure() throws {
        let images = try LogFolder()
        let disk = images.path + "/disk"
        try run("truncate", "-s", "24M", disk)
        try run("mkfs.ext4", "-q", "-O", "^metadata_csum_seed", disk)
        let mount = try Mount(["-o", "loop", disk])
        let folder = try LogFolder(parent: mount.path)
        // The folder itself is not the log's to make durable.
        try run("sync", "-f", folder.path)
        var source = SegmentSource()
        let (writer, _) = try folder.open(rollBytes: 20_000)
        for round in 0..<6 {
            for _ in 0..<4 { try writer.append(source.next(content: 3000)) }
            try writer.sync()
            let durable = source.made
            try writer.append(source.next(content: 3000))
            let image = images.path + "/image"
            try run("cp", disk, image)
            do {
                let after = try Mount(["-o", "loop", image])
                let crashed = LogFolder(
                    existing: after.path + "/" + (folder.path as NSString).lastPathComponent)
                let (reopened, _) = try crashed.open(rollBytes: 20_000)
                let survived = try reopened.view.readAll().map(\.bytes)
                #expect(survived.count >= durable.count, "round \(round): durable segments are lost")
                #expect(survived == source.made.prefix(survived.count).map(\.bytes))
            }
            try FileManager.default.removeItem(atPath: image)
        }
    }
}
