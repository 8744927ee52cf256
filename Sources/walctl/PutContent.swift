import Foundation
import WALFormat
import WALNode

/// What is to be put, in a form that can be sent a second time: a file as it is, everything else from a copy without a
/// name.
final class PutContent {
    private let file: FileHandle
    private let start: UInt64
    private static let pieceBytes = 1 << 20
    private static let piecesUnderWay = 4

    /// Of standard input. Returns when all of it is there, so that one that breaks off is never put.
    init() throws {
        let input = FileHandle.standardInput
        if let offset = try? input.offset() {
            file = input
            start = offset
            return
        }
        let path = FileManager.default.temporaryDirectory.appending(path: "walctl-\(UUID().uuidString)").path
        guard FileManager.default.createFile(atPath: path, contents: nil, attributes: [.posixPermissions: 0o600]),
            let copy = FileHandle(forUpdatingAtPath: path)
        else { throw NodeError(.failed, "\(path) cannot be made, to keep what is to be put") }
        try FileManager.default.removeItem(atPath: path)
        while let bytes = try input.read(upToCount: Self.pieceBytes), !bytes.isEmpty {
            try copy.write(contentsOf: bytes)
        }
        file = copy
        start = 0
    }

    /// Begins the put, sends all and commits it.
    func send(_ request: ControlRequest, to client: ControlClient) async throws -> ControlResponse {
        let begun = try await client.ask(request)
        // It was done before.
        if begun.position != nil { return begun }
        try file.seek(toOffset: start)
        var asked: [Asked] = []
        while let bytes = try file.read(upToCount: Self.pieceBytes), !bytes.isEmpty {
            asked.append(try client.send(content: Array(bytes)))
            if asked.count >= Self.piecesUnderWay { _ = try Asked.response(await client.wait(asked.removeFirst())) }
        }
        for one in asked { _ = try Asked.response(await client.wait(one)) }
        var commit = ControlRequest(.commit)
        commit.timeoutSeconds = request.timeoutSeconds
        return try await client.ask(commit)
    }
}
