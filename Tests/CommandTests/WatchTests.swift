import Foundation
import Glibc
import Testing
import WALTestKit

/// Trees that are too large, or too busy, for inotify.
@Suite(.hangLimit) struct WatchTests {
    /// `count` directories with a file each, some within others.
    private func makeTree(_ source: String, _ count: Int) throws {
        for number in 0..<count {
            let folder = "\(source)/\(number % 10)/\(number)"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try writeFile(folder + "/file", "content")
        }
    }

    private func change(_ source: String, _ count: Int, _ text: String) throws {
        for number in stride(from: 0, to: count, by: 7) {
            let folder = "\(source)/\(number % 10)/\(number)"
            try writeFile(folder + "/file", text)
            try FileManager.default.createDirectory(atPath: folder + "/new \(text)", withIntermediateDirectories: false)
            try writeFile(folder + "/new \(text)/inner", text)
        }
        try FileManager.default.moveItem(atPath: source + "/3", toPath: source + "/moved \(text)")
        try writeFile(source + "/moved \(text)/13/file", "\(text) after the move")
        try FileManager.default.moveItem(atPath: source + "/moved \(text)", toPath: source + "/3")
        try FileManager.default.removeItem(atPath: source + "/4/14")
        try FileManager.default.createDirectory(atPath: source + "/4/14", withIntermediateDirectories: false)
    }

    private func watch(_ status: Status) throws -> [String: Int] {
        try #require(status["watch"] as? [String: Int])
    }

    /// No event at all tells of most directories, and nobody asks.
    @Test func beyondTheLimitScansFindTheChanges() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try makeTree(source, 300)
            let port = try freePort()
            // The limit of a user namespace of its own; fanotify is not for who lives in one.
            let script = """
                echo 20 > /proc/sys/user/max_inotify_watches
                exec "$0" "$@"
                """
            let child = try world.start(
                "unshare",
                [
                    "--user", "--map-root-user", "sh", "-c", script, World.programs + "/walship", source, "--listen",
                    "127.0.0.1:\(port)",
                ])
            let replica = try world.replica("replica", from: port)
            var status: Status?
            try until("the first scan is done") {
                let outcome = try world.run("walctl", "status", source, "--json")
                guard outcome.status == 0 else { return false }
                status = try Status(outcome.output)
                return status?.state == "streaming"
            }
            let watches = try watch(try #require(status))
            #expect(watches["inotify"]! > 0 && watches["inotify"]! <= 20, "\(watches)")
            #expect(watches["fanotify"] == 0 && watches["unwatched"]! + watches["inotify"]! == 311, "\(watches)")
            #expect(
                status!.notes.contains { $0.contains("\(watches["unwatched"]!) of 311 directories are not watched") },
                "\(status!.notes)")
            // A mark is a promise for all of the tree.
            try change(source, 300, "first")
            let position = try world.must("walctl", "mark", source)
            try world.must("walctl", "wait", replica.folder, position)
            #expect(try world.difference(source, replica.folder) == "")
            // Without one they come all the same.
            try change(source, 300, "second")
            try until("the replica is equal") { try world.difference(source, replica.folder) == "" }
            #expect(try child.terminate() == 0)
            try replica.stop()
        }
    }

    /// No scan at all, and no more watches than a few.
    @Test func beyondTheLimitFanotifyTellsOfTheRest() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try makeTree(source, 300)
            let port = try freePort()
            let primary = try world.primary(source, port: port, "--max-watches", "20", "--scan-interval", "0")
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            let status = try #require(try primary.status())
            #expect(try watch(status) == ["inotify": 20, "fanotify": 291, "unwatched": 0])
            #expect(status.notes.contains { $0.contains("291 of 311 directories are watched by fanotify") })
            try change(source, 300, "first")
            try until("the replica is equal") { try world.difference(source, replica.folder) == "" }
            try change(source, 300, "second")
            try world.catchUp(primary, [replica])
            #expect(try world.difference(source, replica.folder) == "")
            let again = try watch(try #require(try primary.status()))
            // 43 directories got another one each time, and the last of those in 4/14 are gone.
            #expect(again["unwatched"] == 0 && again["inotify"]! + again["fanotify"]! == 311 + 2 * 42, "\(again)")
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// The queue holds 16 events and the rest is lost, over and over.
    @Test func anOverflowingQueueConverges() throws {
        try withWorld { world in
            let source = try world.folder("source")
            let limit = "/proc/sys/fs/inotify/max_queued_events"
            let before = try text(ofFile: limit)
            let port = try freePort()
            // What an instance may queue is settled when it is made.
            try writeFile(limit, "16")
            defer { try? writeFile(limit, before) }
            let primary = try world.primary(source, port: port)
            try primary.waitForState("streaming")
            try writeFile(limit, before)
            let replica = try world.replica("replica", from: port)
            for folder in 0..<100 {
                let path = "\(source)/\(folder)"
                try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
                for file in 0..<1000 { close(open("\(path)/\(file)", O_WRONLY | O_CREAT, 0o644)) }
            }
            try world.catchUp(primary, [replica])
            #expect(try world.difference(source, replica.folder) == "")
            let status = try #require(try primary.status())
            #expect(status["objects"] as? Int == 100_101)
            for node in [primary, replica] { try node.stop() }
        }
    }

    @Test func aStormOfRenamesConverges() throws {
        try withWorld { world in
            let source = try world.folder("source")
            for folder in 0..<10 {
                try FileManager.default.createDirectory(
                    atPath: "\(source)/\(folder)/inner", withIntermediateDirectories: true)
                for file in 0..<20 { try writeFile("\(source)/\(folder)/\(file)", "\(folder) \(file)") }
            }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            // Files within and between directories, and the directories themselves: no name stays where it was.
            for round in 0..<500 {
                for folder in 0..<10 {
                    let here = "\(source)/\(folder)"
                    for file in 0..<19 {
                        _ = rename(
                            "\(here)/\(file)", round % 2 == 0 ? "\(here)/inner/\(file)" : "\(here)/moved \(file)")
                        _ = rename("\(here)/moved \(file)", "\(source)/\((folder + 1) % 10)/\(file)")
                        _ = rename("\(here)/inner/\(file)", "\(here)/\((file + round) % 19)")
                    }
                    _ = rename(here, "\(source)/away")
                    _ = rename("\(source)/away", here)
                }
            }
            try world.catchUp(primary, [replica])
            #expect(try world.difference(source, replica.folder) == "")
            for node in [primary, replica] { try node.stop() }
        }
    }
}
