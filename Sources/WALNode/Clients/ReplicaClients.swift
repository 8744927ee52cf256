import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// What clients read on a replica, and where they are sent for the rest.
extension ReplicaNode: TreeService {
    /// Where writes go; nil while nobody says who leads.
    var primaryAddress: Address? { host.leader ?? (link == nil ? nil : upstream.current) }

    /// An answer of this age is marked as stale: the primary would have been heard of since.
    static let staleSeconds = Double(SenderMachine.silenceNanoseconds) / 1e9

    private func redirecting(_ code: NodeError.Code, _ text: String) -> NodeError {
        var error = NodeError(code, text)
        error.redirect = primaryAddress?.description
        return error
    }

    func requireSeen(_ position: String) throws { try requireWritable() }

    func requireWritable() throws {
        guard let primaryAddress else {
            throw NodeError(.noPrimary, "\(nodeFile.node) is a replica and knows of no primary")
        }
        throw redirecting(.notMet, "\(nodeFile.node) is a replica; writes go to the primary at \(primaryAddress)")
    }

    func write(_ write: TreeWrite, seconds: Double) throws -> Position {
        try requireWritable()
        return .start
    }

    func waitDurable(_ position: Position, count: Int, seconds: Double) throws { try requireWritable() }
    func position(of request: RequestID) throws -> Position? { try catalog.read { try $0.position(of: request) } }

    func uploads() throws -> Directory {
        try requireWritable()
        return folder.staging
    }

    // MARK: Freshness

    func admit(_ look: ReadRequest, seconds: Double) throws {
        if look.primary == true {
            guard primaryAddress != nil else {
                throw NodeError(.noPrimary, "\(nodeFile.node) is a replica and knows of no primary")
            }
            throw redirecting(.notMet, "\(nodeFile.node) is a replica")
        }
        let deadline = Clock.monotonicNanoseconds() + UInt64(seconds * 1e9)
        guard snapshot.applied.seq > 0 else {
            throw redirecting(
                .notMet, "\(nodeFile.node) holds no whole tree of this history yet; its sync is not finished")
        }
        if let after = look.after { try wait(for: after, seconds: seconds) }
        let limits = [look.maxStaleSeconds, settings.maxStaleSeconds].compactMap { $0 }
        if let limit = limits.min() { try requireCurrent(within: limit, deadline) }
    }

    private func wait(for text: String, seconds: Double) throws {
        let wanted: PositionText
        do { wanted = try PositionText(text) } catch { throw NodeError(.usage, "\(error)") }
        try requireHistory(wanted, text)
        let isApplied = try waitFor { [self] in await waitApplied(wanted, seconds: seconds) }
        // Only now the log is sure to tell of that segment.
        try requireHistory(wanted, text)
        guard isApplied else {
            throw redirecting(
                .notMet,
                "\(nodeFile.node) has applied \(snapshot.applied.short), not yet \(wanted.epoch):\(wanted.seq), after "
                    + PrimaryNode.text(seconds: seconds))
        }
    }

    /// Asks the primary before it refuses: what it said last may be older than what a question brings.
    private func requireCurrent(within seconds: Double, _ deadline: UInt64) throws {
        let begin = Clock.monotonicNanoseconds()
        let span = UInt64(min(max(0, seconds), 1e9) * 1e9)
        let oldest = begin > span ? begin - span : 0
        func isCurrent(_ state: ReplicaState) -> Bool { (state.currentAsOf ?? 0) >= max(oldest, 1) }
        if isCurrent(snapshot) { return }
        if let link = snapshot.link {
            link.askForHeartbeat()
            let end = min(deadline, begin + UInt64(SenderMachine.heartbeatNanoseconds) * 2)
            if waitUntil(end, { state in isCurrent(state) || state.link !== link }), isCurrent(snapshot) { return }
        }
        let known = snapshot.staleness.map { "was current \(Self.rounded($0)) s ago" } ?? "is not known to be current"
        throw redirecting(.notMet, "\(nodeFile.node) \(known), where \(Self.rounded(seconds)) s are the limit")
    }

    private static func rounded(_ seconds: Double) -> String { "\((seconds * 1000).rounded() / 1000)" }

    /// After the read. Publishing begins after the catalog's commit, so no more than this was seen.
    func freshness(_ look: ReadRequest, seconds: Double) throws -> Freshness {
        let position = try catalog.state().position
        let state = snapshot
        let staleness = state.staleness
        return Freshness(
            node: nodeFile.node, role: nodeFile.role.rawValue, position: PositionStatus(position),
            staleSeconds: staleness,
            isStale: state.link == nil || !state.isLinkWelcomed || staleness ?? .infinity > Self.staleSeconds)
    }
}

extension ReplicaState {
    /// Heartbeats that tell of positions which are not applied yet.
    private static let maxBeats = 8

    /// Seconds since this replica knew that it had all that its primary had logged.
    var staleness: Double? {
        currentAsOf.map { Double(Clock.monotonicNanoseconds().elapsed(since: $0)) / 1e9 }
    }

    mutating func note(_ beat: Heartbeat) {
        guard beat.echo > 0 else { return }
        lastEcho = UInt64(beat.echo)
        beats.append((UInt64(beat.echo), beat.position.seq))
        settleBeats()
        // The oldest is the first that can be met; between the others the newest tells most.
        if beats.count > Self.maxBeats { beats.remove(at: beats.count - 2) }
    }

    /// Called when more is applied, too.
    mutating func settleBeats() {
        guard !needsSync, session == nil else { return }
        for beat in beats where beat.seq <= applied.seq { currentAsOf = max(currentAsOf ?? 0, beat.clock) }
        beats.removeAll { $0.seq <= applied.seq }
    }
}
