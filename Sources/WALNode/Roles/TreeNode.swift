import Logging
import NIOCore
import ServiceLifecycle
import Synchronization
import WALFormat
import WALLog
import WALSystem
import WALWire

package struct NodeSettings: Sendable {
    package var rootPath: String
    package var statePath: String?
    package var name: String?
    package var listen: [Address] = []
    /// What others are told to reach this node by, where that is not what it listens on.
    package var advertise: Address?
    /// Programs, each with its arguments, that are run when the node has become primary, or fenced.
    package var onPromote: [String] = []
    package var onFence: [String] = []
    /// As a person started it, for messages.
    package var command: String
    package var primary = PrimarySettings()
    package var replica = ReplicaSettings()

    package init(rootPath: String, command: String) {
        self.rootPath = rootPath
        self.command = command
    }

    /// Whoever started it waits for its end, so what keeps it from beginning is the end.
    var isAwaited: Bool { primary.isOnce || primary.endsInDoubt || replica.until != nil }
}

/// A tree's process: has the tree, listens, and plays one role after the other. Which one is in `node.json`; a change of
/// it is durable there before the old role ends, so that a crash in between is a restart in the new one.
package final class TreeNode: Service {
    let settings: NodeSettings
    let host: NodeHost
    let logger: Logger
    private let current: Mutex<any NodeRole>
    let isChanging = Mutex(false)
    private let addresses = Mutex<[Address]>([])
    /// Also a role that begins just then ends.
    private let isEnding = Atomic(false)
    /// One change of roles at a time.
    let transitions = AsyncLock()
    private let tenure: any Tenure = OperatorTenure()

    /// Takes the directory: checks everything, changes nothing when it throws. `wanted` is what it is to be where nothing
    /// else was settled before.
    package init(_ settings: NodeSettings, as wanted: NodeFile.Role, logger: Logger) throws {
        self.settings = settings
        self.logger = logger
        var existing: NodeFile?
        let folder = try StateFolder(
            rootPath: settings.rootPath, statePath: settings.statePath, command: settings.command
        ) { root, found in
            existing = found
            try Self.check(settings, as: wanted, root, found)
        }
        let file = try existing ?? Self.makeFile(settings, as: wanted, folder)
        let identity = NodeIdentity(file, in: folder.directory)
        if existing == nil { try file.save(to: folder.directory) }
        if let name = settings.name { try identity.update { $0.node = name } }
        host = NodeHost(folder: folder, identity: identity, command: settings.command, logger: logger)
        current = Mutex(try Self.makeRole(settings, host, logger))
        host.onChange { [weak self] change in
            Task { await self?.change(change) }
        }
    }

    /// Throws what would keep ``init(_:as:logger:)`` from taking the directory, and makes nothing.
    static func check(_ settings: NodeSettings, as wanted: NodeFile.Role) throws {
        try check(
            settings, as: wanted, try StateFolder.openRoot(settings.rootPath),
            try StateFolder.existingNode(rootPath: settings.rootPath, statePath: settings.statePath))
    }

    private static func check(
        _ settings: NodeSettings, as wanted: NodeFile.Role, _ root: Directory, _ found: NodeFile?
    ) throws {
        if wanted == .primary {
            switch found?.role {
            case nil, .primary: return
            case .replica where found?.isAppointed == true, .fenced:
                guard settings.primary.isOnce else { return }
                throw NodeError(
                    .failed,
                    "\(settings.rootPath) is not the primary any more\(leaderText(found)); --once is for a primary")
            case .replica:
                throw NodeError(
                    .failed,
                    "\(settings.rootPath) is a replica; run walrecv for it, or remove its state folder to make it a "
                        + "primary of a new history")
            }
        }
        switch found?.role {
        case .primary where found?.isAppointed == true, .fenced: return
        case .primary:
            throw NodeError(
                .failed, "\(settings.rootPath) is a primary; a directory cannot be a replica at the same time")
        case .replica where found?.history != nil: return
        case .replica, nil: break
        }
        let isEmpty = try root.entries().allSatisfy { $0.name == Name(".wal") }
        guard isEmpty || settings.replica.adopts else {
            throw NodeError(
                .failed,
                "\(settings.rootPath) is not empty; give --adopt to make what is there a replica (files that the "
                    + "primary does not have are then removed), or name an empty directory")
        }
    }

    private static func leaderText(_ file: NodeFile?) -> String {
        file?.leader.map { "; the primary is \($0)" } ?? ""
    }

    private static func makeFile(
        _ settings: NodeSettings, as wanted: NodeFile.Role, _ folder: StateFolder
    ) throws -> NodeFile {
        guard wanted == .primary else {
            let name = try settings.name ?? defaultReplicaName(of: folder.root)
            return NodeFile(node: name, role: .replica, history: nil, epoch: 0)
        }
        let id = randomBytes(16).withUnsafeBytes { Digest(bytes: $0)! }
        let name = try settings.name ?? ProcessFacts.hostName()
        var made = NodeFile(node: name, role: .primary, history: HistoryID(id), epoch: 1)
        made.filter = settings.primary.filter?.lines
        return made
    }

    /// The host and the directory, so that two replicas of one host do not share a slot.
    private static func defaultReplicaName(of root: Directory) throws -> String {
        let path = root.currentPath.map { PathText.escaped($0) } ?? ""
        return String("\(try ProcessFacts.hostName()):\(path)".utf8.prefix(Limits.maxNodeNameBytes)) ?? "replica"
    }

    /// Without room for what a role begins with, this node waits for it. `problem` is what it has waited for so far.
    private static func makeRole(
        _ settings: NodeSettings, _ host: NodeHost, _ logger: Logger, after problem: String? = nil
    ) throws -> any NodeRole {
        do {
            do { return try makeRoleOnce(settings, host, logger) } catch {
                guard host.isCatalogDamaged else { throw error }
                return try makeRoleOnce(settings, host, logger)
            }
        } catch {
            let error = NodeError(error)
            guard error.code == .noSpace, !settings.isAwaited else { throw error }
            if error.description != problem { logger.error("\(error); waiting for room") }
            return WaitingNode(error.description, host: host)
        }
    }

    private static func makeRoleOnce(
        _ settings: NodeSettings, _ host: NodeHost, _ logger: Logger
    ) throws -> any NodeRole {
        switch host.identity.value.role {
        case .primary: try PrimaryNode(settings.primary, host: host, logger: logger)
        case .replica: try ReplicaNode(settings.replica, host: host, logger: logger)
        case .fenced: FencedNode(host: host, logger: logger)
        }
    }

    // MARK: Running

    /// Addresses that are listened on, with the ports that were taken.
    package var listening: [Address] { addresses.withLock { $0 } }
    package var isOver: Bool { role.isOver && !isChanging.withLock { $0 } }
    var role: any NodeRole { current.withLock { $0 } }
    var primary: PrimaryNode? { role as? PrimaryNode }
    var replica: ReplicaNode? { role as? ReplicaNode }

    package func run() async throws {
        do {
            let channels = try await listen()
            // Who was promoted just now knows that nobody was after it.
            var mayBeDeposed = true
            while true {
                if role is WaitingNode {
                    mayBeDeposed = true
                } else {
                    if mayBeDeposed, let primary, let change = await Herald(node: primary).deposition() {
                        await self.change(change)
                    }
                    mayBeDeposed = false
                    RoleHook.runPending(settings, host)
                }
                let watch = try await beginTenure()
                defer { watch?.cancel() }
                do {
                    try await role.run()
                } catch {
                    guard host.isCatalogDamaged else { throw error }
                    isChanging.withLock { $0 = true }
                }
                guard isChanging.withLock({ $0 }) else { break }
                // Else one that is fenced meanwhile would begin as what it was.
                try await transitions.run { [self] in try takeRole() }
                if isEnding.load(ordering: .relaxed) { role.shutDown() }
            }
            for channel in channels { try? await channel.close() }
            await host.network.shutDown()
        } catch {
            await host.network.shutDown()
            throw NodeError(error)
        }
    }

    /// Where the role is a primary's: waits for the right to it, and steps down when that is gone.
    private func beginTenure() async throws -> Task<Void, Never>? {
        guard let primary else { return nil }
        let epoch = primary.epoch
        try await tenure.begin(epoch: epoch)
        return Task { [tenure, host] in
            if let change = await tenure.ended(epoch: epoch) { host.request(change) }
        }
    }

    private func takeRole() throws {
        let file = host.identity.value
        let next = try Self.makeRole(settings, host, logger, after: (role as? WaitingNode)?.problem)
        current.withLock { $0 = next }
        isChanging.withLock { $0 = false }
        guard !(next is WaitingNode) else { return }
        logger.notice("this node is \(file.role.rawValue) now", metadata: ["epoch": "\(file.promisedEpoch)"])
    }

    private func listen() async throws -> [any Channel] {
        var channels = [
            try await host.network.listen(unixSocket: host.folder.controlSocketPath) { [self] in
                AcceptRole(service: self, makePeer: nil)
            }
        ]
        for address in settings.listen {
            let (channel, real) = try await host.network.listen(address) { [self] in
                AcceptRole(service: self, makePeer: { [self] in role.makePeer($0) })
            }
            channels.append(channel)
            addresses.withLock { $0.append(real) }
            logger.info("listening on \(real)")
        }
        host.address = settings.advertise ?? listening.first { !$0.isWildcard }
        if host.address == nil, let open = listening.first {
            logger.warning(
                "\(open) is every address of this host and none that others can be told: give --advertise HOST:PORT")
        }
        return channels
    }

    /// Ends ``run()`` in order.
    package func shutDown() {
        isEnding.store(true, ordering: .relaxed)
        role.shutDown()
    }

    package func currentStatus() throws -> NodeStatus { try role.currentStatus() }
}
