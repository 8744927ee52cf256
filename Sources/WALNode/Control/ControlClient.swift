import NIOCore
import Synchronization
import WALFormat
import WALSystem
import WALWire

/// A client of a node's control requests.
package final class ControlClient: Sendable {
    private let network = Network()
    private let channel: any Channel
    private let exchange: Exchange

    /// Connects to the node at `address`.
    package init(_ address: Address) async throws {
        exchange = Exchange()
        let exchange = exchange
        do {
            channel = try await network.dial(address) { ClientRole(exchange) }
        } catch {
            await network.shutDown()
            throw error
        }
    }

    /// Connects to the node whose state folder this is; throws when none runs there.
    package init(stateFolder: Directory) async throws {
        exchange = Exchange()
        let exchange = exchange
        do {
            channel = try await network.dial(
                unixSocket: "/proc/self/fd/\(stateFolder.descriptor)/control.sock"
            ) { ClientRole(exchange) }
        } catch {
            await network.shutDown()
            throw error
        }
    }

    package func ask(_ request: ControlRequest) async throws -> ControlResponse {
        let bytes = try ControlJSON.encode(request)
        let answer = try await withCheckedThrowingContinuation { continuation in
            exchange.begin(bytes, continuation)
        }
        let response = try ControlJSON.decode(ControlResponse.self, from: answer)
        if let error = response.error {
            throw NodeError(NodeError.Code(rawValue: error.code) ?? .failed, error.text)
        }
        return response
    }

    package func close() async {
        try? await channel.close()
        await network.shutDown()
    }
}

/// One request at a time between the caller and the connection.
private final class Exchange: Sendable {
    struct State: Sendable {
        var connection: Connection?
        var request: [UInt8]?
        var continuation: CheckedContinuation<[UInt8], any Error>?
        var failure: NodeError?
    }

    private let state = Mutex(State())

    func begin(_ request: [UInt8], _ continuation: CheckedContinuation<[UInt8], any Error>) {
        let (connection, failure) = state.withLock { state in
            if state.failure == nil {
                state.continuation = continuation
                if state.connection == nil { state.request = request }
            }
            return (state.connection, state.failure)
        }
        if let failure { return continuation.resume(throwing: failure) }
        connection?.send(.request(request), epoch: 0)
    }

    func ready(_ connection: Connection) {
        let waiting = state.withLock { state in
            state.connection = connection
            defer { state.request = nil }
            return state.request
        }
        if let waiting { connection.send(.request(waiting), epoch: 0) }
    }

    func finish(_ result: Result<[UInt8], NodeError>) {
        let continuation = state.withLock { state in
            if case .failure(let error) = result { state.failure = error }
            defer { state.continuation = nil }
            return state.continuation
        }
        switch result {
        case .success(let bytes): continuation?.resume(returning: bytes)
        case .failure(let error): continuation?.resume(throwing: error)
        }
    }
}

private final class ClientRole: ConnectionRole {
    private let exchange: Exchange
    private var connection: Connection?
    private var opened: UInt64 = 0
    private var isGreeted = false

    init(_ exchange: Exchange) {
        self.exchange = exchange
    }

    func opened(_ connection: Connection) {
        self.connection = connection
        opened = Clock.monotonicNanoseconds()
        let hello = Hello(role: .control, node: "", history: .none, promisedEpoch: 0, position: .start)
        connection.send(.hello(hello), epoch: 0)
    }

    func received(_ message: Message, epoch: UInt64) {
        switch message {
        case .hello:
            isGreeted = true
            if let connection { exchange.ready(connection) }
        case .response(let bytes): exchange.finish(.success(bytes))
        case .refuse(let refusal): exchange.finish(.failure(NodeError(refusal)))
        default: break
        }
    }

    func tick() {
        guard !isGreeted, Clock.monotonicNanoseconds() - opened > SenderMachine.handshakeNanoseconds else { return }
        connection?.close(reason: "no hello within \(Limits.handshakeSeconds) s")
    }

    func closed(reason: String?) {
        exchange.finish(
            .failure(NodeError(.failed, "the node closed the connection" + (reason.map { ": \($0)" } ?? ""))))
    }
}
