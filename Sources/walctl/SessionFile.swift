import Foundation
import WALFormat
import WALNode
import WALSystem

/// The highest position that the calls of one session have seen: each asks for it, so that none sees less than an earlier
/// one. Several processes may share it.
struct SessionFile {
    private struct Content: Codable { var position: String }

    private let path: String
    private let folder: Directory
    private let name: Name

    init(_ path: String) throws {
        self.path = path
        do {
            (folder, name) = try openFolder(of: path)
        } catch {
            throw NodeError(.failed, "session file \(path): \(error)")
        }
    }

    /// nil where there was no call yet.
    func position() throws -> String? {
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try readWholeFile(in: folder, name, limit: 1 << 16)
        } catch {
            guard error.isNotFound else { throw error }
            return nil
        }
        guard !bytes.isEmpty else { return nil }
        guard let content = try? JSONDecoder().decode(Content.self, from: Data(bytes)),
            (try? PositionText(content.position)) != nil
        else { throw NodeError(.failed, "\(path) is no session file; name another, or remove it to begin anew") }
        return content.position
    }

    /// Keeps the higher one.
    func note(_ position: String) throws {
        let lock = try lockedFile()
        if let next = try Self.higher(position, self.position()), try next != self.position() {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.withoutEscapingSlashes]
            try durableReplace(in: folder, name, Array(try encoder.encode(Content(position: next))) + [0x0A])
        }
        try lock.close()
    }

    /// A promotion may have given up what the session has seen.
    func explained(_ error: NodeError) -> NodeError {
        guard error.code == .diverged else { return error }
        return NodeError(
            .diverged, "\(error); what this session has seen was given up at a failover: remove \(path) to begin anew")
    }

    static func higher(_ one: String?, _ other: String?) throws -> String? {
        guard let one, let other else { return one ?? other }
        let (left, right) = (try PositionText(one), try PositionText(other))
        return (left.epoch, left.seq) < (right.epoch, right.seq) ? other : one
    }

    /// The file is replaced while its lock is held, so whoever gets the lock looks whether it is still the file.
    private func lockedFile() throws -> File {
        let deadline = Clock.monotonicNanoseconds() + 10_000_000_000
        while Clock.monotonicNanoseconds() < deadline {
            let file = try folder.createFile(name, exclusive: false)
            if try file.lockExclusive(), try folder.status(of: name).identity == file.status().identity { return file }
            try file.close()
            Thread.sleep(forTimeInterval: 0.002)
        }
        throw NodeError(.failed, "\(path) is locked by another process")
    }
}
