import Foundation
import Logging
import NIOCore
import Synchronization
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// What clients ask of a primary.
extension PrimaryNode {
    func handle(_ request: ControlRequest, answer: @escaping @Sendable (ControlResponse) -> Void) {
        Task { [self] in
            do {
                answer(try await respond(to: request))
            } catch {
                answer(ControlResponse(error: error))
            }
        }
    }

    /// Answers a request as it would be answered over a socket.
    package func respond(to request: ControlRequest) async throws -> ControlResponse {
        do {
            return try await answer(to: request)
        } catch CaptureError.stopped {
            throw isOver
                ? NodeError.stopping : NodeError(.noPrimary, "\(file.node) captures nothing any more")
        }
    }

    private func answer(to request: ControlRequest) async throws -> ControlResponse {
        var response = ControlResponse()
        switch request.verb {
        case .status: response.status = try status()
        case .position: response.position = PositionStatus(logView.durableEnd)
        case .mark: response.position = try await durableMark(request) { [self] done in mailbox.mark(done) }
        case .resume:
            let accepts = request.acceptDeletions ?? false
            if accepts { logger.notice("resumed: what is gone from the tree is meant to be") }
            response.position = try await durableMark(request) { [self] done in
                mailbox.resume(acceptsDeletions: accepts, done)
            }
        case .segment:
            let seq = request.seq ?? 0
            guard let position = try logView.position(at: seq), let header = try logView.header(at: seq) else {
                throw NodeError(
                    .notMet,
                    "segment \(seq) is not in the log of \(file.node), which holds \(logView.firstSeq) to "
                        + "\(logView.durableEnd.seq)")
            }
            response.position = PositionStatus(position)
            response.treeDigest = header.treeDigest.description
        case .holds:
            response.isWhole = try holds(request.position ?? "")
        case .put, .commit, .write, .open, .read, .list, .next, .stat, .close:
            throw NodeError(.usage, "\(request.verb) is asked over a connection")
        case .wait: response.replicas = try await wait(request)
        case .verify:
            guard request.repair != true else { throw VerifyReport.noRepairOfPrimary(host.rootPath) }
            response.verify = try await verify(isDeep: request.deep ?? false)
        case .forget: try forget(request.name ?? "", isForced: request.force ?? false)
        case .drain:
            response.position = PositionStatus(try await drain())
            response.treeDigest = try catalog.state().treeDigest.description
        case .undrain: undrain("the switchover was given up: capturing again")
        case .promise, .promote, .follow, .fence, .rejoin, .fit: throw NodeError.notForARole
        }
        return response
    }

    /// A mark, and until so many replicas have it as must.
    private func durableMark(
        _ request: ControlRequest, post: @escaping @Sendable (@escaping CaptureMailbox.Answer) -> Void
    ) async throws -> PositionStatus {
        let deadline = Deadline(seconds: request.waitSeconds)
        let position = try await mark(withinSeconds: request.waitSeconds, post: post)
        try await waitDurable(position, count: syncReplicas, deadline)
        return PositionStatus(position)
    }

    /// A mark that is late is made all the same; only nobody waits for it any more.
    func mark(
        withinSeconds seconds: Double, post: @escaping @Sendable (@escaping CaptureMailbox.Answer) -> Void
    ) async throws -> Position {
        let outcome: Result<Position, any Error> = await withCheckedContinuation { continuation in
            let once = Once(continuation)
            once.expire(after: seconds) { [self] in
                var why = ""
                if signal.isStalled {
                    why = ": the log has no space"
                } else if progress.phase != .watching {
                    why = ": the tree is still being captured"
                }
                once.resume(.failure(NodeError(.notMet, "no mark within \(Self.text(seconds: seconds))\(why)")))
            }
            post { [self] result in
                // In the words of the status, which name the remedy.
                once.resume(
                    result.mapError { error in
                        guard let doubt = (error as? CaptureError)?.isDoubt, doubt, let text = progress.doubt else {
                            return error
                        }
                        return NodeError(.failed, text)
                    })
            }
        }
        return try outcome.get()
    }

    /// Returns when `count` replicas have made the position durable; what was done up to there is done in any case.
    func waitDurable(_ position: Position, count: Int, _ deadline: Deadline) async throws {
        guard count > 0 else { return }
        let replicas = replicas
        let have: Int? = await withCheckedContinuation { continuation in
            let once = Once<Int?>(continuation)
            let waiter = replicas.wait(for: position.seq, .durable, count: count) { _ in once.resume(nil) }
            once.expire(after: deadline.secondsLeft) {
                guard let have = replicas.cancel(waiter) else { return }
                once.resume(have)
            }
        }
        guard let have else { return }
        var error = NodeError(
            .notMet,
            "it is done, at \(position), but \(have) of \(count) replicas have made it durable after "
                + "\(Self.text(seconds: deadline.seconds)); without it: \(replicas.lacking(position.seq))")
        error.position = "\(position)"
        throw error
    }

    private func wait(_ request: ControlRequest) async throws -> Int {
        let wanted = try PositionText(request.position ?? "")
        try requireHistory(wanted, request.position ?? "")
        guard wanted.epoch <= epoch else {
            throw NodeError(.notMet, "epoch \(wanted.epoch) is beyond this primary's epoch \(epoch)")
        }
        let count = request.replicas ?? 1
        let seconds = request.waitSeconds
        let deadline = Deadline(seconds: seconds)
        let replicas = replicas
        let outcome: Result<Int, NodeError> = await withCheckedContinuation { continuation in
            let once = Once(continuation)
            let waiter = replicas.wait(for: wanted.seq, count: count) { once.resume(.success($0)) }
            once.expire(after: seconds) {
                guard let have = replicas.cancel(waiter) else { return }
                once.resume(
                    .failure(
                        NodeError(
                            .notMet,
                            "\(have) of \(count) replicas have applied \(wanted.epoch):\(wanted.seq) after "
                                + Self.text(seconds: seconds))))
            }
        }
        let reached = try outcome.get()
        try await waitDurable(
            Position(epoch: wanted.epoch, seq: wanted.seq, chain: .zero), count: syncReplicas, deadline)
        return reached
    }

