import Foundation
import Testing

/// What looks like a deletion and may be none is never replicated as one.
@Suite struct GuardTests {
    @Test func anEmptiedSourceIsNotDeletedOnReplicas() throws {
        try withWorld { world in
            let source = try world.folder("source")
            for number in 0..<1_500 { try writeFile("\(source)/file \(number)", "content") }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            try primary.stop()
            for number in 0..<1_500 { try FileManager.default.removeItem(atPath: "\(source)/file \(number)") }

            let refused = try world.run("walship", source, "--listen", "127.0.0.1:\(port)")
            #expect(refused.status == 1 && refused.errors.contains("--accept-deletions"), "\(refused)")
            #expect(FileManager.default.fileExists(atPath: replica.folder + "/file 7"))

            // Meant after all.
            let again = try Node(world, "walship", source, ["--listen", "127.0.0.1:\(port)", "--accept-deletions"])
            try world.catchUp(again, [replica])
            #expect(try world.difference(source, replica.folder) == "")
            for node in [again, replica] { try node.stop() }
        }
    }

    @Test func whatAMountCoversIsKept() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try FileManager.default.createDirectory(atPath: source + "/sub", withIntermediateDirectories: true)
            try writeFile(source + "/sub/precious", "kept")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            try primary.stop()
            try world.must("mount", "-t", "tmpfs", "tmpfs", source + "/sub")
            defer { _ = try? world.run("umount", "-l", source + "/sub") }
            try writeFile(source + "/sub/elsewhere", "on another file system")
            try writeFile(source + "/beside", "beside")
            try primary.restart()
            try world.catchUp(primary, [replica])
            #expect(FileManager.default.fileExists(atPath: replica.folder + "/beside"))
            #expect(try text(ofFile: replica.folder + "/sub/precious") == "kept")
            #expect(!FileManager.default.fileExists(atPath: replica.folder + "/sub/elsewhere"))
            #expect(try world.run("walctl", "verify", source).status == 0)
            for node in [primary, replica] { try node.stop() }
        }
    }

    @Test func onceCountsOnlyTheReplicasThatItDials() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let port = try freePort()
            let dead = try freePort()
            let primary = try world.start(
                "walship", [source, "--listen", "127.0.0.1:\(port)", "--to", "127.0.0.1:\(dead)", "--once"])
            let replica = try world.replica("replica", from: port)
            try until("the other replica has the tree") {
                FileManager.default.fileExists(atPath: replica.folder + "/file")
            }
            _ = try replica.waitForState("streaming")
            #expect(primary.isRunning)
            // Stopped before its condition was met, it does not claim that it was.
            #expect(try primary.terminate() == 2)
            try replica.stop()
        }
    }
}
