import Foundation
import Glibc
import Testing
import WALTestKit

/// Log files that are not what was written, or not where they were, on either side: nothing of it is taken for the log, the
/// message says what to do, and what it says leads to equal trees.
@Suite(.hangLimit) struct LogDamageTests {
    enum Side: CaseIterable { case primary, replica }

    /// What is done to the files of a log, of which there are two.
    private struct Damage {
        var name: String
        /// A part of the message with which the node refuses to start; nil where it goes on by itself.
        var refusal: String?
        var body: (_ folder: String, _ files: [String]) throws -> Void
    }

    private static func rename(_ folder: String, _ old: String, _ new: String) throws {
        try Do.rename(Bytes(folder + "/" + old), Bytes(folder + "/" + new))
    }

    /// Zeros, from a place in its last segment on: as a file system leaves what it had not written.
    private static func zero(_ path: String, _ bytes: Int) throws {
        let size = try Int(Do.status(Bytes(path)).st_size)
        try overwrite(path, at: size - bytes, [UInt8](repeating: 0, count: bytes))
    }

    private func damages(_ side: Side) -> [Damage] {
        // A replica gets again what its log lacks; a primary is where it is from.
        let tail = side == .primary ? "segments are missing from it" : nil
        return [
            Damage(name: "swapped", refusal: "is expected; nothing was changed") { folder, files in
                try Self.rename(folder, files[0], "aside")
                try Self.rename(folder, files[1], files[0])
                try Self.rename(folder, "aside", files[1])
            },
            Damage(name: "repeated", refusal: "is expected; nothing was changed") { folder, files in
                try FileManager.default.removeItem(atPath: folder + "/" + files[1])
                try FileManager.default.copyItem(atPath: folder + "/" + files[0], toPath: folder + "/" + files[1])
            },
            Damage(name: "a bit", refusal: "restore the log from a copy") { folder, files in
                let byte = try bytes(ofFile: folder + "/" + files[1])[10]
                try overwrite(folder + "/" + files[1], at: 10, [byte ^ 4])
            },
            Damage(name: "the last one is missing", refusal: tail) { folder, files in
                try FileManager.default.removeItem(atPath: folder + "/" + files[1])
            },
            Damage(name: "rolled back", refusal: tail) { folder, files in
                let path = folder + "/" + files[1]
                try Do.truncate(Bytes(path), try Int(Do.status(Bytes(path)).st_size) - 50)
            },
            Damage(name: "zeros at the end", refusal: tail) { folder, files in
                try Self.zero(folder + "/" + files[1], 50)
            },
            // As if it had been pruned.
            Damage(name: "the first one is missing") { folder, files in
                try FileManager.default.removeItem(atPath: folder + "/" + files[0])
            },
            Damage(name: "none is left") { folder, files in
                for file in files { try FileManager.default.removeItem(atPath: folder + "/" + file) }
            },
        ]
    }

