import Foundation
import Glibc
import Testing
import WALTestKit

/// Large files that are rewritten, copied and moved: what the replica holds anywhere in its tree does not come again.
@Suite struct LargeCopyTests {
    private static let dumpBytes = 32 << 20
    /// What may come for a change of a few lines: a twentieth, as for a dump of any size. Here that is some 25 blocks.
    private static let mostBytes = dumpBytes / 20

    /// What a dump tool writes.
    private static func dump(_ random: inout SeededRandom) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(dumpBytes + 100)
        var row = 0
        while text.count < dumpBytes {
            row += 1
            text += Array("INSERT INTO orders VALUES (\(row), 'name \(random.int(in: 0..<999))', ".utf8)
            text += Array("'\(String(random.next(), radix: 16))');\n".utf8)
        }
        return text
    }

    private static func withLinesInserted(_ text: [UInt8]) -> [UInt8] {
        let at = text[(text.count / 100)...].firstIndex(of: 0x0A)! + 1
        return text[..<at] + Array("INSERT INTO orders VALUES (0, 'new', '');\n".utf8) + text[at...]
    }

    /// In place: what is not overwritten yet is still there.
    private static func overwrite(_ path: String, _ bytes: [UInt8]) throws {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Failed("\(path): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress! + done, $0.count - done, off_t(done))
            }
            guard count > 0 else { throw Failed("\(path): \(String(cString: strerror(errno)))") }
            done += count
        }
        ftruncate(descriptor, off_t(bytes.count))
    }

    private static func patch(_ path: String, at offset: Int, _ bytes: [UInt8]) throws {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        defer { close(descriptor) }
        guard pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count else { throw Failed(path) }
    }

    private func logBytes(_ primary: Node) throws -> Int {
        let log = primary.folder + "/.wal/log"
        return try FileManager.default.contentsOfDirectory(atPath: log).reduce(0) { sum, name in
            sum + (try FileManager.default.attributesOfItem(atPath: log + "/" + name)[.size] as? Int ?? 0)
        }
    }

    @Test func aDumpThatIsRewrittenCopiedAndMoved() throws {
        try withWorld { world in
            var random = SeededRandom(seed: 17)
            let source = try world.folder("source")
            let dump = source + "/dump.sql"
            var text = Self.dump(&random)
            try writeFile(dump, text)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("replica", from: proxy.port)
            try world.catchUp(primary, [replica])

            func expectLittle(_ what: String, _ change: () throws -> Void) throws {
                let (down, log) = (proxy.down, try logBytes(primary))
                try change()
                try world.catchUp(primary, [replica])
                let (came, grew) = (Int(proxy.down - down), try logBytes(primary) - log)
                #expect(came > 0 && came <= Self.mostBytes, "\(what): \(came) bytes came")
                #expect(grew > 0 && grew <= Self.mostBytes, "\(what): the log grew by \(grew) bytes")
            }

            try expectLittle("lines inserted in place") {
                text = Self.withLinesInserted(text)
                try Self.overwrite(dump, text)
            }
            // Slower than the longest delay of a capture, so it is seen before it is whole.
            try expectLittle("written beside and renamed over") {
                text = Self.withLinesInserted(text)
                let pieces = 12
                try writeFile(source + "/dump.new", "")
                for piece in 0..<pieces {
                    let part = text[text.count * piece / pieces..<text.count * (piece + 1) / pieces]
                    let handle = try #require(FileHandle(forWritingAtPath: source + "/dump.new"))
                    try handle.seekToEnd()
                    try handle.write(contentsOf: part)
                    try handle.close()
                    usleep(200_000)
                }
                rename(source + "/dump.new", dump)
            }
            try expectLittle("copied, moved and edited at once") {
                try writeFile(source + "/copy.sql", text)
                rename(dump, source + "/moved.sql")
                try Self.patch(source + "/moved.sql", at: 9_000_000, Array("edited".utf8))
                try Self.patch(source + "/copy.sql", at: 20_000_000, Array("edited".utf8))
            }
            try expectLittle("copied and emptied") {
                try world.must("cp", source + "/moved.sql", source + "/a.sql")
                try world.must("truncate", "-s", "0", source + "/moved.sql")
            }
            try world.expectEqual(primary, port: port, [replica])
        }
    }
}
