import Glibc
import Testing

/// A tree and its replicas, and what is done to it: at the beginning, and while it is watched.
final class Mirrored {
    let world: World
    let source: String
    let port: Int
    let primary: Node
    private(set) var replicas: [Node] = []
    var oracle: (inout Oracle) -> Void = { _ in }

    /// `before` makes what is there when the first sync begins.
    init(_ world: World, _ more: [String] = [], source: String? = nil, before: (Bytes) throws -> Void) throws {
        self.world = world
        self.source = try source ?? world.folder("source")
        try before(Bytes(self.source))
        port = try freePort()
        primary = try Node(
            world, "walship", self.source, ["--listen", "127.0.0.1:\(port)", "--name", "primary"] + more)
    }

    var root: Bytes { Bytes(source) }

    @discardableResult
    func replica(_ name: String = "replica", wrapper: [String] = []) throws -> Node {
        let node = try Node(
            world, "walrecv", try world.folder(name),
            ["--from", "127.0.0.1:\(port)", "--name", name.split(separator: "/").joined(separator: "-")],
            wrapper: wrapper)
        replicas.append(node)
        return node
    }

    /// What is in the tree now is on all replicas, says another program's eye and says the suite.
    func expectEqual(_ comment: String, isVerified: Bool = true, location: SourceLocation = #_sourceLocation) throws {
        try world.catchUp(primary, replicas)
        for replica in replicas {
            let differences = try Oracle.differences(source, replica.folder, oracle)
            #expect(
                differences.isEmpty,
                "\(comment), \(replica.folder):\n\(differences.prefix(20).joined(separator: "\n"))",
                sourceLocation: location)
            guard isVerified else { continue }
            let verify = try world.run("walctl", "verify", "--deep", replica.folder, "--against", "127.0.0.1:\(port)")
            #expect(verify.status == 0, "\(verify) \(comment)", sourceLocation: location)
        }
    }

    /// One change of a living tree.
    func step(
        _ comment: String, isVerified: Bool = false, location: SourceLocation = #_sourceLocation,
        _ change: (Bytes) throws -> Void
    ) throws {
        try change(root)
        try expectEqual(comment, isVerified: isVerified, location: location)
    }

    func note(_ part: String, of node: Node? = nil) throws -> String? {
        try (node ?? primary).status()?.notes.first { $0.contains(part) }
    }

    private func notes(of node: Node?) -> [String] { (try? (node ?? primary).status()?.notes) ?? [] }

    /// Polls, for the count follows the change.
    func expectNote(_ part: String, of node: Node? = nil, location: SourceLocation = #_sourceLocation) throws {
        let found = try? poll("note '\(part)'", seconds: 10) { try note(part, of: node) }
        #expect(
            found != nil, "no '\(part)' in \(notes(of: node))", sourceLocation: location)
    }

    func expectNoNote(_ part: String, of node: Node? = nil, location: SourceLocation = #_sourceLocation) throws {
        let gone: Void? = try? until("end of note '\(part)'", seconds: 10) {
            guard let status = try (node ?? primary).status() else { return false }
            return !status.notes.contains { $0.contains(part) }
        }
        #expect(
            gone != nil, "still '\(part)' in \(notes(of: node))", sourceLocation: location)
    }

    func stop() throws {
        for replica in replicas { try replica.stop() }
        try primary.stop()
    }
}
