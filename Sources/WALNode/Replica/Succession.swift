import Logging
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// What a replica does when primaries change: promises, follows, and gets ready to lead.
extension ReplicaNode {
    struct Promise: Sendable {
        /// The end of what is durable here. No segment of a lower epoch is added to it any more.
        var position: Position
        /// The tree is at a position of the history, or will be when the log is applied: this replica can lead.
        var isWhole: Bool
    }

    /// Hears of no primary of a lower epoch from now on, and says what it has of them.
    ///
    /// See ``NodeFile/promise(_:members:handover:)``.
    func promise(epoch: UInt64, members: [NodeFile.Member], handover: UInt64?) async throws -> Promise {
        let file = nodeFile
        // Else it would have promised, and could not say where it is: each time that it is asked an epoch is spent.
        if link != nil, let stall = snapshot.logStall { throw NodeError(.noSpace, stall) }
        try host.identity.update { try $0.promise(epoch, members: members, handover: handover) }
        logger.notice("promised epoch \(epoch); it was \(file.promisedEpoch)")
        dropReplicas("a higher epoch was promised")
        // What came under the old epoch is logged, so that the position tells all of it.
        try await leaveLink("a higher epoch was promised")
        let state = snapshot
        return Promise(
            position: state.ack.durable == state.durable.seq
                ? state.durable : (try logView.position(at: state.ack.durable)) ?? state.applied,
            isWhole: try isWhole(state))
    }

    /// Listens to the primary at `text` from now on, at no lower epoch.
    func follow(_ text: String, epoch: UInt64) async throws {
        let address = try Address(text)
        let before = nodeFile
        // Told again by somebody who does not know that it was told.
        if before.promisedEpoch == epoch, before.upstream == text, snapshot.primaryEpoch == epoch, link != nil {
            return
        }
        try host.identity.update { try $0.follow(text, epoch: epoch) }
        dropReplicas("another primary is followed")
        logger.notice("following \(text)", metadata: ["epoch": "\(epoch)"])
        upstream.appoint(address)
        defer { hurry() }
        try await leaveLink("another primary is followed")
    }

    /// Applies all that is durable, and stops being a replica: returns where it then stands. Throws, and goes on as before,
    /// when that is not possible now.
    func drain() async throws -> Position {
        guard try isWhole(snapshot), prepared.withLock({ $0 }) else { throw notWhole }
        update { $0.isDraining = true }
        do { try await leaveLink("about to lead") } catch {
            update { $0.isDraining = false }
            throw error
        }
        let outcome: Result<Void, any Error> = await withCheckedContinuation { continuation in
            let once = Once(continuation)
            update { $0.retired = { once.resume($0) } }
            once.expire(after: Self.drainSeconds) { [self] in
                // Taken by the apply thread, it is about to be answered.
                guard takeRetired() else { return }
                let text = "has not applied all that it has after \(Int(Self.drainSeconds)) s; walctl status says why"
                once.resume(.failure(NodeError(.notMet, "\(nodeFile.node) \(text)")))
            }
        }
        if case .failure(let error) = outcome {
            update { $0.isDraining = false }
            throw error
        }
        return logView.durableEnd
    }

    private static let drainSeconds = 50.0

    var notWhole: NodeError { NodeError(.failed, "\(nodeFile.node) is not whole: it must finish its sync first") }

    /// Its log and tree can be gone on from: also where the log goes on with what a primary that began anew wrote, and the tree
    /// stands before that, where it is all that was acknowledged.
    private func isWhole(_ state: ReplicaState) throws -> Bool {
        guard !state.isEmpty, !state.isHalted, state.session == nil, state.phase != .diverged else { return false }
        return try !state.needsSync || catalog.state().isWholeTree
    }

    /// Keeps the files of the log that hold what follows `position` in a folder of `quarantine/`, whose name it returns. They get
    /// another name there, so that it takes no room to do so.
    func keepLog(after position: Position) throws -> Name {
        let quarantine = host.folder.quarantine
        let text = "log-after-\(position.epoch)-\(position.seq)-\(Clock.realtimeNanoseconds())"
        let name = Name(trusted: Array(text.utf8))
        do {
            try quarantine.makeDirectory(name)
            let folder = try quarantine.openDirectory(name)
            for file in logView.files where file.lastSeq > position.seq {
                try host.folder.log.link(file.name, to: folder, file.name)
            }
            try folder.sync()
            try quarantine.sync()
        } catch {
            try? quarantine.removeTree(name)
            throw error
        }
        return name
    }

    /// Ends the connection to the primary; returns when all that came over it is in the log. The next one may stand by then.
    /// Throws where the log has no room for it: whoever asked is not to wait for that.
    private func leaveLink(_ reason: String) async throws {
        guard let left = link else { return }
        dropLink(reason)
        while link === left, !isOver {
            if let stall = snapshot.logStall { throw NodeError(.noSpace, stall) }
            try? await Task.sleep(for: .milliseconds(2))
        }
    }
}
