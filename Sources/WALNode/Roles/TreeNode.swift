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
    private let logger: Logger
    private let current: Mutex<any NodeRole>
    private let isChanging = Mutex(false)
    private let addresses = Mutex<[Address]>([])
    /// Also a role that begins just then ends.
    private let isEnding = Atomic(false)
    /// One change of roles at a time.
    private let transitions = AsyncLock()
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

    // MARK: Changes of the role

    private func change(_ change: RoleChange) async {
        do {
            switch change {
            case .appointed: await transitions.run { self.endRole() }
            case .retry(let waiting):
                await transitions.run { [self] in
                    if role === waiting { endRole() }
                }
            case .catalogDamaged:
                await transitions.run { [self] in
                    if host.isCatalogDamaged { endRole() }
                }
            case .deposed(let epoch, let leader):
                try await transitions.run { [self] in
                    // What a primary has heard says nothing to what has become of it since: that may be rejoining by now.
                    guard host.identity.value.role == .primary else { return }
                    try fenceNow(epoch, leader)
                }
            case .found(let epoch, let leader):
                try await transitions.run { [self] in
                    let file = host.identity.value
                    guard file.role == .fenced, file.isRejoining != true, file.leader != leader else { return }
                    try fenceNow(epoch, leader)
                }
            }
        } catch {
            logger.critical("the role cannot be changed: \(error)")
        }
    }

    /// The next role is durable in `node.json`: the present one ends.
    private func endRole() {
        isChanging.withLock { $0 = true }
        role.shutDown()
    }

    /// Durable before the primary is stopped: whatever happens now, it is none any more.
    ///
    /// `check` is made when no other change is under way: what it finds is so until the fence stands.
    func fence(
        epoch: UInt64, leader: String?, successor: NodeFile.Member? = nil, check: @Sendable () throws -> Void = {}
    ) async throws {
        try await transitions.run { [self] in
            try check()
            try fenceNow(epoch, leader, successor)
        }
    }

    private func fenceNow(_ epoch: UInt64, _ leader: String?, _ successor: NodeFile.Member? = nil) throws {
        let before = host.identity.value
        var isFenced = false
        try host.identity.update { isFenced = $0.fence(epoch, leader: leader, successor: successor) }
        guard isFenced else { return }
        guard before.role == .primary else {
            // The rejoin that is under way is given up.
            if before.isRejoining == true, host.identity.value.isRejoining != true { endRole() }
            return
        }
        let why = FencedNode.text(host)
        logger.critical("deposed: \(why); nothing is captured or shipped now")
        endRole()
    }

    /// Makes the replica the primary of `epoch`, which it and enough others have promised. Returns where it begins.
    ///
    /// A fenced primary that has claimed the epoch, and knows nobody who leads, leads on.
    ///
    /// - Parameter syncReplicas: How many replicas the group was to wait for so far, as far as any of those is known to have heard
    ///   of it.
    func promote(epoch: UInt64, syncReplicas: UInt32) async throws -> Position {
        try await transitions.run { [self] in
            let file = host.identity.value
            if file.role == .primary, file.epoch == epoch, let primary { return primary.logView.durableEnd }
            // Once it is to lead there is nobody else.
            try host.requireRoom(toLeadWith: replica?.catalog)
            if let fenced = role as? FencedNode, file.isRejoining != true, file.leader == nil,
                epoch == file.promisedEpoch, epoch > file.epoch
            {
                // A rejoin that was given up since may have got further than it had when the epoch was claimed.
                try fenced.requireUnchanged()
                let position = try fenced.end()
                try host.identity.update { $0.lead(epoch, at: host.address?.description, syncReplicas: syncReplicas) }
                endRole()
                logger.critical("leads on at \(position.short)", metadata: ["epoch": "\(epoch)"])
                return position
            }
            guard let replica else { throw notAReplica("; only a replica can be promoted") }
            let refusal = NodeError(.failed, "\(file.node) has promised another epoch than \(epoch): promote again")
            guard epoch == file.promisedEpoch, epoch > file.epoch else { throw refusal }
            let position = try await replica.drain()
            // Whatever comes of it, the replica has ended.
            defer { endRole() }
            try host.identity.update { file in
                guard file.promisedEpoch == epoch else { throw refusal }
                file.lead(epoch, at: host.address?.description, syncReplicas: syncReplicas)
            }
            logger.notice("promoted at \(position.short)", metadata: ["epoch": "\(epoch)"])
            return position
        }
    }

    /// A fenced primary, or a replica that has diverged, gives up what it has alone and becomes a replica of `leader`. False
    /// where it is a replica that has nothing to give up.
    func rejoin(leader: String?) async throws -> Bool {
        try await transitions.run { [self] in
            let file = host.identity.value
            if let leader { _ = try Address(leader) }
            let isDiverged = replica?.snapshot.phase == .diverged
            let hasRival = primary?.rival.withLock { $0 } != nil
            guard file.role == .fenced || isDiverged || hasRival else {
                guard file.role == .replica else {
                    throw NodeError(
                        .failed,
                        "\(file.node) is the primary of epoch \(file.epoch); rejoin is for one that was deposed")
                }
                return false
            }
            // Asked again it goes on, and does not begin anew.
            if file.isRejoining == true, role is FencedNode, leader == nil || leader == file.leader { return true }
            guard let leader = leader ?? file.leader else {
                throw NodeError(.noPrimary, "\(file.node) knows no primary; name one with --to HOST:PORT")
            }
            try host.identity.update { file in
                if file.role == .primary { file.pendingHook = .fence }
                file.role = .fenced
                file.isAppointed = true
                file.isRejoining = true
                file.leader = leader
            }
            endRole()
            return true
        }
    }
}

