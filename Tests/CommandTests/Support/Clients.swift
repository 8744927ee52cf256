import Foundation
import Glibc
import WALFormat
import WALNode
import WALSystem
import WALTestKit

/// A primary that listens and a replica that dials it, both of an empty tree.
func withTwoNodes(_ body: (World, _ primary: Node, _ replica: Node, _ port: Int) throws -> Void) throws {
    try withWorld { world in
        let port = try freePort()
        let primary = try world.primary(try world.folder("source"), port: port)
        let replica = try world.replica("replica", from: port)
        try primary.waitForState("streaming")
        try replica.waitForState("streaming")
        try body(world, primary, replica, port)
        try replica.stop()
        try primary.stop()
    }
}

/// A primary with one file, and its replica at the position `before`.
func withMirroredFile(
    _ body: (World, _ primary: Node, _ replica: Node, _ port: Int, _ before: String) throws -> Void
) throws {
    try withWorld { world in
        let source = try world.folder("source")
        try writeFile(source + "/file", "content")
        let port = try freePort()
        let primary = try world.primary(source, port: port)
        let replica = try world.replica("replica", from: port)
        try body(world, primary, replica, port, try world.catchUp(primary, [replica]))
    }
}

extension World {
    /// `walctl` with something on its standard input: a file, or with `isPipe` what comes through a pipe.
    @discardableResult
    func walctl(_ arguments: [String], input: [UInt8], isPipe: Bool = false) throws -> Outcome {
        let path = "\(path)/output/input-\(UUID().uuidString)"
        try Do.write(Bytes(path), input)
        let words =
            (isPipe ? ["sh", "-c", "cat \"$0\" | \"$@\"", path] : ["sh", "-c", "exec \"$@\" < \"$0\"", path])
            + [World.programs + "/walctl"] + arguments
        return try run(words[0], Array(words.dropFirst()))
    }

    /// A put that must succeed; returns the position.
    @discardableResult
    func put(_ target: String, _ path: String, _ text: String, _ more: String...) throws -> String {
        let outcome = try walctl(["put", target, path] + more, input: Array(text.utf8))
        guard outcome.status == 0 else { throw Failed("\(outcome)") }
        return outcome.output.trimmingCharacters(in: .newlines)
    }
}

/// A client in this process, over one connection: thousands of calls, without as many processes.
struct TestClient {
    let client: ControlClient

    init(port: Int) async throws {
        client = try await ControlClient(Address(host: "127.0.0.1", port: port))
    }

    /// Of a tree on this host.
    init(_ folder: String) async throws {
        client = try await ControlClient(stateFolder: try Directory.open(path: folder + "/.wal"))
    }

    func put(_ path: String, _ bytes: [UInt8], id: String? = nil) async throws -> String {
        var request = ControlRequest(.put)
        request.write = WriteRequest(.put, path: path)
        if let id { request.write?.requestId = id }
        request.timeoutSeconds = 20
        let begun = try await client.ask(request)
        if let position = begun.position { return position.text }
        var asked: [Asked] = []
        for start in stride(from: 0, to: bytes.count, by: 1 << 20) {
            asked.append(try client.send(content: Array(bytes[start..<min(bytes.count, start + 1 << 20)])))
            if asked.count == 4 { _ = try Asked.response(await client.wait(asked.removeFirst())) }
        }
        for one in asked { _ = try Asked.response(await client.wait(one)) }
        var commit = ControlRequest(.commit)
        commit.timeoutSeconds = 20
        return try await client.ask(commit).position?.text ?? ""
    }

    /// Again, where a replica has just put another version in its place.
    func get(_ path: String, after: String? = nil, wantsPosition: Bool = false) async throws -> (
        bytes: [UInt8], freshness: Freshness
    ) {
        while true {
            do {
                return try await getOnce(path, after: after, wantsPosition: wantsPosition)
            } catch let error as NodeError {
                guard error.isChanged else { throw error }
            }
        }
    }

    private func getOnce(_ path: String, after: String?, wantsPosition: Bool) async throws -> (
        bytes: [UInt8], freshness: Freshness
    ) {
        var request = ControlRequest(.open)
        request.look = ReadRequest(path: path)
        request.look?.after = after
        request.look?.wantsPosition = wantsPosition
        request.timeoutSeconds = 20
        let opened = try await client.ask(request)
        var read = ControlRequest(.read)
        read.handle = opened.handle
        read.offset = 0
        read.length = opened.entry?.size
        let answer = try client.ask(later: read)
        var close = ControlRequest(.close)
        close.handle = opened.handle
        let closed = try client.ask(later: close)
        let bytes: Result<[UInt8], any Error>
        do { bytes = .success(try Asked.content(await client.wait(answer))) } catch { bytes = .failure(error) }
        _ = try await client.wait(closed)
        return (try bytes.get(), opened.freshness!)
    }

    func close() async { await client.close() }
}

/// Speaks as a node and answers every request in one way.
final class FakeNode: Sendable {
    let port: Int
    private let listener: Int32
    private let answer: @Sendable () -> String

    /// `answer` gives the JSON of a response.
    init(_ answer: @escaping @Sendable () -> String) throws {
        let socket = try Socket.listening(port: 0)
        port = socket.port
        listener = socket.descriptor
        self.answer = answer
        _ = try WorkerThread.start(name: "fake") { [self] in serve() }
    }

    func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    private func serve() {
        while true {
            let peer = accept(listener, nil, nil)
            guard peer >= 0 else {
                close(listener)
                return
            }
            _ = try? WorkerThread.start(name: "fake") { [self] in
                talk(peer)
                close(peer)
            }
        }
    }

    private func talk(_ peer: Int32) {
        var isFirst = true
        while let header = readExactly(peer, RawFrame.headerBytes) {
            let length = header[..<4].reversed().reduce(0) { $0 << 8 | Int($1) }
            guard let payload = readExactly(peer, length) else { return }
            let frame: [UInt8]
            if isFirst {
                // The hello of a receiver: the client's own with another role.
                var hello = payload
                hello[2] = 2
                frame = RawFrame.make(1, hello)
            } else if header[4] == 13 {
                frame = RawFrame.make(14, Array(answer().utf8))
            } else {
                continue
            }
            isFirst = false
            guard Socket.sendAll(peer, frame[...]) else { return }
        }
    }

    private func readExactly(_ peer: Int32, _ count: Int) -> [UInt8]? {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while bytes.count < count {
            let part = read(peer, &buffer, min(buffer.count, count - bytes.count))
            guard part > 0 else { return nil }
            bytes += buffer[..<part]
        }
        return bytes
    }
}
