import Foundation
import Glibc
import Testing
import WALSystem

/// A walship or walrecv with the arguments that it is started with again after it has ended.
final class Node {
    let world: World
    let program: String
    let folder: String
    let arguments: [String]
    /// What it is started by, as another user for one: a command that becomes the program.
    let wrapper: [String]
    private(set) var child: Child

    init(
        _ world: World, _ program: String, _ folder: String, _ arguments: [String], wrapper: [String] = []
    ) throws {
        self.world = world
        self.program = program
        self.folder = folder
        self.arguments = arguments
        self.wrapper = wrapper
        child = try world.start(program, [folder] + arguments, wrapper: wrapper)
    }

    /// Starts it, which does not run now; by another command for this once.
    func restart(wrapper once: [String]? = nil) throws {
        #expect(!child.isRunning)
        child = try world.start(program, [folder] + arguments, wrapper: once ?? wrapper)
    }

    func crash() throws { try child.crash() }

    /// SIGTERM, which must end it with 0.
    func stop() throws {
        // Before it listens for signals it ends like any other program.
        try until("answer of \(folder)") { try status() != nil }
        let code = try child.terminate()
        if code != 0 { throw Failed("\(child.command): exit \(code) at SIGTERM\n\(child.errors)") }
    }

    /// nil while it does not answer.
    func status() throws -> Status? {
        guard child.isRunning else { throw Failed("\(child.command) has ended by itself:\n\(child.errors)") }
        let outcome = try world.run("walctl", "status", folder, "--json")
        guard outcome.status == 0 else { return nil }
        let status = try Status(outcome.output)
        return status["pid"] as? Int == Int(child.pid) ? status : nil
    }

    @discardableResult
    func waitForState(_ state: String, seconds: Double = 60) throws -> Status {
        var last = ""
        do {
            return try poll("state \(state) of \(folder)", seconds: seconds) {
                guard let status = try status() else { return nil }
                last = status.state
                return status.state == state ? status : nil
            }
        } catch {
            throw Failed("\(error); it is \(last)\n\(child.errors)")
        }
    }
}

/// An answer in JSON, `walctl status --json` for one, as any client would read it.
struct Status {
    let json: [String: Any]

    init(_ text: String) throws {
        json = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    subscript(key: String) -> Any? { json[key] }
    var state: String { json["state"] as? String ?? "" }
    var appliedSeq: Int { json["applied_seq"] as? Int ?? -1 }
    var notes: [String] { json["notes"] as? [String] ?? [] }
    var replicas: [[String: Any]] { json["replicas"] as? [[String: Any]] ?? [] }
    func replica(_ name: String) -> [String: Any]? { replicas.first { $0["name"] as? String == name } }
}

extension World {
    /// A primary of `source` that listens on `port`.
    func primary(_ source: String, port: Int, _ more: String...) throws -> Node {
        try Node(self, "walship", source, ["--listen", "127.0.0.1:\(port)", "--name", "primary"] + more)
    }

    /// A replica that dials `port`; its folder, which is made, has its name.
    func replica(_ name: String, from port: Int, _ more: String...) throws -> Node {
        try Node(
            self, "walrecv", try folder(name), ["--from", "127.0.0.1:\(port)", "--name", name] + more)
    }

    /// All that is in the primary's tree by now is in the replicas' trees.
    @discardableResult
    func catchUp(_ primary: Node, _ replicas: [Node], seconds: Int = 90) throws -> String {
        let position = try mark(primary)
        for replica in replicas {
            try until("answer of \(replica.folder)") { try replica.status() != nil }
            let outcome = try run(
                "walctl", ["wait", replica.folder, position, "--timeout", "\(seconds)s"], seconds: Double(seconds) + 30)
            guard outcome.status == 0 else {
                throw Failed("\(outcome)\(primary.child.errors)\(replica.child.errors)")
            }
        }
        return position
    }

    func mark(_ primary: Node) throws -> String {
        let deadline = Clock.monotonicNanoseconds() + 60_000_000_000
        while true {
            // All cores may be busy with other tests.
            let outcome = try run("walctl", "mark", primary.folder, "--timeout", "90s")
            if outcome.status == 0 { return outcome.output.trimmingCharacters(in: .newlines) }
            guard primary.child.isRunning, Clock.monotonicNanoseconds() < deadline else {
                throw Failed("\(outcome)\(primary.child.errors)")
            }
            usleep(50_000)
        }
    }

    /// The suite's own proof, and another program's, that replicas are equal to their primary. The primary's tree must not
    /// change meanwhile.
    func expectEqual(_ primary: Node, port: Int, _ replicas: [Node], _ comment: String = "") throws {
        try catchUp(primary, replicas)
        for replica in replicas {
            let verify = try run("walctl", "verify", "--deep", replica.folder, "--against", "127.0.0.1:\(port)")
            #expect(verify.status == 0, "\(verify) \(comment)")
            #expect(try difference(primary.folder, replica.folder) == "", "\(replica.folder) \(comment)")
        }
    }

    /// What rsync would do to make `target` equal to `source`: one line each.
    func difference(_ source: String, _ target: String) throws -> String {
        try must("rsync", "-aHAXcni", "--delete", "--exclude=/.wal", source + "/", target + "/")
    }
}