/// What clients ask of whatever role the node has.
extension TreeNode: ControlService {
    func tree() throws -> any TreeService {
        guard !isChanging.withLock({ $0 }) else {
            throw NodeError(.noPrimary, "\(host.identity.value.node) is changing its role")
        }
        return try role.tree()
    }

    func hello() -> Hello { role.hello() }
    var epoch: UInt64 { host.identity.value.promisedEpoch }

    func handle(_ request: ControlRequest, answer: @escaping @Sendable (ControlResponse) -> Void) {
        switch request.verb {
        case .promise, .promote, .follow, .fence, .rejoin, .fit:
            Task { [self] in
                do { answer(try await appoint(request)) } catch { answer(ControlResponse(error: error)) }
            }
        case .status, .position: ask(request, answer: answer)
        default: role.handle(request, answer: answer)
        }
    }

    /// A role that ends under a question cannot answer it; the next one can.
    private func ask(_ request: ControlRequest, answer: @escaping @Sendable (ControlResponse) -> Void) {
        let asked = role
        asked.handle(request) { [self] response in
            guard response.error != nil, asked.isOver else { return answer(response) }
            Task {
                let deadline = Clock.monotonicNanoseconds() + Self.changeNanoseconds
                while role === asked, Clock.monotonicNanoseconds() < deadline {
                    try? await Task.sleep(for: .milliseconds(5))
                }
                role.handle(request, answer: answer)
            }
        }
    }

    private static let changeNanoseconds: UInt64 = 10_000_000_000

    private func appoint(_ request: ControlRequest) async throws -> ControlResponse {
        var response = ControlResponse()
        if let history = request.history, let own = host.identity.value.history, history != own {
            throw NodeError(.diverged, "\(host.identity.value.node) belongs to history \(own), not to \(history)")
        }
        let epoch = request.epoch ?? 0
        switch request.verb {
        case .promise:
            // Not while another change is under way: one that is about to lead must not promise a later epoch.
            let (promise, status) = try await transitions.run { [self] in
                let members = (request.members ?? []).map { NodeFile.Member(name: $0.name, address: $0.address ?? "") }
                let promise: ReplicaNode.Promise
                if let fenced = role as? FencedNode {
                    promise = try fenced.promise(epoch: epoch, members: members, handover: request.handover)
                } else if let replica {
                    promise = try await replica.promise(epoch: epoch, members: members, handover: request.handover)
                } else {
                    throw notAReplica(" and promises nothing")
                }
                let status = try role.currentStatus()
                return (promise, status)
            }
            response.position = PositionStatus(promise.position)
            response.isWhole = promise.isWhole
            response.status = status
        case .promote:
            let position = try await promote(epoch: epoch, syncReplicas: request.syncReplicas ?? 0)
            response.position = PositionStatus(position)
        case .follow:
            guard let replica else { throw notAReplica(" and follows nobody") }
            try await replica.follow(request.address ?? "", epoch: epoch)
        case .fence:
            let successor = request.members?.first.map { NodeFile.Member(name: $0.name, address: $0.address ?? "") }
            try await fence(epoch: epoch, leader: request.address, successor: successor) { [self] in
                try requireGivable(request, epoch)
            }
            response.members = NodeStatus.Group(host.identity.value, address: nil).members
        case .fit:
            guard replica != nil || role is FencedNode else { throw notAReplica("; only a replica can be promoted") }
            try host.requireRoom(toLeadWith: replica?.catalog)
        case .rejoin:
            response.isWhole = try await !rejoin(leader: request.address)
            response.address = host.identity.value.leader
        default: break
        }
        response.node = host.identity.value.node
        response.epoch = host.identity.value.promisedEpoch
        return response
    }

    private func notAReplica(_ consequence: String) -> NodeError {
        if let waiting = role as? WaitingNode { return waiting.refusal }
        let file = host.identity.value
        return NodeError(.failed, "\(file.node) is \(file.role.rawValue)\(consequence)")
    }

    /// Throws where the lead is not this node's to give away, or not where it was to be.
    private func requireGivable(_ request: ControlRequest, _ epoch: UInt64) throws {
        let file = host.identity.value
        // Whoever has not promoted yet claims the epoch: it is given away once, and not by one that knows who has it.
        let isFree = request.force == true || (file.isRejoining != true && file.leader == nil)
        let mayGive = file.role == .primary || (file.role == .fenced && isFree)
        guard request.address != nil || (mayGive && epoch > file.promisedEpoch) else {
            throw NodeError(
                .notMet,
                "\(file.node) is \(file.role.rawValue) and has promised epoch \(file.promisedEpoch); try again")
        }
        if let position = request.position {
            // It has begun anew since it was drained, whatever it did before that.
            if let waiting = role as? WaitingNode { throw waiting.refusal }
            try primary?.requireDrained(at: position)
            if let fenced = role as? FencedNode, try fenced.end().description != position {
                throw NodeError(.notMet, "\(file.node) does not stand where the lead was to be handed over")
            }
        }
        if request.address == nil, file.isRejoining == true { try (role as? FencedNode)?.requireUnchanged() }
    }
}