    @Test(arguments: Side.allCases) func nothingIsTakenForTheLog(side: Side) throws {
        var random = SeededRandom()
        random.announce("nothingIsTakenForTheLog(\(side))")
        try withWorld { world in
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            let victim = side == .primary ? primary : replica
            let log = victim.folder + "/.wal/log"
            func files() throws -> [String] {
                try FileManager.default.contentsOfDirectory(atPath: log).filter { $0.hasSuffix(".log") }.sorted()
            }
            var made = 0
            func grow() throws {
                for _ in 0..<100 {
                    made += 1
                    try writeFile("\(source)/noise-\(made)", random.bytes(200_000))
                }
                try world.catchUp(primary, [replica])
            }
            while try files().count < 2 { try grow() }
            for (number, damage) in damages(side).enumerated() {
                // Small, so that it is in the last segment of the log.
                try writeFile(source + "/small", "small \(number)")
                let before = try world.catchUp(primary, [replica])
                try victim.stop()
                let names = try files()
                let kept = "\(world.path)/kept-\(number)"
                try FileManager.default.copyItem(atPath: log, toPath: kept)
                try damage.body(log, Array(names.suffix(2)))
                if let refusal = damage.refusal {
                    let refused = try world.run(victim.program, [victim.folder] + victim.arguments, seconds: 60)
                    #expect(refused.status == 3, "\(damage.name): \(refused)")
                    #expect(refused.errors.contains(refusal), "\(damage.name): \(refused)")
                    // The first remedy.
                    #expect(refused.errors.contains("restore"), "\(damage.name): \(refused)")
                    try FileManager.default.removeItem(atPath: log)
                    try FileManager.default.copyItem(atPath: kept, toPath: log)
                }
                try victim.restart()
                try writeFile(source + "/after", "after \(damage.name)")
                try world.catchUp(primary, [replica])
                #expect(try world.difference(source, replica.folder) == "", "\(damage.name)")
                // What was acknowledged is on the history that there is.
                let wait = try world.run("walctl", "wait", replica.folder, before, "--timeout", "30s")
                #expect(wait.status == 0, "\(damage.name): \(wait)")
                try FileManager.default.removeItem(atPath: kept)
                while try files().count < 2 { try grow() }
            }
            try world.expectEqual(primary, port: port, [replica])
            for node in [replica, primary] { try node.stop() }
        }
    }

    /// The other remedy: without a copy.
    @Test(arguments: Side.allCases) func aLogThatIsMovedAway(side: Side) throws {
        try withWorld { world in
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            for number in 0..<5 {
                try writeFile("\(source)/file-\(number)", String(repeating: "\(number)", count: 2000))
                try world.catchUp(primary, [replica])
            }
            let victim = side == .primary ? primary : replica
            let log = victim.folder + "/.wal/log"
            for node in [primary, replica] { try node.stop() }
            let name = try #require(try FileManager.default.contentsOfDirectory(atPath: log).sorted().last)
            try overwrite("\(log)/\(name)", at: 40, [UInt8](repeating: 0x55, count: 8))
            let refused = try world.run(victim.program, [victim.folder] + victim.arguments)
            #expect(refused.status == 3 && refused.errors.contains("or move it away"), "\(refused)")
            try FileManager.default.moveItem(atPath: log, toPath: world.path + "/moved")
            try writeFile(source + "/file-1", "changed")
            for node in [primary, replica] { try node.restart() }
            try world.expectEqual(primary, port: port, [replica])
            for node in [replica, primary] { try node.stop() }
        }
    }

    /// The end of a primary's log is lost, and with it what a replica has: the tree is what counts.
    @Test func aPrimaryThatLostTheEndOfItsLog() throws {
        try withWorld { world in
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            for number in 0..<5 {
                try writeFile("\(source)/file-\(number)", "\(number)")
                try world.catchUp(primary, [replica])
            }
            for node in [primary, replica] { try node.stop() }
            let log = source + "/.wal/log"
            let name = try #require(try FileManager.default.contentsOfDirectory(atPath: log).sorted().last)
            try Do.truncate(Bytes("\(log)/\(name)"), try Int(Do.status(Bytes("\(log)/\(name)")).st_size) - 50)
            let refused = try world.run(primary.program, [source] + primary.arguments)
            #expect(refused.status == 3 && refused.errors.contains("or remove catalog.sqlite"), "\(refused)")
            try FileManager.default.removeItem(atPath: source + "/.wal/catalog.sqlite")
            try writeFile(source + "/file-1", "changed")
            for node in [primary, replica] { try node.restart() }
            let status = try replica.waitForState("diverged")
            #expect(status.notes.contains { $0.contains("walctl rejoin \(replica.folder)") }, "\(status.notes)")
            try world.must("walctl", "rejoin", replica.folder, "--wait", "--timeout", "60s")
            try world.expectEqual(primary, port: port, [replica])
            for node in [replica, primary] { try node.stop() }
        }
    }
}
