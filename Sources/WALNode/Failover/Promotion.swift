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
    /// For what an earlier attempt has begun: not where somebody else leads by now.
    var mustTakeOver = false
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
        let sight = try await look(from: first, history, takesOver: takesOver)
        var (needed, warnings) = try check(sight)
        var untold: [String] = []
        let epoch = sight.nextEpoch
        if let given = try await fence(sight, epoch, &untold) { needed = needed.hearing([given]) }
        let (promised, silent) = await promises(
            of: sight.assembly.voters, epoch, history, sight.assembly.members, handover: sight.handover?.epoch)
        let whole = promised.filter(\.isWhole)
        // Until they promised, those who did may have heard that the group has become another; not since.
        let late = needed.hearing(promised.map(\.status))
        guard late.count(whole.map(\.seen)) >= late.promises || isForced else {
            // Somebody may have led since. Then it is for all who may know.
            if drained == nil, sight.giver != nil { return try await run(takesOver: false) }
            throw NodeError(
                .notMet,
                "\(late.lack(whole.map(\.seen), "have promised epoch \(epoch)"))\(Self.reasons(silent)). Run it again, or give "
                    + "--force: what only the others have is then lost to the group")
        }
        let best = try furthest(whole, among: sight.candidates, epoch, silent)
        say("promoting \(best.name) at \(best.seen.address)")
        var lead = Self.request(.promote, epoch, history)
        lead.syncReplicas = Assembly.syncReplicas([first] + sight.seen.map(\.status) + promised.map(\.status))
        _ = try await GroupClient.ask(best.seen.address, lead, seconds: timeoutSeconds)
        let promoted = try await waitUntilPrimary(best.seen.address, epoch)
        var outcome = try await tell(
            promoted, at: best.seen.address, others: promised.map(\.seen) + sight.leaders)
        outcome.missing += untold + (sight.missing + silent).map { "\($0.address): \($0.why)" }
        outcome.warnings = warnings
        return outcome
    }

    /// Of those that have promised, the one that is to lead.
    private func furthest(
        _ whole: [Voter], among candidates: [Address], _ epoch: UInt64, _ silent: [GroupClient.Missing]
    ) throws -> Voter {
        let fit = whole.filter { candidates.contains($0.seen.address) && $0.status.role == "replica" }
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
        return best
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
        let leading = try await waitUntilPrimary(target, first.epoch)
        var outcome = try await tell(leading, at: target, others: Self.unique(seen))
        outcome.missing += missing.map { "\($0.address): \($0.why)" }
        return outcome
    }

    func waitUntilPrimary(_ address: Address, _ epoch: UInt64) async throws -> NodeStatus {
        let deadline = Clock.monotonicNanoseconds() + UInt64(timeoutSeconds * 1e9)
        while true {
            if let status = try? await GroupClient.ask(address, ControlRequest(.status), seconds: 5).status,
                status.leads, status.epoch >= epoch
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
