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
final class FencedNode: NodeRole {
    let host: NodeHost
    private let logger: Logger
    private let finished = Finish()
    private let stopping = Monitor(false)
    private let progress = CaptureProgress()

    init(host: NodeHost, logger: Logger) {
        self.host = host
        self.logger = logger
    }

    var isOver: Bool { finished.isOver }
    var epoch: UInt64 { host.identity.value.promisedEpoch }

    func run() async throws {
        if host.identity.value.isRejoining == true {
            finished.captureBegins()
            _ = try WorkerThread.start(name: "rejoin", stackBytes: 16 << 20) { [self] in rejoin() }
        } else {
            logger.critical("fenced: \(text)")
        }
        await withGracefulShutdownHandler {
            try? await finished.wait()
        } onGracefulShutdown: { [self] in
            finished.finish(.success(()))
        }
        progress.isCancelled.store(true, ordering: .relaxed)
        stopping.update { $0 = true }
        await finished.waitForCapture()
    }

    func shutDown() {
        finished.finish(.success(()))
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

    func makePeer(_ hello: Hello) -> any PeerRole {
        RefuseRole(
            Refusal(.redirect, "\(host.identity.value.node) is fenced", address: host.identity.value.leader ?? ""),
            epoch: epoch)
    }

    func hello() -> Hello {
        let file = host.identity.value
        return Hello(
            role: .receiver, node: file.node, history: (try? file.historyID) ?? .none,
            promisedEpoch: file.promisedEpoch,
            position: .start, address: host.address?.description ?? "")
    }

    // MARK: Rejoin

    /// Tried again until it is done: the new primary may not be reached, and the disk may be full.
    private func rejoin() {
        var last = ""
        while true {
            do {
                try Rejoin(host: host, progress: progress, logger: logger).run()
                host.request(.appointed)
                break
            } catch CaptureError.stopped {
                break
            } catch {
                let text = "\(NodeError(error))"
                if text != last { logger.error("rejoin: \(text); trying again") }
                last = text
                progress.doubt = text
                if stopping.wait(timeoutNanoseconds: 1_000_000_000, until: { $0 ? true : nil }) == true { break }
            }
        }
        finished.captureEnded(nil)
    }

    // MARK: Clients

    /// What is here may be of a past that is nobody else's.
    func tree() throws -> any TreeService {
        let leader = host.identity.value.leader
        var error = NodeError(leader == nil ? .noPrimary : .notMet, "\(host.identity.value.node) is fenced: \(text)")
        error.redirect = leader
        throw error
    }

    func handle(_ request: ControlRequest, answer: @escaping @Sendable (ControlResponse) -> Void) {
        do {
            answer(try respond(to: request))
        } catch {
            answer(ControlResponse(error: error))
        }
    }

    private func respond(to request: ControlRequest) throws -> ControlResponse {
        var response = ControlResponse()
        switch request.verb {
        case .status: response.status = try currentStatus()
        case .position: response.position = try currentStatus().position
        default: throw NodeError(.failed, "\(host.identity.value.node) is fenced: \(text)")
        }
        return response
    }

    /// See ``NodeFile/promise(_:members:handover:)``. Nothing of a primary is added to its log until it has rejoined, and
    /// then it is one of no lower epoch.
    func promise(epoch: UInt64, members: [NodeFile.Member], handover: UInt64?) throws -> ReplicaNode.Promise {
        try host.identity.update { try $0.promise(epoch, members: members, handover: handover) }
        logger.notice("promised epoch \(epoch)")
        return ReplicaNode.Promise(position: try end(), isWhole: true)
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
        let status = try currentStatus().position
        return Position(epoch: status.epoch, seq: status.seq, chain: try Digest(text: status.chain))
    }

    func currentStatus() throws -> NodeStatus {
        var status = try OfflineStatus.read(
            host.folder.directory, folderPath: host.folder.path, treePath: host.rootPath)
        status.state = host.identity.value.isRejoining == true ? "rejoining" : "fenced"
        status.group = NodeStatus.Group(host.identity.value, address: host.address?.description)
        status.pid = ProcessFacts.processID
        let leader = host.identity.value.leader ?? "the primary"
        let note = host.identity.value.isRejoining == true ? "rejoining \(leader)" : text
        status.notes = [progress.doubt, note].compactMap { $0 }
        return status
    }
}
