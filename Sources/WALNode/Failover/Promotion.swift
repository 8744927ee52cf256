import WALFormat
import WALSystem

/// Makes a replica the primary, from outside: whoever runs `walctl promote` may be killed at any point, and the same
/// command again finishes it.
///
/// 1. Look: who is there, how far each is. What makes the promotion unsafe is found here, before anything has changed.
/// 2. A primary that still answers is fenced, so that nothing more is acknowledged that the new one may lack.
/// 3. Promises: every replica that answers hears of no lower epoch from now on, and says what is durable there.
/// 4. The furthest of the candidates is promoted: it applies all that is durable, and begins the epoch.
/// 5. The others are told to follow; who cannot be told hears it from the new primary.
///
/// How many must promise is what ``Quorum`` says. A fenced primary can lead on: what it has is all that was acknowledged in
/// its epoch, and enough promises say that no later one has begun.
package struct Promotion {
    package struct Outcome: Codable, Sendable {
        package var node: String
        package var address: String
        package var epoch: UInt64
        package var position: String
        /// Replicas that follow, and those that could not be told yet.
        package var followers: [String]
        package var missing: [String]
        /// What `--force` may have lost.
        package var warnings: [String]
        /// What of a switchover is still to be done, after the lead was handed over.
        package var unfinished: String?
    }

    /// The node to ask first, and to promote unless there are candidates.
    package var target: Address
    package var candidates: [Address] = []
    package var isForced = false
    /// Asked as well, and not promoted.
    var others: [Address] = []
    /// What the primary gives away: the lead of its epoch, at a position that the target has.
    struct Handover {
        var position: String
        var epoch: UInt64
    }
    var drained: Handover?
    package var timeoutSeconds: Double = 60
    /// For a person who watches.
    package var say: @Sendable (String) -> Void = { _ in }

    package init(target: Address) {
        self.target = target
    }

    /// A replica that takes part.
    private struct Voter {
        var seen: GroupClient.Seen
        /// As it was when it had promised.
        var status: NodeStatus
        var position: PositionStatus
        var isWhole: Bool
        var name: String { seen.status.node }
    }

    package func run() async throws -> Outcome { try await run(takesOver: true) }

    /// - Parameter takesOver: Whether the lead may be taken from one that gave it to the target and was fenced, with the few
    ///   promises that are enough for that.
    private func run(takesOver: Bool) async throws -> Outcome {
        let first = try await GroupClient.status(of: target, seconds: min(10, timeoutSeconds))
        if first.role == "primary" {
            guard candidates.isEmpty || candidates.contains(target) else {
                throw NodeError(
                    .failed,
                    "\(first.node) leads and can be asked; walctl switchover \(target) to one of the candidates loses "
                        + "nothing")
            }
            return try await finish(first)
        }
        guard let history = first.history else {
            throw NodeError(.failed, "\(first.node) belongs to no history yet; it has nothing to lead with")
        }
        guard first.role != "fenced" || !(candidates.isEmpty || candidates.contains(target)) else {
            return try await leadOn(first, history)
        }
        var addresses = [target] + candidates
        for address in others + first.groupAddresses where !addresses.contains(address) { addresses.append(address) }
        var (seen, missing) = await GroupClient.explore(from: addresses, history: history)
        seen = Self.unique(seen)
        // One that came while this node was away is known to others only. What was heard in an epoch that is over may name
        // who has led since as a replica.
        let statuses = [first] + seen.map(\.status)
        let newest = statuses.map(\.epoch).max()
        var members: [NodeStatus.Group.Member] = []
        for member in statuses.filter({ $0.epoch == newest }).flatMap({ $0.group?.members ?? [] })
        where !members.contains(where: { $0.name == member.name }) { members.append(member) }
        let voters = Self.voters(seen, Set(members.map(\.name)))
        let leaders = seen.filter { $0.status.role == "primary" }
        // An earlier attempt has come to the fence and no further.
        let giver = seen.first {
            takesOver && (candidates.isEmpty || candidates == [target])
                && Self.hasGiven($0.status, to: first, begun: newest ?? 0)
        }
        let handover = drained ?? giver.map { Handover(position: $0.status.position.text, epoch: $0.status.epoch) }
        let isPlanned = handover != nil
        if let leader = leaders.max(by: { $0.status.epoch < $1.status.epoch }),
            leader.status.epoch > (first.group?.promisedEpoch ?? first.epoch)
        {
            throw NodeError(
                .failed,
                "\(leader.status.node) at \(leader.address) was promoted at epoch \(leader.status.epoch) already")
        }
        let allowed = candidates.isEmpty ? [target] : candidates
        let absent = candidates.filter { wanted in
            !voters.contains { $0.address == wanted && $0.status.role == "replica" }
        }
        guard absent.isEmpty else {
            throw NodeError(
                .failed, "\(absent.map(\.description).joined(separator: ", ")): no replica of this group answers there")
        }
        // Everybody counts who may have acknowledged something: who is not there has a name, if not an address.
        let names = Set(members.map(\.name)).union(voters.map(\.status.node))
        let needed = Self.needed(names, statuses, isPlanned: isPlanned).promises
        var warnings: [String] = []
        let able = voters.filter { Self.isWhole($0.status) }
        if able.count < needed {
            let lacking = names.subtracting(able.map(\.status.node)).sorted().map { name in
                let address = members.first { $0.name == name }?.address
                let why =
                    address == nil
                    ? ": it listens nowhere, so it cannot be asked; give it --listen"
                    : missing.first { $0.address.description == address }.map { ": \($0.why)" } ?? ""
                return "\(name)\(why)"
            }
            let text =
                "\(able.count) of \(names.count) replicas can promise and \(needed) must, for what was acknowledged to be safe"
                + (lacking.isEmpty ? "" : "; missing: \(lacking.joined(separator: "; "))")
            guard isForced else {
                throw NodeError(
                    .notMet, "\(text). Bring one back, or give --force: what only they have is then lost to the group")
            }
            warnings.append(text)
        }
        try check(
            able, allowed, begun: newest ?? 0, fenced: seen.filter { $0.status.role == "fenced" },
            leaders: isPlanned ? [] : leaders, &warnings)
        let epoch = 1 + (seen.map(\.status.knownEpoch).max() ?? first.epoch)
        for leader in leaders + (giver.map { [$0] } ?? []) {
            say("fencing \(leader.status.node) at \(leader.address)")
            do {
                var fence = Self.request(.fence, epoch, history)
                fence.position = handover?.position
                if isPlanned {
                    fence.members = [NodeStatus.Group.Member(name: first.node, address: first.group?.address)]
                }
                _ = try await GroupClient.ask(leader.address, fence, seconds: 10)
            } catch {
                guard !isPlanned else { throw error }
                warnings.append("\(leader.status.node) is not fenced: \(error)")
            }
        }
        let known = names.sorted().map { name in
            let own = voters.first { $0.status.node == name }?.status.group?.address
            return NodeStatus.Group.Member(name: name, address: own ?? members.first { $0.name == name }?.address)
        }
        let (promised, silent) = await promises(of: voters, epoch, history, known, handover: handover?.epoch)
        missing += silent
        let whole = promised.filter(\.isWhole)
        // Until they promised, those who did may have heard that the group has become another; not since.
        let late = Self.needed(names, promised.map(\.status), isPlanned: isPlanned)
        let must = max(needed, late.promises)
        guard whole.count >= must || isForced else {
            // Somebody may have led since. Then it is for all who may know.
            if giver != nil { return try await run(takesOver: false) }
            throw NodeError(
                .notMet,
                "\(whole.count) of \(late.of) replicas have promised epoch \(epoch) and \(must) must\(Self.reasons(silent)). Run it again, or "
                    + "give --force: what only the others have is then lost to the group")
        }
        let fit = whole.filter { allowed.contains($0.seen.address) && $0.status.role == "replica" }
        guard let best = Self.furthest(fit, preferring: target) else {
            throw NodeError(
                .notMet, "no candidate has promised epoch \(epoch) and is whole\(Self.reasons(silent)). Run it again")
        }
        if let ahead = Self.furthest(whole, preferring: best.seen.address), Self.isBefore(best, ahead), !isForced {
            throw NodeError(
                .notMet,
                "\(ahead.name) has become the furthest, at \(ahead.position.epoch):\(ahead.position.seq); promote that one"
            )
        }
        say("promoting \(best.name) at \(best.seen.address)")
        _ = try await GroupClient.ask(
            best.seen.address, Self.request(.promote, epoch, history), seconds: timeoutSeconds)
        let promoted = try await waitUntilPrimary(best.seen.address, epoch)
        var outcome = try await tell(promoted, at: best.seen.address, others: promised.map(\.seen) + leaders)
        outcome.missing += missing.map { "\($0.address): \($0.why)" }
        outcome.warnings = warnings
        return outcome
    }

    /// Nobody who has promised `epoch` hears of a lower one from now on.
    private func promises(
        of voters: [GroupClient.Seen], _ epoch: UInt64, _ history: String, _ known: [NodeStatus.Group.Member],
        handover: UInt64? = nil
    ) async -> (promised: [Voter], missing: [GroupClient.Missing]) {
        var promised: [Voter] = []
        var missing: [GroupClient.Missing] = []
        for voter in voters {
            do {
                var promise = Self.request(.promise, epoch, history)
                promise.members = known
                promise.handover = handover
                let answer = try await GroupClient.ask(voter.address, promise, seconds: timeoutSeconds)
                guard let position = answer.position else { throw NodeError(.failed, "no position") }
                promised.append(
                    Voter(
                        seen: voter, status: answer.status ?? voter.status, position: position,
                        isWhole: answer.isWhole ?? false))
                say("\(voter.status.node) promises epoch \(epoch); it is at \(position.epoch):\(position.seq)")
            } catch {
                missing.append(GroupClient.Missing(address: voter.address, why: NodeError(error)))
            }
        }
        return (promised, missing)
    }

    /// Why each of them has not promised, for the end of a sentence.
    private static func reasons(_ missing: [GroupClient.Missing]) -> String {
        missing.map { "; \($0.address): \($0.why)" }.joined()
    }

    /// A primary that was drained for `new`, and fenced so that this one should lead: what it has is all that there is, and
    /// nobody else was given the lead.
    private static func hasGiven(_ old: NodeStatus, to new: NodeStatus, begun: UInt64) -> Bool {
        old.role == "fenced" && new.role == "replica" && old.group?.primary == nil
            && old.group?.successor == new.node && old.epoch >= begun && old.position.text == new.position.text
    }

    /// A fenced primary leads on with what it has. Where a later epoch may have begun, what was acknowledged in that is lost to
    /// the group; so none of its successors may be there to be asked instead.
    ///
    /// As many as any epoch needs must promise that they hear of none but the next. Whoever has acknowledged something in one
    /// that was begun meanwhile is among so many, and has a later position; and who leads it is no replica any more. Where
    /// the lead was given to one node only, it is that one who must promise.
    private func leadOn(_ first: NodeStatus, _ history: String) async throws -> Outcome {
        let fenced =
            first.group?.primary == nil
            ? "\(first.node) is fenced: a promotion to epoch \(first.knownEpoch) was begun"
            : "\(first.node) is fenced: epoch \(first.knownEpoch) was promoted elsewhere"
        let (all, absent) = await GroupClient.explore(from: first.groupAddresses + candidates, history: history)
        var missing = absent
        let seen = Self.unique(all.filter { $0.status.node != first.node })
        let heirs = seen.filter { $0.status.role == "primary" || $0.status.position.epoch > first.position.epoch }
        if let heir = heirs.max(by: Self.isBehind) {
            let remedy =
                heir.status.role == "primary"
                ? "walctl rejoin \(target) makes it a replica of that"
                : "walctl promote \(heir.address), which has more of the history"
            throw NodeError(.failed, "\(fenced), and \(heir.status.node) at \(heir.address) answers; \(remedy)")
        }
        let members = first.group?.members ?? []
        let voters = Self.voters(seen, Set(members.map(\.name)))
        let names = Set(members.map(\.name)).union(voters.map(\.status.node)).subtracting([first.node])
        let quorum = Quorum(replicas: names.count, needed: Int(first.group?.syncReplicas ?? 0))
        func refusal(_ count: Int, _ what: String, _ why: [GroupClient.Missing] = []) -> NodeError {
            NodeError(
                .notMet,
                "\(fenced). \(count) of \(quorum.replicas) replicas \(what) and \(quorum.promises) must, to be sure that nobody "
                    + "has led since\(Self.reasons(why)). Bring one back, or walctl rejoin \(target) to who leads, or give --force: what was "
                    + "written elsewhere since is then lost to the group")
        }
        let able = voters.filter { Self.isWhole($0.status) }
        // The one that was given the lead promises first that it will not take it.
        let successor = able.contains { $0.status.node == first.group?.successor } ? first.group?.successor : nil
        guard able.count >= quorum.promises || successor != nil || isForced else {
            throw refusal(able.count, "can promise")
        }
        let known = members.filter { $0.name != first.node }
        var epoch = max(first.knownEpoch, seen.map(\.status.knownEpoch).max() ?? 0)
        func ask(handover: UInt64?) async throws -> (whole: [String], silent: [GroupClient.Missing]) {
            epoch += 1
            let (promised, silent) = await promises(of: voters, epoch, history, known, handover: handover)
            if let heir = promised.first(where: { $0.position.epoch > first.position.epoch }) {
                throw NodeError(
                    .failed,
                    "\(fenced), and \(heir.name) at \(heir.seen.address) has more of the history; walctl promote that one"
                )
            }
            return (promised.filter(\.isWhole).map(\.name), silent)
        }
        var isSafe = false
        if let successor {
            let whole = try await ask(handover: first.epoch).whole
            isSafe = whole.contains(successor) && whole.count >= quorum.plannedPromises
        }
        if !isSafe {
            let (whole, silent) = try await ask(handover: nil)
            isSafe = whole.count >= quorum.promises
            missing += silent
            guard isSafe || isForced else { throw refusal(whole.count, "have promised epoch \(epoch)", silent) }
        }
        // Not before: a primary that hears of the epoch steps down for it.
        var claim = Self.request(.fence, epoch, history)
        claim.force = isForced
        _ = try await GroupClient.ask(target, claim, seconds: timeoutSeconds)
        say("\(first.node) leads on")
        _ = try await GroupClient.ask(target, Self.request(.promote, epoch, history), seconds: timeoutSeconds)
        let promoted = try await waitUntilPrimary(target, epoch)
        var outcome = try await tell(promoted, at: target, others: seen)
        outcome.missing += missing.map { "\($0.address): \($0.why)" }
        if !isSafe { outcome.warnings = ["\(fenced). What was written there since is lost to the group"] }
        return outcome
    }

    /// How many must promise, and of how many: these replicas, and all that the newest of `statuses` name.
    ///
    /// Who has not heard of a higher number of acknowledgements yet knows a lower one. That is safe where many promises are
    /// needed, and where few are it is the highest: they must meet the fewest that any promotion is content with.
    private static func needed(
        _ names: Set<String>, _ statuses: [NodeStatus], isPlanned: Bool
    ) -> (promises: Int, of: Int) {
        let newest = statuses.filter { $0.epoch == statuses.map(\.epoch).max() }
        let all = names.union(newest.flatMap { $0.group?.members.map(\.name) ?? [] })
        let acknowledgements = newest.compactMap { $0.group?.syncReplicas }
        let number = Int((isPlanned ? acknowledgements.max() : acknowledgements.min()) ?? 0)
        let quorum = Quorum(replicas: all.count, needed: number)
        return (isPlanned ? quorum.plannedPromises : quorum.promises, all.count)
    }

    /// What is known before anything has changed must not stand against it.
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

    /// A promotion that was interrupted after the epoch had begun.
    private func finish(_ first: NodeStatus) async throws -> Outcome {
        say("\(first.node) is the primary of epoch \(first.epoch) already")
        var addresses: [Address] = []
        for address in first.groupAddresses + candidates where address != target && !addresses.contains(address) {
            addresses.append(address)
        }
        let (seen, missing) = await GroupClient.explore(from: addresses, history: first.history ?? "")
        if let later = seen.max(by: { $0.status.knownEpoch < $1.status.knownEpoch }),
            later.status.knownEpoch > first.epoch
        {
            throw NodeError(
                .failed,
                "\(first.node) is deposed: \(later.status.node) has promised epoch \(later.status.knownEpoch)"
                    + (later.status.group?.primary.map { ", and the primary is \($0)" } ?? ""))
        }
        var outcome = try await tell(first, at: target, others: Self.unique(seen))
        outcome.missing += missing.map { "\($0.address): \($0.why)" }
        return outcome
    }

    private func waitUntilPrimary(_ address: Address, _ epoch: UInt64) async throws -> NodeStatus {
        let deadline = Clock.monotonicNanoseconds() + UInt64(timeoutSeconds * 1e9)
        while true {
            if let status = try? await GroupClient.ask(address, ControlRequest(.status), seconds: 5).status,
                status.role == "primary", status.epoch >= epoch
            {
                return status
            }
            guard Clock.monotonicNanoseconds() < deadline else {
                throw NodeError(
                    .notMet, "\(address) was promoted and does not lead yet; walctl status \(address) says why")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Who is told follows at once; who is not follows when the primary has found it.
    private func tell(
        _ primary: NodeStatus, at address: Address, others: [GroupClient.Seen]
    ) async throws -> Outcome {
        var outcome = Outcome(
            node: primary.node, address: primary.group?.address ?? address.description, epoch: primary.epoch,
            position: primary.position.text, followers: [], missing: [], warnings: [])
        for other in others where other.status.node != primary.node {
            var request = Self.request(.follow, primary.epoch, primary.history)
            request.address = outcome.address
            if other.status.role != "replica" { request.verb = .fence }
            do {
                _ = try await GroupClient.ask(other.address, request, seconds: 10)
                if request.verb == .follow { outcome.followers.append(other.status.node) }
            } catch {
                outcome.missing.append("\(other.status.node): \(error)")
            }
        }
        return outcome
    }

    private static func request(_ verb: ControlRequest.Verb, _ epoch: UInt64, _ history: String?) -> ControlRequest {
        var request = ControlRequest(verb)
        request.epoch = epoch
        request.history = history
        return request
    }

    /// One node may be known by several addresses.
    private static func unique(_ seen: [GroupClient.Seen]) -> [GroupClient.Seen] {
        var names: Set<String> = []
        return seen.filter { names.insert("\($0.status.role) \($0.status.node)").inserted }
    }

    /// Who can promise: replicas, and of fenced primaries those that the group counts as replicas.
    private static func voters(_ seen: [GroupClient.Seen], _ members: Set<String>) -> [GroupClient.Seen] {
        seen.filter { seen in
            seen.status.role == "replica" || (seen.status.role == "fenced" && members.contains(seen.status.node))
        }
    }

    private static func isWhole(_ status: NodeStatus) -> Bool {
        guard status.role == "replica" else { return status.position.seq > 0 }
        return ["streaming", "connecting", "stalled"].contains(status.state) && status.appliedSeq ?? 0 > 0
    }

    /// Where its log ends.
    private static func end(_ status: NodeStatus) -> UInt64 {
        status.role == "replica" ? status.durableSeq ?? 0 : status.position.seq
    }

    private static func isBehind(_ a: GroupClient.Seen, _ b: GroupClient.Seen) -> Bool {
        (a.status.position.epoch, end(a.status)) < (b.status.position.epoch, end(b.status))
    }

    /// The later epoch is the newer past, however long the other is.
    private static func isBefore(_ a: Voter, _ b: Voter) -> Bool {
        (a.position.epoch, a.position.seq) < (b.position.epoch, b.position.seq)
    }

    private static func furthest(_ voters: [Voter], preferring address: Address) -> Voter? {
        guard let best = voters.max(by: isBefore) else { return nil }
        return voters.first { $0.seen.address == address && !isBefore($0, best) } ?? best
    }
}
