import WALFormat

/// What a promotion can tell from what it sees, before anything has changed.
extension Promotion {
    /// What is known before anything has changed must not stand against it. Returns how many must promise, and what `--force`
    /// may lose.
    func check(_ sight: Sight) throws -> (Assembly.Needed, warnings: [String]) {
        let (first, assembly) = (sight.first, sight.assembly)
        if let leader = sight.leaders.max(by: { $0.status.epoch < $1.status.epoch }),
            leader.status.epoch > (first.group?.promisedEpoch ?? first.epoch)
        {
            throw NodeError(
                .failed,
                "\(leader.status.node) at \(leader.address) was promoted at epoch \(leader.status.epoch) already")
        }
        if mustTakeOver, sight.giver == nil, let leader = sight.leaders.first {
            throw NodeError(
                .failed,
                "\(leader.status.node) at \(leader.address) leads epoch \(leader.status.epoch) since; walctl switchover "
                    + "\(leader.address) \(target) hands over from there")
        }
        let absent = candidates.filter { wanted in
            !assembly.voters.contains { $0.address == wanted && $0.status.role == "replica" }
        }
        guard absent.isEmpty else {
            throw NodeError(
                .failed, "\(absent.map(\.description).joined(separator: ", ")): no replica of this group answers there")
        }
        guard !assembly.members.isEmpty || isForced else {
            throw NodeError(
                .notMet,
                "no primary has told \(first.node) yet who belongs to the group, so others may have more. Promote one that was told, "
                    + "or give --force: what only others have is then lost to the group")
        }
        let needed = assembly.needed(isPlanned: sight.handover != nil)
        var warnings: [String] = []
        let able = assembly.voters.filter { Self.isWhole($0.status) }
        if needed.count(able) < needed.promises {
            let text = needed.lack(able, "can promise") + assembly.lacking(able, sight.missing)
            guard isForced else {
                throw NodeError(
                    .notMet, "\(text). Bring one back, or give --force: what only they have is then lost to the group")
            }
            warnings.append(text)
        }
        try check(
            able, sight.candidates, begun: assembly.begun, fenced: sight.seen.filter { $0.status.role == "fenced" },
            leaders: sight.handover != nil ? [] : sight.leaders, &warnings)
        return (needed, warnings)
    }

    private func check(
        _ able: [GroupClient.Seen], _ allowed: [Address], begun: UInt64, fenced: [GroupClient.Seen],
        leaders: [GroupClient.Seen], _ warnings: inout [String]
    ) throws {
        guard
            let best = able.filter({ allowed.contains($0.address) && $0.status.role == "replica" })
                .max(by: Self.isBehind)
        else {
            throw NodeError(
                .failed,
                "\(allowed.map(\.description).joined(separator: ", ")): not a replica that is whole; walctl status says why"
            )
        }
        // What was acknowledged before an epoch began need not be on any replica of its primary, until one has got so far.
        if best.status.position.epoch < begun {
            let text =
                "\(best.status.node) has nothing of epoch \(begun) yet; what was acknowledged before may be on its primary "
                + "alone"
            let former = fenced.first { $0.status.epoch == begun }
            let remedy = former.map { "walctl promote \($0.address) leads on there" } ?? "Let it catch up with that"
            guard isForced else {
                throw NodeError(.notMet, "\(text). \(remedy), or give --force to lose what it lacks")
            }
            warnings.append(text)
        }
        let own = Self.end(best.status)
        if let ahead = able.max(by: Self.isBehind), Self.isBehind(best, ahead) {
            let most = Self.end(ahead.status)
            let text =
                "\(ahead.status.node) at \(ahead.address) is \(most - min(own, most)) segments ahead of "
                + "\(best.status.node): it has \(most), this one \(own)"
            guard isForced else {
                throw NodeError(.notMet, "\(text). Promote that one, or give --force to lose them")
            }
            warnings.append(text)
        }
        // What only a primary has that answers would be set aside at its rejoin.
        guard let leader = leaders.max(by: { $0.status.epoch < $1.status.epoch }), leader.status.position.seq > own
        else {
            return
        }
        let text =
            "\(leader.status.node) at \(leader.address) leads and is \(leader.status.position.seq - own) segments ahead of "
            + "\(best.status.node)"
        guard isForced else {
            throw NodeError(
                .notMet,
                "\(text). walctl switchover \(leader.address) \(best.address) loses nothing; --force leaves them behind"
            )
        }
        warnings.append(text)
    }

    /// A primary that was drained for `new`, and fenced so that this one should lead: what it has is all that there is, and
    /// nobody else was given the lead.
    static func hasGiven(_ old: NodeStatus, to new: NodeStatus, begun: UInt64) -> Bool {
        old.role == "fenced" && new.role == "replica" && old.group?.primary == nil
            && old.group?.successor == new.node && old.epoch >= begun && old.position.text == new.position.text
    }

    /// One node may be known by several addresses.
    static func unique(_ seen: [GroupClient.Seen]) -> [GroupClient.Seen] {
        var names: Set<String> = []
        return seen.filter { names.insert("\($0.status.role) \($0.status.node)").inserted }
    }

    static func isWhole(_ status: NodeStatus) -> Bool {
        guard status.role == "replica" else { return status.position.seq > 0 }
        return ["streaming", "connecting", "stalled"].contains(status.state) && status.appliedSeq ?? 0 > 0
    }

    /// Where its log ends.
    static func end(_ status: NodeStatus) -> UInt64 {
        status.role == "replica" ? status.durableSeq ?? 0 : status.position.seq
    }

    static func isBehind(_ a: GroupClient.Seen, _ b: GroupClient.Seen) -> Bool {
        (a.status.position.epoch, end(a.status)) < (b.status.position.epoch, end(b.status))
    }

    /// The later epoch is the newer past, however long the other is.
    static func isBefore(_ a: Voter, _ b: Voter) -> Bool {
        (a.position.epoch, a.position.seq) < (b.position.epoch, b.position.seq)
    }

    static func furthest(_ voters: [Voter], preferring address: Address) -> Voter? {
        guard let best = voters.max(by: isBefore) else { return nil }
        return voters.first { $0.seen.address == address && !isBefore($0, best) } ?? best
    }
}
