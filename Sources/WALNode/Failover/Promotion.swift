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
/// Who must promise, and how many of them, is what ``Assembly`` says. A fenced primary can lead on: what it has is all that was
/// acknowledged in its epoch, and enough promises say that no later one has acknowledged anything.
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
        let assembly = Assembly(first, seen)
        let voters = assembly.voters
        let leaders = seen.filter { $0.status.role == "primary" }
        // Or an earlier attempt has come to the fence and no further.
        let giver = seen.first { old in
            guard let drained else {
                return takesOver && (candidates.isEmpty || candidates == [target])
                    && Self.hasGiven(old.status, to: first, begun: assembly.begun)
            }
            return old.status.role == "primary" && old.status.epoch == drained.epoch
        }
        // What is enough for a gift is not enough where the giver cannot be fenced: it may go on.
        guard drained == nil || giver != nil else {
            throw NodeError(
                .notMet,
                "the primary that was drained does not answer any more; nothing was changed, run it again, or walctl promote "
                    + "\(target)")
        }
        let handover = giver.map { drained ?? Handover(position: $0.status.position.text, epoch: $0.status.epoch) }
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
        guard !assembly.members.isEmpty || isForced else {
            throw NodeError(
                .notMet,
                "no primary has told \(first.node) yet who belongs to the group, so others may have more. Promote one that was told, "
                    + "or give --force: what only others have is then lost to the group")
        }
        var needed = assembly.needed(isPlanned: isPlanned)
        var warnings: [String] = []
        let able = voters.filter { Self.isWhole($0.status) }
        if needed.count(able) < needed.promises {
            let text = needed.lack(able, "can promise") + assembly.lacking(able, missing)
            guard isForced else {
                throw NodeError(
                    .notMet, "\(text). Bring one back, or give --force: what only they have is then lost to the group")
            }
            warnings.append(text)
        }
        try check(
            able, allowed, begun: assembly.begun, fenced: seen.filter { $0.status.role == "fenced" },
            leaders: isPlanned ? [] : leaders, &warnings)
        let epoch = 1 + (seen.map(\.status.knownEpoch).max() ?? first.epoch)
        if let giver, let handover {
            say("fencing \(giver.status.node) at \(giver.address)")
            var fence = Self.request(.fence, epoch, history)
            fence.position = handover.position
            fence.members = [NodeStatus.Group.Member(name: first.node, address: first.group?.address)]
            var given = giver.status
            given.group?.members = try await GroupClient.ask(giver.address, fence, seconds: 10).members ?? []
            needed = needed.hearing([given])
        }
        for leader in leaders where leader.status.node != giver?.status.node {
            say("fencing \(leader.status.node) at \(leader.address)")
            do {
                _ = try await GroupClient.ask(leader.address, Self.request(.fence, epoch, history), seconds: 10)
            } catch {
                warnings.append("\(leader.status.node) is not fenced: \(error)")
            }
        }
        let (promised, silent) = await promises(
            of: voters, epoch, history, assembly.members, handover: handover?.epoch)
        missing += silent
        let whole = promised.filter(\.isWhole)
        // Until they promised, those who did may have heard that the group has become another; not since.
        let late = needed.hearing(promised.map(\.status))
        guard late.count(whole.map(\.seen)) >= late.promises || isForced else {
            // Somebody may have led since. Then it is for all who may know.
            if drained == nil, giver != nil { return try await run(takesOver: false) }
            throw NodeError(
                .notMet,
                "\(late.lack(whole.map(\.seen), "have promised epoch \(epoch)"))\(Self.reasons(silent)). Run it again, or give "
                    + "--force: what only the others have is then lost to the group")
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
        var lead = Self.request(.promote, epoch, history)
        lead.syncReplicas = Assembly.syncReplicas([first] + seen.map(\.status) + promised.map(\.status))
        _ = try await GroupClient.ask(best.seen.address, lead, seconds: timeoutSeconds)
        let promoted = try await waitUntilPrimary(best.seen.address, epoch)
        var outcome = try await tell(promoted, at: best.seen.address, others: promised.map(\.seen) + leaders)
        outcome.missing += missing.map { "\($0.address): \($0.why)" }
        outcome.warnings = warnings
        return outcome
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

    func waitUntilPrimary(_ address: Address, _ epoch: UInt64) async throws -> NodeStatus {
        let deadline = Clock.monotonicNanoseconds() + UInt64(timeoutSeconds * 1e9)
        while true {
            if let status = try? await GroupClient.ask(address, ControlRequest(.status), seconds: 5).status,
                status.role == "primary", status.epoch >= epoch, status.state != "waiting"
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
    func tell(
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

    static func request(_ verb: ControlRequest.Verb, _ epoch: UInt64, _ history: String?) -> ControlRequest {
        var request = ControlRequest(verb)
        request.epoch = epoch
        request.history = history
        return request
    }
}
