import WALFormat
import WALSystem
import WALWire

/// A node that answers control requests. Any thread; the answer may come at any time later.
protocol ControlService: AnyObject, Sendable {
    /// Who reads and writes the tree for clients now; throws, with the address of another node where one is known, when
    /// nobody does here.
    func tree() throws -> any TreeService
    func handle(_ request: ControlRequest, answer: @escaping @Sendable (ControlResponse) -> Void)
    /// How this node introduces itself.
    func hello() -> Hello
    var epoch: UInt64 { get }
}

/// A connection from a client: requests in, responses out, in the order in which they are ready.
final class ControlRole: ConnectionRole {
    private let service: any ControlService
    private var connection: Connection?
    /// From the first request of a client for what is in the tree.
    private var session: ClientSession?

    init(service: any ControlService) {
        self.service = service
    }

    func opened(_ connection: Connection) {
        self.connection = connection
    }

    func received(_ message: Message, epoch: UInt64) {
        guard let connection else { return }
        if case .content(let bytes) = message, let session { return session.put(.content(bytes)) }
        guard case .request(let bytes) = message else {
            connection.send(.refuse(Refusal(.malformed, "unexpected \(message.type) frame")), epoch: service.epoch)
            connection.close(reason: "unexpected \(message.type) frame")
            return
        }
        let epoch = service.epoch
        let reply: @Sendable (ControlResponse) -> Void = { response in
            let bytes = (try? ControlJSON.encode(response)) ?? []
            connection.send(.response(bytes), epoch: epoch)
        }
        do {
            let request = try ControlJSON.decode(ControlRequest.self, from: bytes)
            // One that no frame and no segment can say must not be promised.
            guard request.epoch ?? 0 <= Limits.maxEpoch else {
                throw NodeError(.usage, "epoch \(request.epoch ?? 0) is beyond the limit of \(Limits.maxEpoch)")
            }
            if request.verb.isOfSession {
                let session = session ?? ClientSession(service: service, connection: connection)
                self.session = session
                session.put(.request(request))
            } else {
                service.handle(request, answer: reply)
            }
        } catch {
            reply(ControlResponse(error: NodeError(.usage, "request is not understood: \(error)")))
        }
    }

    func tick() {}

    func closed(reason: String?) {
        connection = nil
        session?.end()
    }
}

/// What a listening node does with a new connection: the first frame says who it is for.
final class AcceptRole: ConnectionRole {
    private let service: any ControlService
    private let makePeer: ((Hello) -> any PeerRole)?
    private var connection: Connection?
    private var opened: UInt64 = 0

    /// `makePeer` is nil where only clients are welcome.
    init(service: any ControlService, makePeer: ((Hello) -> any PeerRole)?) {
        self.service = service
        self.makePeer = makePeer
    }

    func opened(_ connection: Connection) {
        self.connection = connection
        opened = Clock.monotonicNanoseconds()
    }

    func received(_ message: Message, epoch: UInt64) {
        guard let connection, case .hello(let hello) = message else { return }
        if hello.role == .control {
            connection.send(.hello(service.hello()), epoch: service.epoch)
            let role = ControlRole(service: service)
            role.opened(connection)
            connection.hand(over: role)
        } else if let makePeer {
            let role = makePeer(hello)
            connection.hand(over: role)
            role.accepted(connection)
            role.received(message, epoch: epoch)
        } else {
            connection.send(.refuse(Refusal(.unauthorized, "this socket is for clients")), epoch: service.epoch)
            connection.close(reason: "not a client")
        }
    }

    func tick() {
        if Clock.monotonicNanoseconds() - opened > SenderMachine.handshakeNanoseconds {
            connection?.close(reason: "no hello within \(Limits.handshakeSeconds) s")
        }
    }

    func closed(reason: String?) {
        connection = nil
    }
}

/// A role that a listener hands an accepted connection to.
protocol PeerRole: ConnectionRole {
    /// The peer has spoken first; introduces this side.
    func accepted(_ connection: Connection)
}
