import Foundation
import Testing
import WALFormat
import WALLog
import WALSystem
import WALTestKit

/// Real file systems, mounted for the test: only root may.
@Suite(.enabled(if: isRoot, "mounting needs root"), .serialized) struct FullDiskTests {
    /// Mounts at a path of its own, and unmounts when `body` has returned and all that it opened is closed.
    private func mounted(_ arguments: String..., body: (_ path: String) throws -> Void) throws {
        let path = "/tmp/wallog-mount-\(UInt64.random(in: 0...UInt64.max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { rmdir(path) }
        try run(["mount"] + arguments + [path])
        defer { #expect(throws: Never.self) { try run(["umount", path]) } }
        try body(path)
    }

    @Test func aFullDiskTakesTheAppendBackAndGoesOnLater() throws {
        try mounted("-t", "tmpfs", "-o", "size=512k", "wallog-tests") { path in
            for rollBytes in [Limits.logFileBytes, 60_000] {
                try fillAndGoOn(in: path, rollBytes: rollBytes, batch: 1)
                try fillAndGoOn(in: path, rollBytes: rollBytes, batch: 7)
            }
        }
    }

    private func fillAndGoOn(in path: String, rollBytes: UInt64, batch: Int) throws {
        let folder = try LogFolder(parent: path)
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
        try run(["truncate", "-s", "24M", disk])
        try run(["mkfs.ext4", "-q", disk])
        try mounted("-o", "loop", disk) { path in
            let folder = try LogFolder(parent: path)
            // The folder itself is not the log's to make durable.
            try run(["sync", "-f", folder.path])
            var source = SegmentSource()
            let (writer, _) = try folder.open(rollBytes: 20_000)
            for round in 0..<6 {
                for _ in 0..<4 { try writer.append(source.next(content: 3000)) }
                try writer.sync()
                let durable = source.made.count
                try writer.append(source.next(content: 3000))
                let image = images.path + "/image"
                try run(["cp", disk, image])
                let survived = try survivors(image, folder: (folder.path as NSString).lastPathComponent)
                #expect(survived.count >= durable, "round \(round): durable segments are lost")
                #expect(survived == source.made.prefix(survived.count).map(\.bytes))
            }
        }
    }

    private func survivors(_ image: String, folder: String) throws -> [[UInt8]] {
        var survived: [[UInt8]] = []
        try mounted("-o", "loop", image) { path in
            let (writer, _) = try LogFolder(existing: path + "/" + folder).open()
            survived = try writer.view.readAll().map(\.bytes)
        }
        return survived
    }
}
