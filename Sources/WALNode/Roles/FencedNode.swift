import Logging
import ServiceLifecycle
import Synchronization
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALWire

/// A primary after another was promoted: captures nothing, ships nothing, and says who leads. It keeps the tree and the
/// log as they are until an operator has it rejoin.
///
/// Ended by a graceful shutdown, or by a rejoin that is done: then the next role is a replica.
final class FencedNode: IdleRole {
    let host: NodeHost
    private let logger: Logger
    let finished = Finish()
    /// What a rejoin logs waits for room on it.
    private let signal = LogSignal()
    private let progress = CaptureProgress()

    init(host: NodeHost, logger: Logger) {
        self.host = host
        self.logger = logger
    }

    func run() async throws {
        if host.identity.value.isRejoining == true {
            finished.captureBegins()
            _ = try WorkerThread.start(name: "rejoin", stackBytes: 16 << 20) { [self] in rejoin() }
        } else {
            logger.critical("fenced: \(text)")
        }
        let search = Task { [self] in await findLeader() }
        defer { search.cancel() }
        await withGracefulShutdownHandler {
            try? await finished.wait()
        } onGracefulShutdown: { [self] in
            finished.finish(.success(()))
        }
        progress.isCancelled.store(true, ordering: .relaxed)
        signal.stopped.update { $0 = true }
        await finished.waitForCapture()
    }

    private var text: String { Self.text(host) }

    /// Why this node does not lead, and what to do.
    static func text(_ host: NodeHost) -> String {
        let file = host.identity.value
        guard let leader = file.leader else {
            let whom = file.successor.map { " of \($0.name)" } ?? ""
            return
                "a promotion\(whom) to epoch \(file.promisedEpoch) was begun, and nobody is known to lead since; "
                + "the same command again finishes it, and walctl promote \(host.rootPath) lets this one lead on"
        }
        return
            "another primary was promoted at epoch \(file.promisedEpoch); the primary is \(leader); walctl rejoin "
            + "\(host.rootPath) makes this one a replica"
    }

    /// Who was fenced by a promotion that came to nothing, or was away when others led, is told by nobody: they do not count it,
    /// and know at most where the last primary was. So it asks, and whom it knows may have been followed by another.
    private func findLeader() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(host.identity.value.leader == nil ? 2 : 10))
            let file = host.identity.value
            guard file.isRejoining != true, let leader = await Self.leader(known: host) else { continue }
            guard leader.address != file.leader else { continue }
            logger.critical("\(leader.name) at \(leader.address) leads epoch \(leader.epoch)")
            host.request(.found(epoch: leader.epoch, leader: leader.address))
        }
    }

    /// Who leads by now, of those whom this node has heard of, and whom they know; nil where none of them does.
    static func leader(known host: NodeHost) async -> (name: String, address: String, epoch: UInt64)? {
        let file = host.identity.value
        let others = [file.leader, file.successor?.address, file.formerLeader].compactMap { $0 }
        let known = (file.members ?? []).map(\.address) + others
        let addresses = Set(known).compactMap { try? Address($0) }.filter { $0 != host.address }
        let (seen, _) = await GroupClient.explore(from: addresses, history: file.history ?? "")
        let leaders = seen.filter { $0.status.leads && $0.status.epoch >= file.promisedEpoch }
        guard let leader = leaders.max(by: { $0.status.epoch < $1.status.epoch }) else { return nil }
        let address = leader.status.group?.address ?? leader.address.description
        return (leader.status.node, address, leader.status.epoch)
    }

    func makePeer(_ hello: Hello) -> any PeerRole {
        RefuseRole(
            Refusal(.redirect, "\(host.identity.value.node) is fenced", address: host.identity.value.leader ?? ""),
            epoch: epoch)
    }

    // MARK: Rejoin

    /// Tried again until it is done: the new primary may not be reached, and the disk may be full.
    private func rejoin() {
        var last = ""
        while true {
            do {
                try Rejoin(host: host, progress: progress, signal: signal, logger: logger).run()
                host.request(.appointed)
                break
            } catch CaptureError.stopped {
                break
            } catch {
                let text = "\(NodeError(error))"
                if text != last { logger.error("rejoin: \(text); trying again") }
                last = text
                progress.doubt = text
                if signal.stopped.wait(timeoutNanoseconds: 1_000_000_000, until: { $0 ? true : nil }) == true { break }
            }
        }
        finished.captureEnded(nil)
    }

    // MARK: Clients

    var refusal: NodeError { NodeError(.failed, "\(host.identity.value.node) is fenced: \(text)") }

    /// What is here may be of a past that is nobody else's.
    func tree() throws -> any TreeService {
        var error = refusal
        error.redirect = host.identity.value.leader
        error.code = error.redirect == nil ? .noPrimary : .notMet
        throw error
    }

    /// See ``NodeFile/promise(_:members:handover:)``. Nothing of a primary is added to its log until it has rejoined, and
    /// then it is one of no lower epoch.
    func promise(epoch: UInt64, members: [NodeFile.Member], handover: UInt64?) throws -> ReplicaNode.Promise {
        // First, for a promise that cannot be told spends an epoch.
        let end = try end()
        try host.identity.update { try $0.promise(epoch, members: members, handover: handover) }
        logger.notice("promised epoch \(epoch)")
        return ReplicaNode.Promise(position: end, isWhole: true)
    }

    /// A rejoin may be given up as long as it has changed nothing.
    func requireUnchanged() throws {
        // The rejoin may be at work with it.
        let catalog = try Catalog(path: host.folder.catalogPath, readOnly: true) { _ in }
        defer { try? catalog.close() }
        guard try !catalog.state().mustReconcile else {
            throw NodeError(
                .failed,
                "\(host.identity.value.node) has begun to give up what it has alone, for \(host.identity.value.leader ?? ""); "
                    + "it cannot lead on")
        }
    }

    /// Of the log, which is as the primary has left it.
    func end() throws -> Position {
        let status = try restingStatus("fenced", notes: [], needsCatalog: false).position
        return Position(epoch: status.epoch, seq: status.seq, chain: try Digest(text: status.chain))
    }

    func currentStatus() throws -> NodeStatus {
        let file = host.identity.value
        let isRejoining = file.isRejoining == true
        return try restingStatus(
            isRejoining ? "rejoining" : "fenced",
            notes: [
                signal.stalled, progress.doubt, isRejoining ? "rejoining \(file.leader ?? "the primary")" : text,
            ].compactMap { $0 })
    }
}
