import Logging
import NIOCore
import Synchronization
import WALCatalog
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
    /// Of the catalog, as SQLite said it, and how often one was set aside in this run.
    private let damage = Mutex<(text: String?, rereads: Int, count: Int)>((nil, 0, 0))
    /// One at a time.
    private let opened = Mutex<Catalog?>(nil)
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

    /// Throws where a primary would wait for room before it has begun, or soon after. `catalog` gets an index of blocks.
    func requireRoom(toLeadWith catalog: Catalog? = nil) throws {
        let free = try folder.directory.space().availableBytes
        let needed = Self.roomBytes + (try catalog?.read { try $0.indexRoom() } ?? 0)
        guard free < needed else { return }
        throw NodeError(
            .noSpace,
            "\(identity.value.node) has \(free >> 10) KiB free at \(folder.path), too little to lead with: it needs "
                + "\(needed >> 10) KiB; free some space, or promote another one")
    }

    private static let roomBytes: UInt64 = 1 << 20

    // MARK: The catalog

    /// All that a catalog holds is found again in the tree and in the log, so one that is damaged is set aside and made anew,
    /// at once where that is seen while it is opened, else by the next role.
    ///
    /// That its rows are right is found out beside whatever is done with it: it takes a second per million files.
    ///
    /// The one before is closed: a role that could not begin has left it open.
    func openCatalog(indexesBlocks: Bool = false) throws -> Catalog {
        if let before = opened.withLock({ $0.take() }) { try before.close() }
        let catalog = try openedCatalog(indexesBlocks: indexesBlocks)
        opened.withLock { $0 = catalog }
        try catalog.beginCheck()
        return catalog
    }

    private func openedCatalog(indexesBlocks: Bool) throws -> Catalog {
        if let text = damage.withLock({ $0.text }) {
            if try !isRightWhenReadAgain(text, indexesBlocks: indexesBlocks) { try setCatalogAside(text) }
            damage.withLock { $0.text = nil }
        }
        do throws(CatalogError) {
            return try checkedCatalog(indexesBlocks: indexesBlocks)
        } catch {
            guard case .damaged(let text) = error else { throw error }
            if try !isRightWhenReadAgain(text, indexesBlocks: indexesBlocks) { try setCatalogAside(text) }
            return try checkedCatalog(indexesBlocks: indexesBlocks)
        }
    }

    /// A read that failed once looks like damage, too, and to make the catalog anew takes a look at all of the tree. Not asked
    /// again and again: what finds the damage may see more than this check does.
    private func isRightWhenReadAgain(_ text: String, indexesBlocks: Bool) throws -> Bool {
        let rereads = damage.withLock { damage in
            damage.rereads += 1
            return damage.rereads
        }
        guard rereads <= 3 else { return false }
        logger.error("catalog.sqlite seems damaged (\(text)); all of it is read again")
        do {
            let catalog = try Catalog(path: folder.catalogPath, indexesBlocks: indexesBlocks)
            defer { try? catalog.close() }
            try catalog.checkAll()
        } catch CatalogError.damaged {
            return false
        }
        logger.notice("catalog.sqlite is right: a read of it has failed")
        return true
    }

    private func checkedCatalog(indexesBlocks: Bool) throws(CatalogError) -> Catalog {
        let catalog = try Catalog(path: folder.catalogPath, indexesBlocks: indexesBlocks) { [weak self] text in
            self?.catalogIsDamaged(text)
        }
        // One that is another file altogether is told by the first row.
        do { _ = try catalog.state() } catch let error as CatalogError { throw error } catch {
            throw .database("\(error)")
        }
        return catalog
    }

    private func catalogIsDamaged(_ text: String) {
        let isNews = damage.withLock { damage in
            defer { damage.text = damage.text ?? text }
            return damage.text == nil
        }
        guard isNews else { return }
        logger.error("catalog.sqlite seems damaged (\(text)); the role begins again")
        request(.catalogDamaged)
    }

    /// The role that met it has ended, and the next one begins with another catalog.
    var isCatalogDamaged: Bool { damage.withLock { $0.text != nil } }

    private func setCatalogAside(_ text: String) throws {
        damage.withLock { $0.text = nil }
        let count = damage.withLock { damage in
            damage.count += 1
            return damage.count
        }
        // A disk that does this again and again is no place for one.
        guard count <= 3 else {
            throw NodeError(
                .diverged, "catalog.sqlite is damaged (\(text)), for the \(count). time since the start: check the disk"
            )
        }
        let kept = Set(try folder.quarantine.entries().map(\.name))
        var number = 1
        while kept.contains(Self.name("catalog-\(number).sqlite")) { number += 1 }
        // What belongs to it goes with it, and it goes last.
        for suffix in ["-shm", "-wal", ""] {
            do throws(SystemError) {
                try folder.directory.rename(
                    Self.name("catalog.sqlite\(suffix)"), to: folder.quarantine,
                    Self.name("catalog-\(number).sqlite\(suffix)"))
            } catch {
                guard error.isNotFound else { throw error }
            }
        }
        try folder.quarantine.sync()
        try folder.directory.sync()
        let what = "catalog.sqlite is damaged (\(text))"
        logger.critical("\(what); it is kept as quarantine/catalog-\(number).sqlite and made anew from tree and log")
    }

    private static func name(_ text: String) -> Name { Name(trusted: Array(text.utf8)) }

    // MARK: Changes of the role

    /// Asks for another role. The answer, if any, comes by what the role does then.
    func request(_ change: RoleChange) {
        changes.withLock { $0 }?(change)
    }

    func onChange(_ body: @escaping @Sendable (RoleChange) -> Void) {
        changes.withLock { $0 = body }
        // That may have been found before anybody was there to hear of it.
        if isCatalogDamaged { body(.catalogDamaged) }
    }

    /// Notes what a primary has told of the group; true when that is durable, so that the primary may count on it.
    func note(_ group: Group) -> Bool {
        do {
            try identity.update { $0.note(group) }
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
    /// A node that has waited for room tries again; not one that has another role by now.
    case retry(WaitingNode)
    /// The role goes on with a new one.
    case catalogDamaged
    /// Another primary was promoted at this epoch; its address, where it is known.
    case deposed(epoch: UInt64, leader: String?)
    /// A fenced node has found who leads.
    case found(epoch: UInt64, leader: String)
}

/// What a tree's process does at a time: primary, replica or fenced, or waiting for room to be one of these.
protocol NodeRole: ControlService {
    /// Returns when the role is over: after a graceful shutdown, or ``shutDown()``.
    func run() async throws
    func shutDown()
    var isOver: Bool { get }
    /// Who speaks with a peer that has introduced itself so.
    func makePeer(_ hello: Hello) -> any PeerRole
    func currentStatus() throws -> NodeStatus
}

/// Connections of a role's peers: closed, and waited for, at its end. Who comes after that is closed, too, and finds the next
/// role when it comes again: of this one it would hear nothing any more.
final class PeerSet: Sendable {
    private let state = Mutex<(connections: [ObjectIdentifier: Connection], isClosed: Bool)>(([:], false))

    func add(_ connection: Connection) {
        let isClosed = state.withLock { state in
            if !state.isClosed { state.connections[ObjectIdentifier(connection)] = connection }
            return state.isClosed
        }
        if isClosed { connection.closeFromOutside(reason: "this node is changing its role") }
    }

    func remove(_ connection: Connection) {
        state.withLock { $0.connections[ObjectIdentifier(connection)] = nil }
    }

    var all: [Connection] { state.withLock { Array($0.connections.values) } }

    func close() async {
        let connections = state.withLock { state in
            state.isClosed = true
            return Array(state.connections.values)
        }
        for connection in connections { await connection.closeAndWait() }
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
