import Logging
import Synchronization
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// What replicas are served from: the log, the catalog and the tree of a primary, or those of a replica that hands on what
/// it has.
protocol LogSource: AnyObject, Sendable {
    var host: NodeHost { get }
    var logger: Logger { get }
    var peers: PeerSet { get }
    var catalog: Catalog { get }
    var logView: LogView { get }
    var replicas: ReplicaRegistry { get }
    var signal: LogSignal { get }
    var history: HistoryID { get }
    /// Of the frames that are sent.
    var epoch: UInt64 { get }
    var compression: Compression { get }
    /// Also for peers on this host.
    var compressesLoopback: Bool { get }

    /// Whether the tree is at a position that its log goes on from. A replica that hands on what it has may be in the midst of a
    /// sync, or about to need one.
    var servesTree: Bool { get throws }

    /// What the replicas must know when this node is gone.
    func group() -> Group
    /// A replica has come, or has noted what it was told of the group.
    func groupNoted()
    func standing(of position: Position) -> SenderMachine.Standing
    /// The end of the primary's log, as far as it is known here.
    ///
    /// `echo` is the clock of the last acknowledgement of the receiver: what this says is no older than that.
    func heartbeat(echo: Int64) -> Heartbeat
    /// A replica got something else than it should have; its log ends at `seq`.
    func checkLog(after seq: UInt64)
    /// One of the two sides will not have the other, which this node has dialled.
    func refused(_ refusal: Refusal)
    /// A peer has promised a higher epoch.
    func deposed(epoch: UInt64)
}

extension LogSource {
    var root: Directory { host.folder.root }

    func senderHello() -> Hello {
        let file = host.identity.value
        return Hello(
            role: .sender, node: file.node, history: history, promisedEpoch: file.promisedEpoch,
            position: logView.durableEnd, address: host.address?.description ?? "")
    }

    /// Throws where the position is of another past than this log has there, or of an epoch that has ended before it; what
    /// the log does not reach otherwise is not known.
    func requireHistory(_ wanted: PositionText, _ text: String) throws {
        let end = logView.durableEnd
        // Also of segments that the log does not hold any more.
        let later = (host.identity.value.epochs ?? []).first { $0.epoch > wanted.epoch && $0.seq <= wanted.seq }
        guard later == nil, wanted.seq <= end.seq || wanted.epoch >= end.epoch else {
            let ended =
                later.map { "epoch \($0.epoch) began at segment \($0.seq)" } ?? "epoch \(wanted.epoch) ended before"
            throw NodeError(.diverged, "\(text) is not on this history: \(ended), and it is at \(end)")
        }
        guard wanted.seq > 0, let own = try logView.position(at: wanted.seq),
            own.epoch > wanted.epoch || own.chain != wanted.chain ?? own.chain
        else { return }
        throw NodeError(.diverged, "\(text) is not on this history, which has \(own) there")
    }

    /// Whether the position, which has its chain, lies on the log.
    func holds(_ text: String) throws -> Bool {
        let asked = try PositionText(text)
        return try logView.position(at: asked.seq)?.chain == asked.chain
    }

    /// What a log says of a replica's position. Where it cannot be read it is as if it were not there.
    func standing(of position: Position, on log: LogView) -> SenderMachine.Standing {
        do {
            return try log.standing(of: position)
        } catch {
            logger.error("\(error)")
            return .pruned
        }
    }

    /// How far a replica is behind when it comes, in words that both sides log.
    static func gap(_ name: String, _ position: Position, _ end: Position, bytes: UInt64) -> String {
        let segments = end.seq - min(end.seq, position.seq)
        let mebibytes = (Double(bytes) / 104_857.6).rounded() / 10
        return
            "replica \(name) at \(position.short), primary at \(end.short): \(segments) segments, \(mebibytes) MiB behind"
    }

    /// The replicas that are served, for a status.
    func replicaStatus() throws -> [NodeStatus.Replica] {
        let end = logView.durableEnd
        let now = Clock.monotonicNanoseconds()
        var list: [NodeStatus.Replica] = []
        for (name, entry) in replicas.entries.sorted(by: { $0.key < $1.key }) {
            var replica = NodeStatus.Replica(
                name: name, address: entry.address, state: entry.isLost ? "lost" : entry.state, sentSeq: entry.sent,
                receivedSeq: entry.received, durableSeq: entry.durable, appliedSeq: entry.applied)
            replica.lastContactSeconds = entry.lastContact.map { Double(now.elapsed(since: $0)) / 1e9 }
            if let applied = entry.applied, applied > 0, applied <= end.seq { try addLag(&replica, applied, end) }
            replica.traffic = NodeStatus.Traffic(to: entry)
            list.append(replica)
        }
        return list
    }

    /// Seconds since the first change that the replica does not show was captured.
    private func addLag(_ replica: inout NodeStatus.Replica, _ applied: UInt64, _ end: Position) throws {
        replica.lagSegments = end.seq - applied
        guard applied < end.seq else {
            replica.lagBytes = 0
            replica.lagSeconds = 0
            return
        }
        replica.lagBytes = try? logView.bytesBetween(after: applied, through: end.seq)
        if let first = try? logView.header(at: applied + 1) {
            replica.lagSeconds = Double(max(0, Clock.realtimeNanoseconds() - first.captureTime)) / 1e9
        }
    }
}
