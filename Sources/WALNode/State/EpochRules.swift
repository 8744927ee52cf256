import WALFormat
import WALWire

/// What becomes of a node when primaries change: the rules of epochs, as changes of what it has durably promised.
/// Whoever applies one makes it durable before anything is said or done that follows from it.
extension NodeFile {
    /// Hears of no primary of a lower epoch from now on.
    ///
    /// An epoch is promised once: two who want to promote at the same time must not both have it. With it goes what the
    /// others know of the group, for any later promotion meets one of those who promise now.
    ///
    /// A fenced primary promises, too, where the group counts it: what it acknowledged when it was a replica is in its log.
    ///
    /// - Parameter handover: The epoch whose primary gives the lead away. Few promises are enough for that, and they say
    ///   that no other promotion has had any: so it is refused where one was given to somebody else since.
    package mutating func promise(_ epoch: UInt64, members others: [Member], handover: UInt64? = nil) throws {
        guard role != .primary else { throw NodeError(.failed, "\(node) is \(role.rawValue) and promises nothing") }
        guard epoch > promisedEpoch else {
            throw NodeError(
                .notMet, "\(node) has promised epoch \(promisedEpoch) already, so not \(epoch); try again")
        }
        if let handover, promisedEpoch != handover, handoverEpoch != handover {
            throw NodeError(
                .notMet, "\(node) has promised epoch \(promisedEpoch) to somebody else than the primary of \(handover)")
        }
        promisedEpoch = epoch
        handoverEpoch = handover
        // Who is fenced follows nobody, and is not to forget whom it could rejoin.
        if role == .replica { forgetLeader() }
        let known = Set((members ?? []).map(\.name))
        let more = others.filter { !known.contains($0.name) && $0.name.utf8.count <= Limits.maxNodeNameBytes }
        members = Array(((members ?? []) + more).prefix(Limits.maxGroupMembers))
    }

    /// A primary of this epoch has welcomed it.
    package mutating func promise(atLeast epoch: UInt64) {
        guard epoch >= promisedEpoch else { return }
        promisedEpoch = epoch
        handoverEpoch = nil
        self.epoch = epoch
    }

    /// Listens to the primary at `address` from now on, at no lower epoch.
    package mutating func follow(_ address: String, epoch: UInt64) throws {
        guard role == .replica else { throw NodeError(.failed, "\(node) is \(role.rawValue) and follows nobody") }
        guard epoch >= promisedEpoch else {
            throw NodeError(.failed, "\(node) has promised epoch \(promisedEpoch) and follows nobody of \(epoch)")
        }
        promisedEpoch = epoch
        handoverEpoch = nil
        upstream = address
        leader = address
    }

    /// Another primary was promoted at this epoch, or is about to be: this node is none any more. False where that says
    /// nothing to it.
    ///
    /// `successor` is who is given the lead where nothing was written since that one had all. Nobody else may take it, for
    /// what this node has is then all that there is.
    package mutating func fence(_ epoch: UInt64, leader: String?, successor: Member? = nil) -> Bool {
        guard role != .replica, epoch > self.epoch, epoch >= promisedEpoch else { return false }
        if role == .primary { pendingHook = .fence }
        role = .fenced
        isAppointed = true
        // Of a later one the leader may not be known yet.
        self.leader = leader ?? (promisedEpoch == epoch ? self.leader : nil)
        self.successor = leader == nil ? successor ?? self.successor : nil
        promisedEpoch = epoch
        handoverEpoch = nil
        if leader == nil { endRejoin() }
        return true
    }

    /// A higher epoch was promised: who led so far does not any more, and who will is not known.
    private mutating func forgetLeader() {
        formerLeader = leader ?? formerLeader
        leader = nil
    }

    /// Promoted. All of the group count from the beginning, for those who have promised the epoch know of them; of one that
    /// leads on those that counted before.
    ///
    /// - Parameter syncs: What others have heard of ``syncReplicas``. This node may have been away when it became more.
    package mutating func lead(_ epoch: UInt64, at address: String?, syncReplicas syncs: UInt32 = 0) {
        if syncs > syncReplicas ?? 0 { syncReplicas = min(syncs, UInt32(Limits.maxGroupMembers)) }
        let leadsOn = role == .fenced
        role = .primary
        isAppointed = true
        self.epoch = epoch
        promisedEpoch = epoch
        members?.removeAll { $0.name == node }
        if !leadsOn || voters == nil {
            voters = members?.map(\.name)
            votersNeeded = syncReplicas
        }
        handoverEpoch = nil
        forgetLeader()
        leader = address
        successor = nil
        pendingHook = .promote
    }

    /// Its own epoch begins with the segment after `end`, where its log ends.
    ///
    /// It may have been told of epochs whose segments it never got. They are of a past that is given up now: those of
    /// the log are of no later epoch than its last segment.
    package mutating func noteStart(after end: Position) {
        let kept = (epochs ?? []).filter { $0.epoch <= end.epoch && $0.epoch < epoch }
        epochs = Array((kept + [EpochStart(epoch: epoch, seq: end.seq + 1)]).suffix(Limits.maxGroupEpochs))
    }

    /// What a primary has told of the group.
    package mutating func note(_ group: Group) {
        if !group.leader.isEmpty { leader = group.leader }
        members = group.members.map { Member(name: $0.name, address: $0.address) }
        syncReplicas = group.syncReplicas
        epochs = group.epochs
    }

    /// What a fenced primary, or a replica that has diverged, had alone is set aside: it is a replica of `leader`.
    package mutating func rejoin(_ leader: String) {
        role = .replica
        endRejoin()
        successor = nil
        upstream = leader
    }

    private mutating func endRejoin() {
        isRejoining = nil
        rejoinFolder = nil
    }
}
