import Logging
import NIOCore
import Synchronization
import WALFormat
import WALSystem
import WALWire

/// What a tree's process keeps while its role changes: the folder with its lock, the identity, the network, and what is
/// known of the group.
final class NodeHost: Sendable {
    let folder: StateFolder
    let identity: NodeIdentity
    let network = Network()
    let logger: Logger
    /// As a person started it, for messages.
    let command: String
    private let reachable = Mutex<Address?>(nil)
    private let changes: Mutex<(@Sendable (RoleChange) -> Void)?> = Mutex(nil)

    init(folder: StateFolder, identity: NodeIdentity, command: String, logger: Logger) {
        self.folder = folder
        self.identity = identity
        self.command = command
        self.logger = logger
    }

    var rootPath: String { folder.rootPath }

    /// Where others reach this node; nil where nobody does.
    var address: Address? {
        get { reachable.withLock { $0 } }
        set { reachable.withLock { $0 = newValue } }
    }

    /// The primary as last heard. A node that was never told knows none.
    var leader: Address? { identity.value.leader.flatMap { try? Address($0) } }

    /// Asks for another role. The answer, if any, comes by what the role does then.
    func request(_ change: RoleChange) {
        changes.withLock { $0 }?(change)
    }

    func onChange(_ body: @escaping @Sendable (RoleChange) -> Void) {
        changes.withLock { $0 = body }
    }

    /// Notes what a primary has told of the group; true when that is durable, so that the primary may count on it.
    func note(_ group: Group) -> Bool {
        do {
            try identity.update { file in
                if !group.leader.isEmpty { file.leader = group.leader }
                file.members = group.members.map { NodeFile.Member(name: $0.name, address: $0.address) }
                file.syncReplicas = group.syncReplicas
                file.epochs = group.epochs
            }
            return true
        } catch {
            logger.warning("the group is not noted: \(error)")
            return false
        }
    }
}

/// Why a node changes its role.
enum RoleChange: Sendable {
    /// ``NodeFile`` says which role is next; it is durable already.
    case appointed
    /// Another primary was promoted at this epoch; its address, where it is known.
    case deposed(epoch: UInt64, leader: String?)
}

/// What a tree's process does at a time: primary, replica or fenced.
protocol NodeRole: ControlService {
    /// Returns when the role is over: after a graceful shutdown, or ``shutDown()``.
    func run() async throws
    func shutDown()
    var isOver: Bool { get }
    /// Who speaks with a peer that has introduced itself so.
    func makePeer(_ hello: Hello) -> any PeerRole
    func currentStatus() throws -> NodeStatus
}

/// Connections of a role's peers: closed, and waited for, at its end.
final class PeerSet: Sendable {
    private let connections = Mutex<[ObjectIdentifier: Connection]>([:])

    func add(_ connection: Connection) {
        connections.withLock { $0[ObjectIdentifier(connection)] = connection }
    }

    func remove(_ connection: Connection) {
        connections.withLock { $0[ObjectIdentifier(connection)] = nil }
    }

    var all: [Connection] { connections.withLock { Array($0.values) } }

    func close() async {
        for connection in connections.withLock({ Array($0.values) }) { await connection.closeAndWait() }
    }
}

/// Sends a peer to whom it should speak, and lets it go.
final class RefuseRole: PeerRole {
    private let refusal: Refusal
    private let epoch: UInt64
    private var connection: Connection?

    init(_ refusal: Refusal, epoch: UInt64) {
        self.refusal = refusal
        self.epoch = epoch
    }

    func accepted(_ connection: Connection) {
        self.connection = connection
    }

    func opened(_ connection: Connection) {
        self.connection = connection
    }

    func received(_ message: Message, epoch: UInt64) {
        connection?.send(.refuse(refusal), epoch: self.epoch)
        connection?.close(reason: refusal.text)
    }

    func tick() {}

    func closed(reason: String?) {
        connection = nil
    }
}
