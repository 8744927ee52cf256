import Foundation
import Glibc
import Testing
import WALTestKit

/// What something costs, in bytes.
struct Cost {
    /// From the primary to the replica and back, as the proxy between them counts.
    var down = 0
    var up = 0
    /// As the status has it.
    var raw = 0
    var written = 0
    var copied = 0
    var logged = 0
    /// Size of the primary's log.
    var log = 0
    /// As the kernel counts: what the primary read from files, cached or not, and from the disk; and what the replica wrote
    /// to the disk, its log and catalog included.
    var primaryRead = 0
    var primaryFetched = 0
    var replicaDirtied = 0

    static func - (now: Cost, before: Cost) -> Cost {
        var cost = now
        cost.down -= before.down
        cost.up -= before.up
        cost.raw -= before.raw
        cost.written -= before.written
        cost.copied -= before.copied
        cost.logged -= before.logged
        cost.log -= before.log
        cost.primaryRead -= before.primaryRead
        cost.primaryFetched -= before.primaryFetched
        cost.replicaDirtied -= before.replicaDirtied
        return cost
    }
}

/// A primary and its only replica with a proxy between them since the start of both, and what goes on between them.
struct Meter {
    let world: World
    let primary: Node
    let replica: Node
    let proxy: Proxy
    /// The primary's own.
    let port: Int

    /// Both are equal when it returns.
    init(_ world: World, source: String, replica path: String? = nil, _ more: String...) throws {
        self.world = world
        port = try freePort()
        primary = try Node(
            world, "walship", source, ["--listen", "127.0.0.1:\(port)", "--name", "primary"] + more)
        // What dials before it listens sends a hello to nobody, which only the sender counts.
        try primary.waitForState("streaming")
        proxy = try world.proxy(to: port)
        let folder = try path ?? world.folder("replica")
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        replica = try Node(
            world, "walrecv", folder, ["--from", "127.0.0.1:\(proxy.port)", "--name", "replica"])
        try world.catchUp(primary, [replica])
    }

    /// Of `change`, until it is applied.
    func cost(of change: () throws -> Void) throws -> Cost {
        let before = try total()
        try change()
        try world.catchUp(primary, [replica])
        return try total() - before
    }

    /// Since the start, at a moment when nothing is under way: then both nodes and the proxy must have counted the same.
    /// A heartbeat may come between, so they are asked until they do.
    func total() throws -> Cost {
        var last = ""
        do {
            return try poll("counters that agree") {
                guard let primary = try primary.status(), let replica = try replica.status(),
                    let entry = primary.replica("replica"), let told = entry["traffic"] as? [String: Any],
                    let own = replica["traffic"] as? [String: Any]
                else { return nil }
                let (down, up) = (Int(proxy.down), Int(proxy.up))
                last = "\(told) on the primary, \(own) on the replica, \(down) down and \(up) up in between"
                func number(_ json: [String: Any], _ key: String) -> Int { json[key] as? Int ?? -1 }
                let isQuiet =
                    number(entry, "applied_seq") == replica.appliedSeq && primary.appliedSeq == replica.appliedSeq
                guard isQuiet, number(told, "sent_bytes") == down, number(told, "received_bytes") == up,
                    number(own, "received_bytes") == down, number(own, "sent_bytes") == up,
                    ["raw_bytes", "written_bytes", "copied_bytes", "logged_bytes"].allSatisfy({
                        number(told, $0) == number(own, $0)
                    })
                else { return nil }
                return Cost(
                    down: down, up: up, raw: number(told, "raw_bytes"), written: number(told, "written_bytes"),
                    copied: number(told, "copied_bytes"), logged: number(told, "logged_bytes"),
                    log: number(primary["log"] as? [String: Any] ?? [:], "bytes"),
                    primaryRead: try self.primary.child.counted("rchar"),
                    primaryFetched: try self.primary.child.counted("read_bytes"),
                    replicaDirtied: try self.replica.child.counted("write_bytes"))
            }
        } catch {
            throw Failed("\(error): \(last)")
        }
    }
}

extension Child {
    /// One of the numbers in `/proc/PID/io`, proc(5).
    func counted(_ key: String) throws -> Int {
        let line = try text(ofFile: "/proc/\(pid)/io").split(separator: "\n").first { $0.hasPrefix(key + ":") }
        return try #require(line.flatMap { Int($0.filter(\.isNumber)) })
    }
}

/// Content that nothing makes smaller, made as fast as it is written.
func writeNoise(_ path: String, bytes: Int, _ random: inout SeededRandom) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw Failed("\(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var words = [UInt64](repeating: 0, count: min(bytes, 4 << 20) / 8)
    var left = bytes
    while left > 0 {
        for index in words.indices { words[index] = random.next() }
        let count = words.withUnsafeBytes { write(descriptor, $0.baseAddress, min($0.count, left)) }
        guard count > 0 else { throw Failed("\(path): \(String(cString: strerror(errno)))") }
        left -= count
    }
}

/// The next one who reads the file reads it from the disk.
func dropFromCache(_ path: String) throws {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Failed("\(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0, posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) == 0 else {
        throw Failed("\(path): \(String(cString: strerror(errno)))")
    }
}

/// Writes over a part of a file, as a database would.
func overwrite(_ path: String, at offset: Int, _ bytes: [UInt8]) throws {
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Failed("\(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    guard pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count else {
        throw Failed("\(path): \(String(cString: strerror(errno)))")
    }
}