    /// As it was typed: `30 s`, `0.3 s`.
    static func text(seconds: Double) -> String {
        seconds == seconds.rounded() ? "\(Int(seconds)) s" : "\((seconds * 10).rounded() / 10) s"
    }

    /// Compares the tree with the catalog. The tree goes on changing, so only what differs at every one of a few looks,
    /// each after all changes so far were captured, is a difference.
    private func verify(isDeep: Bool) async throws -> VerifyReport {
        try await verifications.run { [self] in
            var persistent: Set<TreeDifference>?
            while true {
                try markAndWait()
                let before = persistent
                let (found, report) = try catalog.read { catalog in
                    let check = TreeCheck(isDeep: isDeep, ignoresSpecial: true, progress: verifyProgress)
                    let result = try check.run(catalog, root: root)
                    let found = before.map { $0.intersection(result.differences) } ?? Set(result.differences)
                    return (
                        found,
                        VerifyReport(
                            catalog, history: file.history, result, isDeep: isDeep, differences: Array(found))
                    )
                }
                if found.isEmpty || found == persistent { return report }
                persistent = found
            }
        }
    }

    /// ``mark()`` for a thread of our own.
    private func markAndWait() throws {
        _ = try waitFor { [self] in try await mark() }
    }

    /// For a progress bar in the same process.
    func currentStatus() throws -> NodeStatus { try status() }

    func status() throws -> NodeStatus {
        let end = logView.durableEnd
        let (state, filter) = try catalog.read { ($0.state, try $0.filter()) }
        let list = try replicaStatus()
        var status = NodeStatus(
            role: file.role.rawValue, node: file.node, history: file.history, epoch: epoch,
            position: PositionStatus(end), state: stateName, treeDigest: state.treeDigest.description,
            log: NodeStatus.Log(firstSeq: logView.firstSeq, lastSeq: end.seq, bytes: logView.bytes), replicas: list,
            upstream: nil, appliedSeq: end.seq, durableSeq: end.seq, lagSegments: 0, lagSeconds: 0,
            objects: state.objectCount, contentBytes: state.contentBytes, progress: scanProgress, notes: notes,
            pid: ProcessFacts.processID, path: host.rootPath)
        status.watch = watch
        status.traffic = NodeStatus.Traffic(sumOf: list.compactMap(\.traffic))
        status.filter = filter.lines
        let group = group()
        status.group = NodeStatus.Group(
            address: host.address?.description, primary: host.address?.description, formerPrimary: file.formerLeader,
            promisedEpoch: file.promisedEpoch,
            syncReplicas: UInt32(clamping: syncReplicas),
            members: group.members.map {
                NodeStatus.Group.Member(name: $0.name, address: $0.address.isEmpty ? nil : $0.address)
            })
        return status
    }

    private var stateName: String {
        if signal.isStalled || progress.doubt != nil { return "stalled" }
        if isDrained.load(ordering: .relaxed) { return "drained" }
        return switch progress.phase {
        case .starting, .scanning: "scanning"
        case .watching: "streaming"
        case .rescan: "rescan"
        case .stalled, .stopped: "stalled"
        }
    }

    private var watch: NodeStatus.Watch {
        NodeStatus.Watch(
            inotify: progress.watches.load(ordering: .relaxed),
            fanotify: progress.filesystemWatches.load(ordering: .relaxed),
            unwatched: progress.unwatched.load(ordering: .relaxed))
    }

    private var scanProgress: NodeStatus.Progress? {
        guard progress.phase == .scanning || progress.phase == .rescan else { return nil }
        return NodeStatus.Progress(
            files: progress.namesSeen.load(ordering: .relaxed), totalFiles: nil,
            bytes: progress.bytesRead.load(ordering: .relaxed), totalBytes: nil)
    }

    private var notes: [String] {
        var notes = progress.doubt.map { [$0] } ?? []
        if let degraded = replicas.degraded(needing: syncReplicas) { notes.append(degraded) }
        notes += electorateNotes
        notes += progress.problems.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
        if let note = watch.note { notes.append(note) }
        let special = progress.skippedSpecial.load(ordering: .relaxed)
        if special > 0 {
            notes.append(
                settings.capture.capturesDevices
                    ? "sockets are not replicated: \(special) of the names in the tree"
                    : "sockets and devices are not replicated: \(special) of the names in the tree")
        }
        let immutable = progress.immutable.load(ordering: .relaxed)
        if immutable > 0 {
            notes.append("\(immutable) objects are immutable or append-only; that flag is not replicated")
        }
        let overloaded = progress.overloaded.load(ordering: .relaxed)
        if overloaded > 0 {
            notes.append(
                "\(overloaded) objects have more than \(Limits.maxAttributeBytes) bytes of extended attributes; the largest of "
                    + "these are left out")
        }
        if let damage = damage.withLock({ $0 }) {
            notes.append("\(damage.text); replicas that need segment \(damage.seq) reconcile with the tree instead")
        }
        if let stalled = signal.stalled { notes.append(stalled) }
        return notes
    }
}
