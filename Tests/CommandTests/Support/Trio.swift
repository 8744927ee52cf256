import Foundation
import Testing

/// A primary and two replicas, or more, each of which listens, so that any of them can lead. Their folders are `a`, `b`, `c`
/// and so on; `a` leads at first.
final class Trio {
    let world: World
    private(set) var nodes: [String: Node] = [:]
    private(set) var ports: [String: Int] = [:]
    private let more: [String: [String]]
    private let replicas: [String]

    /// `more` are further arguments by name; `onDisk` has a file system of its own.
    init(
        _ world: World, _ more: [String: [String]] = [:], replicas: [String] = ["b", "c"], onDisk: String? = nil,
        before: (String) throws -> Void = { _ in }
    ) throws {
        self.world = world
        self.more = more
        self.replicas = replicas
        var folders: [String: String] = [:]
        for name in ["a"] + replicas {
            ports[name] = try freePort()
            folders[name] = name == onDisk ? try world.mountExt4(name, megabytes: 256) : try world.folder(name)
        }
        try before(folders["a"]!)
        nodes["a"] = try Node(
            world, "walship", folders["a"]!,
            ["--listen", "127.0.0.1:\(ports["a"]!)", "--name", "a"] + (more["a"] ?? []))
        for name in replicas {
            nodes[name] = try Node(
                world, "walrecv", folders[name]!,
                ["--from", address("a"), "--listen", address(name), "--name", name] + (more[name] ?? []))
        }
        try catchUp("a")
        // Each knows by now whom it belongs with.
        for name in replicas {
            try until("members at \(name)") { try (group(name)["members"] as? [Any])?.count == replicas.count }
        }
    }

    subscript(name: String) -> Node { nodes[name]! }
    func folder(_ name: String) -> String { self[name].folder }
    func address(_ name: String) -> String { "127.0.0.1:\(ports[name]!)" }

    func write(_ name: String, _ path: String, _ text: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(folder(name))/\(path)"))
    }

    func read(_ name: String, _ path: String) -> String? { try? text(ofFile: "\(folder(name))/\(path)") }

    func group(_ name: String) throws -> [String: Any] { try self[name].status()?["group"] as? [String: Any] ?? [:] }

    func epoch(_ name: String) throws -> Int { try self[name].status()?["epoch"] as? Int ?? -1 }

    func role(_ name: String) throws -> String { try self[name].status()?["role"] as? String ?? "" }

    func waitForRole(_ role: String, of name: String) throws {
        do {
            try until("\(name) as \(role)") { try self.role(name) == role }
        } catch {
            throw Failed("\(error)\n" + nodes.keys.sorted().map { "\($0): \(self[$0].child.errors)" }.joined())
        }
    }

    /// All that `leader` has in its tree is applied by the others that run.
    @discardableResult
    func catchUp(_ leader: String, but absent: [String] = []) throws -> String {
        let others = nodes.keys.sorted().filter { $0 != leader && !absent.contains($0) }.map { self[$0] }
        return try world.catchUp(self[leader], others)
    }

    @discardableResult
    func promote(_ name: String, _ more: String...) throws -> Outcome {
        let outcome = try world.run("walctl", ["promote", address(name)] + more)
        guard outcome.status == 0 else { throw Failed("\(outcome)\(self[name].child.errors)") }
        return outcome
    }

    /// The trees of all that run are those of `leader`, by the oracle and by the suite's own proof.
    func expectEqual(_ leader: String, but absent: [String] = [], _ comment: String = "") throws {
        try catchUp(leader, but: absent)
        for name in nodes.keys.sorted() where name != leader && !absent.contains(name) {
            let differences = try Oracle.differences(folder(leader), folder(name))
            #expect(differences.isEmpty, "\(name) \(comment): \(differences.prefix(10))")
            let verify = try world.run("walctl", "verify", "--deep", folder(name), "--against", address(leader))
            #expect(verify.status == 0, "\(verify) \(comment)")
        }
    }

    func stop() throws {
        for name in nodes.keys.sorted() where self[name].child.isRunning { try self[name].stop() }
    }

    /// What nodes keep in their quarantine, by path below it.
    func quarantine(_ name: String) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: folder(name) + "/.wal/quarantine").sorted()
    }
}

func withTrio(
    _ more: [String: [String]] = [:], replicas: [String] = ["b", "c"], onDisk: String? = nil,
    _ body: (Trio) throws -> Void
) throws {
    try withWorld { world in
        let trio = try Trio(world, more, replicas: replicas, onDisk: onDisk) { folder in
            for number in 1...20 {
                try Data("content \(number)\n".utf8).write(to: URL(fileURLWithPath: "\(folder)/file\(number)"))
            }
        }
        try body(trio)
        try trio.stop()
    }
}

/// A file of the state folder that cannot be replaced: as on a disk that is full or failing.
func freeze(_ node: Node, _ isFrozen: Bool) throws {
    try node.world.must("chattr", isFrozen ? "+i" : "-i", node.folder + "/.wal/node.json")
}
