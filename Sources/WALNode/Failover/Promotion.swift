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
/// How many must promise is what ``Quorum`` says.
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
    /// The primary gives the lead away at this position, which the target has.
    var drained: String?
    private var isPlanned: Bool { drained != nil }
    package var timeoutSeconds: Double = 60
    /// For a person who watches.
    package var say: @Sendable (String) -> Void = { _ in }

    package init(target: Address) {
        self.target = target
    }

    /// A replica that takes part.
    private struct Voter {
        var seen: GroupClient.Seen
        var position: PositionStatus
        var isWhole: Bool
        var name: String { seen.status.node }
    }

    package func run() async throws -> Outcome {
        let first = try await GroupClient.status(of: target)
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
        guard first.role != "fenced" else { return try await leadOn(first, history) }
        var addresses = [target] + candidates
        for address in first.groupAddresses where !addresses.contains(address) { addresses.append(address) }
        var (seen, missing) = await GroupClient.explore(from: addresses, history: history)
        seen = Self.unique(seen)
        // One that came while this node was away is known to others only. What was heard in an epoch that is over may name
        // who has led since as a replica.
        let statuses = [first] + seen.map(\.status)
        let newest = statuses.map(\.epoch).max()
        var members: [NodeStatus.Group.Member] = []
        for member in statuses.filter({ $0.epoch == newest }).flatMap({ $0.group?.members ?? [] })
        where !members.contains(where: { $0.name == member.name }) { members.append(member) }
        let voters = seen.filter { $0.status.role == "replica" }
        let leaders = seen.filter { $0.status.role == "primary" }
        if let leader = leaders.max(by: { $0.status.epoch < $1.status.epoch }),
            leader.status.epoch > (first.group?.promisedEpoch ?? first.epoch)
        {
            throw NodeError(
                .failed,
                "\(leader.status.node) at \(leader.address) was promoted at epoch \(leader.status.epoch) already")
        }
        let allowed = candidates.isEmpty ? [target] : candidates
        guard candidates.isEmpty || candidates.allSatisfy({ wanted in voters.contains { $0.address == wanted } }) else {
            let absent = candidates.filter { wanted in !voters.contains { $0.address == wanted } }
            throw NodeError(
                .failed, "\(absent.map(\.description).joined(separator: ", ")): no replica of this group answers there")
        }
        // Everybody counts who may have acknowledged something: who is not there has a name, if not an address.
        let names = Set(members.map(\.name)).union(voters.map(\.status.node))
        let count = names.count
        // Who has not heard of a higher number yet knows a lower one, which is safe.
        let quorum = Quorum(
            replicas: count,
            needed: Int(statuses.filter { $0.epoch == newest }.compactMap { $0.group?.syncReplicas }.min() ?? 0))
        let needed = isPlanned ? quorum.plannedPromises : quorum.promises
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
                "\(able.count) of \(count) replicas can promise and \(needed) must, for what was acknowledged to be safe"
                + (lacking.isEmpty ? "" : "; missing: \(lacking.joined(separator: "; "))")
            guard isForced else {
                throw NodeError(
                    .notMet, "\(text). Bring one back, or give --force: what only they have is then lost to the group")
            }
            warnings.append(text)
        }
        try check(able, allowed, begun: newest ?? 0, &warnings)
        let epoch = 1 + (seen.map(\.status.knownEpoch).max() ?? first.epoch)
        for leader in leaders {
            say("fencing \(leader.status.node) at \(leader.address)")
            do {
                var fence = Self.request(.fence, epoch, history)
                fence.position = drained
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
        var promised: [Voter] = []
        var heard: [NodeStatus] = []
        for voter in voters {
            do {
                var promise = Self.request(.promise, epoch, history)
                promise.members = known
                let answer = try await GroupClient.ask(voter.address, promise, seconds: timeoutSeconds)
                guard let position = answer.position else { throw NodeError(.failed, "no position") }
                promised.append(Voter(seen: voter, position: position, isWhole: answer.isWhole ?? false))
                heard.append(answer.status ?? voter.status)
                say("\(voter.status.node) promises epoch \(epoch); it is at \(position.epoch):\(position.seq)")
            } catch {
                missing.append(GroupClient.Missing(address: voter.address, why: NodeError(error)))
            }
        }
        let whole = promised.filter(\.isWhole)
        // Until they promised, those who did may have heard that the group has become another; not since.
        let late = Self.quorum(names, heard)
        let must = max(needed, isPlanned ? late.plannedPromises : late.promises)
        guard whole.count >= must || isForced else {
            throw NodeError(
                .notMet,
                "\(whole.count) of \(late.replicas) replicas have promised epoch \(epoch) and \(must) must; run it again, or give "
                    + "--force: what only the others have is then lost to the group")
        }
        guard let best = Self.furthest(whole.filter { allowed.contains($0.seen.address) }, preferring: target) else {
            throw NodeError(.failed, "no candidate has promised epoch \(epoch) and is whole; run it again")
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

    /// A fenced primary leads on with what it has. What its successors have acknowledged is lost to the group, so none of them
    /// may be there to be asked instead.
    private func leadOn(_ first: NodeStatus, _ history: String) async throws -> Outcome {
        let fenced = "\(first.node) is fenced: epoch \(first.knownEpoch) was promoted elsewhere"
        let (all, missing) = await GroupClient.explore(from: first.groupAddresses + candidates, history: history)
        let seen = Self.unique(all.filter { $0.status.node != first.node })
        let heirs = seen.filter { $0.status.role == "primary" || $0.status.position.epoch > first.position.epoch }
        if let heir = heirs.max(by: Self.isBehind) {
            let remedy =
                heir.status.role == "primary"
                ? "walctl rejoin \(target) makes it a replica of that"
                : "walctl promote \(heir.address), which has more of the history"
            throw NodeError(.failed, "\(fenced), and \(heir.status.node) at \(heir.address) answers; \(remedy)")
        }
        let text = "\(fenced). What was written there since is lost to the group"
        guard isForced else {
            throw NodeError(
                .notMet,
                "\(text) if this node leads on: bring its successor back, and walctl rejoin \(target), or give --force")
        }
        let epoch = 1 + max(first.knownEpoch, seen.map(\.status.knownEpoch).max() ?? 0)
        var request = Self.request(.promote, epoch, history)
        request.force = true
        say("\(first.node) leads on")
        _ = try await GroupClient.ask(target, request, seconds: timeoutSeconds)
        let promoted = try await waitUntilPrimary(target, epoch)
        var outcome = try await tell(promoted, at: target, others: seen)
        outcome.missing += missing.map { "\($0.address): \($0.why)" }
        outcome.warnings = [text]
        return outcome
    }

    /// Of these replicas, and of all that the newest of `statuses` name.
    private static func quorum(_ names: Set<String>, _ statuses: [NodeStatus]) -> Quorum {
        let newest = statuses.filter { $0.epoch == statuses.map(\.epoch).max() }
        let all = names.union(newest.flatMap { $0.group?.members.map(\.name) ?? [] })
        return Quorum(replicas: all.count, needed: Int(newest.compactMap { $0.group?.syncReplicas }.min() ?? 0))
    }

    /// What is known before anything has changed must not stand against it.
    private func check(
        _ able: [GroupClient.Seen], _ allowed: [Address], begun: UInt64, _ warnings: inout [String]
    ) throws {
        guard let best = able.filter({ allowed.contains($0.address) }).max(by: Self.isBehind) else {
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
            guard isForced else {
                throw NodeError(.notMet, "\(text). Let it catch up with that, or give --force to lose what it lacks")
            }
            warnings.append(text)
        }
        guard let ahead = able.max(by: Self.isBehind), Self.isBehind(best, ahead) else { return }
        let lost = (ahead.status.durableSeq ?? 0) - min(best.status.durableSeq ?? 0, ahead.status.durableSeq ?? 0)
        let text =
            "\(ahead.status.node) at \(ahead.address) is \(lost) segments ahead of \(best.status.node): it has "
            + "\(ahead.status.durableSeq ?? 0), this one \(best.status.durableSeq ?? 0)"
        guard isForced else {
            throw NodeError(.notMet, "\(text). Promote that one, or give --force to lose them")
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

    private static func isWhole(_ status: NodeStatus) -> Bool {
        ["streaming", "connecting", "stalled"].contains(status.state) && status.appliedSeq ?? 0 > 0
    }

    private static func isBehind(_ a: GroupClient.Seen, _ b: GroupClient.Seen) -> Bool {
        (a.status.position.epoch, a.status.durableSeq ?? 0) < (b.status.position.epoch, b.status.durableSeq ?? 0)
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
