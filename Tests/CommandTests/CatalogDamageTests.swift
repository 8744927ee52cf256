import Foundation
import Glibc
import Testing
import WALTestKit

/// A catalog that is not what was written, on either side: all it held is found again in the tree and in the log, and nobody
/// has to do anything.
@Suite(.hangLimit) struct CatalogDamageTests {
    enum Side: String, CaseIterable, Sendable { case primary, replica }

    struct Damage: Sendable, CustomTestStringConvertible {
        let testDescription: String
        /// What was there is kept.
        var isSetAside = true
        let body: @Sendable (_ catalog: String, _ random: inout SeededRandom) throws -> Void
    }

    private static func change(_ path: String, _ body: (inout [UInt8]) -> Void) throws {
        var content = try bytes(ofFile: path)
        body(&content)
        try Data(content).write(to: URL(fileURLWithPath: path))
    }

    static let damages: [Damage] = [
        Damage(testDescription: "its first bytes") { path, _ in
            try change(path) { for index in 0..<100 { $0[index] ^= 0x55 } }
        },
        Damage(testDescription: "zeros in the middle") { path, _ in
            try change(path) { content in
                for index in content.count / 4..<content.count / 4 * 3 { content[index] = 0 }
            }
        },
        Damage(testDescription: "noise in the middle") { path, random in
            let noise = random.bytes(try bytes(ofFile: path).count / 2)
            try change(path) { $0.replaceSubrange($0.count / 4..<$0.count / 4 + noise.count, with: noise) }
        },
        // Whole for SQLite, and only the digest of all rows tells.
        Damage(testDescription: "another name in a row") { path, _ in
            try change(path) { content in
                let name = Array("file 1234".utf8)
                for index in 0..<content.count - name.count where content[index] == name[0] {
                    if Array(content[index..<index + name.count]) == name { content[index] = UInt8(ascii: "F") }
                }
            }
        },
        Damage(testDescription: "half of it") { path, _ in try change(path) { $0.removeLast($0.count / 2) } },
        Damage(testDescription: "another file") { path, random in
            try Data(random.bytes(100_000)).write(to: URL(fileURLWithPath: path))
        },
        Damage(testDescription: "nothing in it", isSetAside: false) { path, _ in
            try Data().write(to: URL(fileURLWithPath: path))
        },
        Damage(testDescription: "not there", isSetAside: false) { path, _ in
            try FileManager.default.removeItem(atPath: path)
        },
    ]

    @Test(arguments: damages, Side.allCases) func isMadeAnew(_ damage: Damage, _ side: Side) throws {
        var random = SeededRandom()
        random.announce()
        try withWorld { world in
            let source = try world.folder("source")
            for number in 0..<1500 { try writeFile("\(source)/file \(number)", "content \(number)") }
            try writeFile(source + "/large", random.bytes(6 << 20))
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            let before = try world.catchUp(primary, [replica])
            let victim = side == .primary ? primary : replica
            try victim.stop()
            try damage.body(victim.folder + "/.wal/catalog.sqlite", &random)
            // Meanwhile, and behind its back.
            try writeFile(source + "/file 7", "changed")
            try FileManager.default.removeItem(atPath: source + "/file 8")
            try victim.restart()
            try until("the node") { try victim.status() != nil }
            try world.expectEqual(primary, port: port, [replica])
            let kept = try FileManager.default.contentsOfDirectory(atPath: victim.folder + "/.wal/quarantine")
            #expect(kept.contains("catalog-1.sqlite") == damage.isSetAside, "\(kept)")
            if damage.isSetAside {
                #expect(victim.child.errors.contains("kept as quarantine/catalog-1.sqlite"), "\(victim.child.errors)")
            }
            // What was acknowledged is on the history that there is.
            let wait = try world.run("walctl", "wait", replica.folder, before, "--timeout", "30s")
            #expect(wait.status == 0, "\(wait)")
            for node in [replica, primary] { try node.stop() }
        }
    }

    /// The catalog of an earlier day: the log brings it forward, or the tree is looked at anew.
    @Test(arguments: Side.allCases) func anOlderOneIsBroughtForward(_ side: Side) throws {
        try withWorld { world in
            let source = try world.folder("source")
            for number in 0..<100 { try writeFile("\(source)/file \(number)", "content \(number)") }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            let victim = side == .primary ? primary : replica
            let path = victim.folder + "/.wal/catalog.sqlite"
            try victim.stop()
            try FileManager.default.copyItem(atPath: path, toPath: world.path + "/older")
            try victim.restart()
            try until("the node") { try victim.status() != nil }
            for number in 0..<50 { try writeFile("\(source)/file \(number)", "later \(number)") }
            try FileManager.default.moveItem(atPath: source + "/file 60", toPath: source + "/moved")
            try world.catchUp(primary, [replica])
            try victim.stop()
            try FileManager.default.removeItem(atPath: path)
            try FileManager.default.copyItem(atPath: world.path + "/older", toPath: path)
            try writeFile(source + "/file 7", "changed")
            try victim.restart()
            try until("the node") { try victim.status() != nil }
            try world.expectEqual(primary, port: port, [replica])
            for node in [replica, primary] { try node.stop() }
        }
    }
}
