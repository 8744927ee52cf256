import NIOCore
import Synchronization
import WALFormat
import WALSystem
import WALWire

/// A client of a node's control requests. Answers come in the order of the questions, of which there may be several under
/// way.
package final class ControlClient: Sendable {
    private let network = Network()
    private let channel: any Channel
    private let exchange: Exchange
    private let isClosed = Atomic<Bool>(false)

    /// Connects to the node at `address`.
    ///
    /// - Parameter silence: seconds after which a node that owes an answer and says nothing is given up, the connection and
    ///   its hello among what it owes; nil waits for answers for ever.
    package init(_ address: Address, silence: Double? = nil) async throws {
        exchange = Exchange()
        let exchange = exchange
        do {
            channel = try await network.dial(address, seconds: silence) { ClientRole(exchange, silence: silence) }
        } catch {
            await network.shutDown()
            throw error
        }
    }

    /// Connects to the node whose state folder this is; throws when none runs there.
    package init(stateFolder: Directory, silence: Double? = nil) async throws {
        exchange = Exchange()
        let exchange = exchange
        do {
            channel = try await network.dial(
                unixSocket: "/proc/self/fd/\(stateFolder.descriptor)/control.sock"
            ) { ClientRole(exchange, silence: silence) }
        } catch {
            await network.shutDown()
            throw error
        }
    }

    package func ask(_ request: ControlRequest) async throws -> ControlResponse {
        try await Asked.response(wait(ask(later: request)))
    }

    /// Sends the request; the answer is waited for with ``wait(_:)``.
    package func ask(later request: ControlRequest) throws -> Asked {
        try exchange.send(.request(ControlJSON.encode(request)))
    }

    /// Content of the put that was begun; answered like a request.
    package func send(content bytes: [UInt8]) throws -> Asked {
        try exchange.send(.content(bytes))
    }

    package func wait(_ asked: Asked) async throws -> Message {
        try await withCheckedThrowingContinuation { asked.wait($0) }
    }

    /// The first call closes; others return at once: a loop that is shut down answers nobody any more.
    package func close() async {
        guard !isClosed.exchange(true, ordering: .relaxed) else { return }
        try? await channel.close()
        await network.shutDown()
    }
}

/// An answer that is on its way.
package final class Asked: Sendable {
    private struct State: Sendable {
        var answer: Result<Message, NodeError>?
        var waiter: CheckedContinuation<Message, any Error>?
    }

    private let state = Mutex(State())

    fileprivate func wait(_ continuation: CheckedContinuation<Message, any Error>) {
        let answer = state.withLock { state in
            if state.answer == nil { state.waiter = continuation }
            return state.answer
        }
        if let answer { continuation.resume(with: answer.mapError { $0 as any Error }) }
    }

    fileprivate func finish(_ answer: Result<Message, NodeError>) {
        let waiter = state.withLock { state in
            state.answer = answer
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(with: answer.mapError { $0 as any Error })
    }

    /// Throws what the node says has failed.
    package static func response(_ message: Message) throws -> ControlResponse {
        guard case .response(let bytes) = message else {
            throw NodeError(.failed, "the node answered with a \(message.type) frame")
        }
        let response = try ControlJSON.decode(ControlResponse.self, from: bytes)
        if let failure = response.error {
            var error = NodeError(NodeError.Code(rawValue: failure.code) ?? .failed, failure.text)
            error.redirect = failure.redirect
            error.position = response.position?.text
            error.isChanged = failure.isChanged ?? false
            throw error
        }
        return response
    }

    /// Bytes of a file; throws what the node says has failed.
    package static func content(_ message: Message) throws -> [UInt8] {
        if case .content(let bytes) = message { return bytes }
        _ = try response(message)
        throw NodeError(.failed, "the node answered without content")
    }
}

/// Questions and their answers, in order.
private final class Exchange: Sendable {
    struct State: Sendable {
        var connection: Connection?
        /// Asked before the node has said who it is.
        var early: [Message] = []
        var asked: [Asked] = []
        /// When the answer that is due next began to be: its question, or the answer before it. Monotonic nanoseconds.
        var dueSince: UInt64 = 0
        var failure: NodeError?
    }

    private let state = Mutex(State())

    func send(_ message: Message) throws -> Asked {
        let asked = Asked()
        // Under the lock: answers have the order in which the questions went out.
        try state.withLock { state in
            if let failure = state.failure { throw failure }
            if state.asked.isEmpty { state.dueSince = Clock.monotonicNanoseconds() }
            state.asked.append(asked)
            if let connection = state.connection {
                connection.send(message, epoch: 0)
            } else {
                state.early.append(message)
            }
        }
        return asked
    }

    /// On the event loop, where a write that fails ends the connection before it returns: not under the lock. What is asked
    /// meanwhile is early, too.
    func ready(_ connection: Connection) {
        while true {
            let next: Message? = state.withLock { state in
                guard state.early.isEmpty else { return state.early.removeFirst() }
                state.connection = connection
                return nil
            }
            guard let next else { return }
            connection.send(next, epoch: 0)
        }
    }

    func answered(_ message: Message) {
        let first: Asked? = state.withLock { state in
            state.dueSince = Clock.monotonicNanoseconds()
            return state.asked.isEmpty ? nil : state.asked.removeFirst()
        }
        first?.finish(.success(message))
    }

    /// Nanoseconds for which an answer is due.
    var silence: UInt64 {
        state.withLock { $0.asked.isEmpty ? 0 : Clock.monotonicNanoseconds().elapsed(since: $0.dueSince) }
    }

    func fail(_ error: NodeError) {
        let waiting = state.withLock { state in
            // The first reason tells most.
            state.failure = state.failure ?? error
            defer { state.asked.removeAll() }
            return state.asked
        }
        for asked in waiting { asked.finish(.failure(error)) }
    }
}

private final class ClientRole: ConnectionRole {
    private let exchange: Exchange
    private var connection: Connection?
    private var opened: UInt64 = 0
    private var isGreeted = false
    private let silence: Double?

    init(_ exchange: Exchange, silence: Double?) {
        self.exchange = exchange
        self.silence = silence
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
        case .response, .content: exchange.answered(message)
        case .refuse(let refusal): exchange.fail(NodeError(refusal))
        default: break
        }
    }

    func tick() {
        if !isGreeted {
            let limit = min(silence ?? .infinity, Double(Limits.handshakeSeconds))
            guard Double(Clock.monotonicNanoseconds().elapsed(since: opened)) > limit * 1e9 else { return }
            connection?.close(reason: "no hello within \(PrimaryNode.text(seconds: limit))")
        } else if let silence, Double(exchange.silence) > silence * 1e9 {
            connection?.close(reason: "no answer within \(PrimaryNode.text(seconds: silence))")
        }
    }

    func closed(reason: String?) {
        exchange.fail(
            NodeError(.unreachable, "the node closed the connection" + (reason.map { ": \($0)" } ?? "")))
    }
}
