import WALApply
import Synchronization
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// What clients ask of a replica.
extension ReplicaNode {
    func hello() -> Hello { replicaHello() }

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
        var response = ControlResponse()
        switch request.verb {
        case .status: response.status = try status()
        case .position: response.position = PositionStatus(snapshot.applied)
        case .mark:
            throw NodeError(.failed, "\(host.rootPath) is a replica; a mark is made on its primary")
        case .resume:
            throw NodeError(
                .failed, "\(host.rootPath) is a replica; resume is for a primary whose tree was doubted")
        case .segment:
            let seq = request.seq ?? 0
            guard let position = try logView.position(at: seq), let header = try logView.header(at: seq) else {
                throw NodeError(
                    .notMet,
                    "segment \(seq) is not in the log of \(nodeFile.node), which begins with \(logView.firstSeq); verify "
                        + "\(nodeFile.node) against its primary")
            }
            response.position = PositionStatus(position)
            response.treeDigest = header.treeDigest.description
        case .holds:
            response.isWhole = try holds(request.position ?? "")
        case .put, .commit, .write, .open, .read, .list, .next, .stat, .close:
            throw NodeError(.usage, "\(request.verb) is asked over a connection")
        case .wait: try await wait(request)
        case .verify:
            do {
                response.verify = try await withCheckedThrowingContinuation { continuation in
                    check(
                        CheckRequest(isDeep: request.deep ?? false, isRepair: request.repair ?? false) {
                            continuation.resume(with: $0)
                        })
                }
            } catch CaptureError.stopped {
                throw NodeError.stopping
            }
        case .drain, .undrain, .forget: throw NodeError(.failed, "\(nodeFile.node) is a replica; ask its primary")
        case .promise, .promote, .follow, .fence, .rejoin, .fit: throw NodeError.notForARole
        }
        return response
    }

    private func wait(_ request: ControlRequest) async throws {
        guard request.replicas == nil else {
            throw NodeError(.usage, "--replicas is asked of a primary; this node is a replica")
        }
        let wanted = try PositionText(request.position ?? "")
        try requireHistory(wanted, request.position ?? "")
        let seconds = request.waitSeconds
        guard await waitApplied(wanted, seconds: seconds) else {
            throw NodeError(
                .notMet,
                "\(nodeFile.node) has applied \(snapshot.applied.short), not yet \(wanted.epoch):\(wanted.seq), "
                    + "after \(PrimaryNode.text(seconds: seconds))")
        }
    }

    /// For a progress bar in the same process.
    func currentStatus() throws -> NodeStatus { try status() }

    func status() throws -> NodeStatus {
        let state = snapshot
        let file = nodeFile
        let (catalogState, filter) = try catalog.read { ($0.state, try $0.filter()) }
        let now = Clock.monotonicNanoseconds()
        let contact = state.lastContact.map { Double(now.elapsed(since: $0)) / 1e9 }
        var status = NodeStatus(
            // What it is, also when `node.json` says already what it is to be next.
            role: NodeFile.Role.replica.rawValue, node: file.node, history: file.history, epoch: file.epoch,
            position: PositionStatus(state.applied), state: state.phase.rawValue,
            treeDigest: catalogState.treeDigest.description,
            log: NodeStatus.Log(
                firstSeq: logView.firstSeq, lastSeq: logView.durableEnd.seq, bytes: logView.bytes),
            replicas: try replicaStatus(), upstream: nil, appliedSeq: state.applied.seq, durableSeq: state.ack.durable,
            lagSegments: nil, lagSeconds: nil, objects: catalogState.objectCount,
            contentBytes: catalogState.contentBytes, progress: nil, notes: [], pid: ProcessFacts.processID,
            path: host.rootPath)
        status.filter = filter.lines
        status.staleSeconds = state.staleness
        status.group = NodeStatus.Group(file, address: host.address?.description)
        if let address = state.upstreamAddress ?? upstream.current?.description {
            status.upstream = NodeStatus.Upstream(
                address: address, state: state.link == nil ? "connecting" : state.phase.rawValue,
                lastContactSeconds: contact)
        }
        // What the primary holds is known as of its last word only.
        if let primary = state.primaryPosition, state.link != nil {
            let end = max(primary.seq, logView.durableEnd.seq)
            status.lagSegments = end - min(end, state.applied.seq)
            if end == state.applied.seq {
                status.lagSeconds = contact
            } else if let first = try? logView.header(at: state.applied.seq + 1) {
                status.lagSeconds = Double(max(0, Clock.realtimeNanoseconds() - first.captureTime)) / 1e9
            }
        }
        if state.phase == .syncing {
            status.progress = NodeStatus.Progress(
                files: state.syncFiles, totalFiles: state.syncTotalFiles, bytes: state.syncBytes,
                totalBytes: state.syncTotalBytes)
        } else if state.phase == .scanning {
            status.progress = NodeStatus.Progress(
                files: progress.namesSeen.load(ordering: .relaxed), totalFiles: nil,
                bytes: progress.bytesRead.load(ordering: .relaxed), totalBytes: nil)
        }
        status.traffic = NodeStatus.Traffic(of: self, state.traffic.count)
        status.notes += [state.problem, state.logStall, state.applyStall].compactMap { $0 }
        if let unset = unsetAttributes.summary {
            status.notes.append("\(unset.count) extended attributes could not be set; the first: \(unset.first)")
        }
        if ProcessFacts.effectiveUserID == 0, !ProcessFacts.isPrivileged {
            status.notes.append("run in a user namespace that lacks owners: all owners are kept but not applied")
        } else if ProcessFacts.effectiveUserID != 0 {
            status.notes.append(
                "not run by root: owners are kept but not applied, and its own user can read all files and directories")
        }
        return status
    }
}
