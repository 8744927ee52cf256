import WALFormat

/// A fenced primary leads on with what it has.
extension Promotion {
    /// A fenced primary leads on with what it has. Where a later epoch may have begun, what was acknowledged in that is lost to
    /// the group; so none of its successors may be there to be asked instead.
    ///
    /// As many members as any epoch needs must promise that they hear of none but the next, and itself among them where it is
    /// one. Whoever has acknowledged something in an epoch that was begun meanwhile is among so many, and has a later position;
    /// and who leads it is no replica any more. Who came to it since is a member that those of that epoch know of. Where the
    /// lead was given to one node only, it is that one who must promise.
    func leadOn(_ first: NodeStatus, _ history: String) async throws -> Outcome {
        let fenced =
            first.group?.primary == nil
            ? "\(first.node) is fenced: a promotion to epoch \(first.knownEpoch) was begun"
            : "\(first.node) is fenced: epoch \(first.knownEpoch) was promoted elsewhere"
        let (all, absent) = await GroupClient.explore(from: first.groupAddresses + candidates, history: history)
        var missing = absent
        let seen = Self.unique(all.filter { $0.status.node != first.node })
        let heirs = seen.filter { $0.status.leads || $0.status.position.epoch > first.position.epoch }
        // Who leads is what there is to know, however far the others are.
        let leaders = heirs.filter { $0.status.role == "primary" }
        if let heir = leaders.max(by: { $0.status.epoch < $1.status.epoch }) ?? heirs.max(by: Self.isBehind) {
            let remedy =
                heir.status.role == "primary"
                ? "walctl rejoin \(target) makes it a replica of that"
                : "walctl promote \(heir.address), which has more of the history"
            throw NodeError(.failed, "\(fenced), and \(heir.status.node) at \(heir.address) answers; \(remedy)")
        }
        if let leader = first.group?.primary, !isForced {
            throw NodeError(
                .notMet,
                "\(fenced), by \(leader), which does not answer. Bring it or one of its replicas back, or give --force: what was "
                    + "written there since is then lost to the group")
        }
        do { _ = try await GroupClient.ask(target, ControlRequest(.fit), seconds: 10) } catch {
            if NodeError(error).code == .noSpace { throw error }
        }
        let assembly = Assembly(first, seen)
        let (voters, own) = (assembly.voters, GroupClient.Seen(address: target, status: first))
        func refusal(_ needed: Assembly.Needed, _ who: [GroupClient.Seen], _ what: String, _ why: String) -> NodeError {
            NodeError(
                .notMet,
                "\(fenced). \(needed.lack(who + [own], what)), itself among them\(why). Bring one back, or walctl rejoin \(target) "
                    + "to who leads, or give --force: what was written elsewhere since is then lost to the group")
        }
        let able = voters.filter { Self.isWhole($0.status) }
        // The one that was given the lead promises first that it will not take it.
        let successor = able.first { $0.status.node == first.group?.successor }
        let needed = assembly.needed(isPlanned: false)
        guard needed.count(able + [own]) >= needed.promises || successor != nil || isForced else {
            throw refusal(needed, able, "can promise", assembly.lacking(able + [own], missing))
        }
        let known = assembly.members.filter { $0.name != first.node }
        var epoch = max(first.knownEpoch, seen.map(\.status.knownEpoch).max() ?? 0)
        func ask(handover: UInt64?) async throws -> (whole: [Voter], heard: [NodeStatus]) {
            epoch += 1
            let (promised, silent) = await promises(of: voters, epoch, history, known, handover: handover)
            if let heir = promised.first(where: { $0.position.epoch > first.position.epoch }) {
                throw NodeError(
                    .failed,
                    "\(fenced), and \(heir.name) at \(heir.seen.address) has more of the history; walctl promote that one"
                )
            }
            if handover == nil { missing += silent }
            return (promised.filter(\.isWhole), promised.map(\.status))
        }
        var (isSafe, told) = (false, [first] + seen.map(\.status))
        if let successor {
            let (whole, heard) = try await ask(handover: first.epoch)
            told += heard
            let few = assembly.needed(isPlanned: true).hearing([first] + heard)
            isSafe =
                whole.contains { $0.name == successor.status.node }
                && few.count(whole.map(\.seen) + [own]) >= few.promises
        }
        if !isSafe {
            let (whole, heard) = try await ask(handover: nil)
            told += heard
            let late = needed.hearing([first] + heard)
            isSafe = late.count(whole.map(\.seen) + [own]) >= late.promises
            guard isSafe || isForced else {
                throw refusal(late, whole.map(\.seen), "have promised epoch \(epoch)", Self.reasons(missing))
            }
        }
        // Not before: a primary that hears of the epoch steps down for it.
        var claim = Self.request(.fence, epoch, history)
        claim.force = isForced
        _ = try await GroupClient.ask(target, claim, seconds: timeoutSeconds)
        say("\(first.node) leads on")
        var lead = Self.request(.promote, epoch, history)
        lead.syncReplicas = Assembly.syncReplicas(told)
        _ = try await GroupClient.ask(target, lead, seconds: timeoutSeconds)
        let promoted = try await waitUntilPrimary(target, epoch)
        var outcome = try await tell(promoted, at: target, others: seen)
        outcome.missing += missing.map { "\($0.address): \($0.why)" }
        if !isSafe { outcome.warnings = ["\(fenced). What was written there since is lost to the group"] }
        return outcome
    }
}
