import Logging
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// A replica's own replicas: they get its log as it has it, and content from its tree.
///
/// They belong to the same group, but not to those whose acknowledgement the primary counts: what is durable at one of them
/// is durable at this replica before.
extension ReplicaNode {
    var history: HistoryID { (try? nodeFile.historyID) ?? .none }
    var compression: Compression { .standard }
    var compressesLoopback: Bool { false }

    /// Not where its log goes on with a primary that began anew: who got this tree would come to that segment, and ask again.
    var servesTree: Bool {
        get throws {
            let (state, known) = (snapshot, try catalog.state())
            return try !state.needsSync && state.baseline == nil && known.isWholeTree && logView.holds(known.position)
        }
    }

    /// As the primary told it.
    func group() -> Group {
        let file = nodeFile
        return Group(
            leader: file.leader ?? "", syncReplicas: file.syncReplicas ?? 0,
            members: (file.members ?? []).map { Group.Member(name: $0.name, address: $0.address) },
            epochs: file.epochs ?? [])
    }

    /// Who is served here acknowledges to nobody else.
    func groupNoted() {}

    func standing(of position: Position) -> SenderMachine.Standing { standing(of: position, on: logView) }

    /// What the primary said last, so that lag is that behind it. It was so when it was asked for: as much earlier than the
    /// receiver's own question as that is by now.
    func heartbeat(echo: Int64) -> Heartbeat {
        let state = snapshot
        let end = logView.durableEnd
        var beat = Heartbeat(
            position: end, captureTime: state.primaryCaptureTime, clock: Clock.realtimeNanoseconds(), echo: 0)
        guard let primary = state.primaryPosition else { return beat }
        if primary.seq > end.seq { beat.position = primary }
        if let heard = state.lastEcho {
            let age = Clock.monotonicNanoseconds().elapsed(since: heard)
            beat.echo = max(0, echo - Int64(clamping: age))
        }
        return beat
    }

    /// Rot in this log is found when it is read again, and by a verification; the primary has it all.
    func checkLog(after seq: UInt64) {}

    func refused(_ refusal: Refusal) {}

    /// One of its replicas has heard of a later primary before this one has.
    func deposed(epoch: UInt64) {
        logger.notice("a replica of this one has promised epoch \(epoch)")
    }

    /// Those who are served get frames of one epoch: of another they are told by another hello.
    func dropReplicas(_ reason: String) {
        for connection in peers.all where connection !== link?.connection {
            connection.closeFromOutside(reason: reason)
        }
    }
}
