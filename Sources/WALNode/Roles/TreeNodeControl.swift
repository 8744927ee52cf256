import Synchronization
import WALFormat
import WALSystem
import WALWire

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

    func notAReplica(_ consequence: String) -> NodeError {
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
