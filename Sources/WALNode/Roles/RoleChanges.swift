import Logging
import Synchronization
import WALFormat
import WALLog
import WALSystem

/// How a node comes from one role to another.
extension TreeNode {
    func change(_ change: RoleChange) async {
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
            var found = leader ?? file.leader
            // Fenced by word of a promise, it may not have heard yet of whom it was made to.
            if found == nil { found = await FencedNode.leader(known: host)?.address }
            guard let leader = found else {
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
