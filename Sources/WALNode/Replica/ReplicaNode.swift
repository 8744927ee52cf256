import Logging
import NIOCore
import ServiceLifecycle
import Synchronization
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

package struct ReplicaSettings: Sendable {
    /// Where to look for the primary, in this order, where the group does not say who it is. None where it dials this node.
    package var from: [Address] = []
    /// Take over what is in the directory, as another tool left it.
    package var adopts = false
    /// Stop with success once this is applied.
    package var until: PositionText?
    /// A read by a client is refused unless this replica was current so many seconds ago.
    package var maxStaleSeconds: Double?
    package var retention = Retention(budgetBytes: 4 << 30, keepSeconds: 3600)

    package init() {}
}

/// A replica: makes a primary's segments durable, acknowledges them and applies them.
///
/// Started by ``run()`` and ended by a graceful shutdown, by what `--until` waits for, or by a log or catalog that is not
/// usable any more. A connection that is lost is made again for ever. Threads: one logs, one applies, one event loop
/// speaks to the primary and to clients.
package final class ReplicaNode: NodeRole, LogSource {
    let settings: ReplicaSettings
    let logger: Logger
    let host: NodeHost
    let peers = PeerSet()
    /// Replicas of this replica.
    let replicas: ReplicaRegistry
    let signal = LogSignal()
    let upstream: UpstreamAddresses
    let unsetAttributes = UnsetAttributes()
    let written = WrittenBytes()
    /// What came of segments, entries and blocks, before compression.
    let rawBytes = Atomic<UInt64>(0)
    let loggedBytes = Atomic<UInt64>(0)
    let catalog: Catalog
    let logView: LogView
    package let progress = CaptureProgress()
    private let writer: Mutex<LogWriter?>
    let state: Monitor<ReplicaState>
    private let partialBytes = Mutex<[UInt8]>([])
    let finished = Finish()
    private let workersLeft = Monitor<Int>(0)
    let logWorker = Mutex<LogWorker?>(nil)
    let untilWaiters = Mutex(UntilWaiters())
    let dialer = Mutex<Dialer?>(nil)

    var folder: StateFolder { host.folder }

    init(_ settings: ReplicaSettings, host: NodeHost, logger: Logger) throws {
        self.settings = settings
        self.host = host
        self.logger = logger
        let folder = host.folder
        upstream = UpstreamAddresses(settings.from, host: host)
        replicas = try ReplicaRegistry(folder: folder.directory)
        catalog = try host.openCatalog()
        let known = try catalog.state()
        let position = known.position
        let (writer, report) = try LogWriter.open(
            directory: folder.log, quarantine: folder.quarantine, history: try host.identity.value.historyID,
            emptyAt: position, rollBytes: settings.retention.rollBytes)
        if report.cutBytes > 0 {
            logger.warning(
                "cut \(report.cutBytes) bytes of an unfinished segment from the log; a copy is in quarantine")
        }
        // A reconcile moves the catalog first and the log after it; a crash in between is finished here.
        if position.seq > 0, try !writer.view.holds(position) { try writer.reset(to: position) }
        logView = writer.view
        var initial = ReplicaState()
        initial.received = writer.end
        initial.durable = writer.durableEnd
        initial.applied = known.whole
        initial.incompleteFrontier = position.seq
        initial.isIncomplete = position.seq > 0 && !known.isComplete && !known.mustReconcile
        if writer.end.seq > known.whole.seq { initial.noteUnapplied(in: writer.view, known) }
        initial.isEmpty = position.seq == 0
        state = Monitor(initial)
        self.writer = Mutex(writer)
    }

    // MARK: Running

    func run() async throws {
        do {
            try startWorkers()
            try await withGracefulShutdownHandler {
                try await serve()
            } onGracefulShutdown: { [self] in
                preparedSignal.continuation.finish()
                let until = settings.until
                finished.finish(
                    until == nil
                        ? .success(())
                        : .failure(
                            NodeError(
                                .notMet,
                                "stopped at \(snapshot.applied.short), before --until was applied; start again to go on"
                            ))
                )
            }
            await stop()
        } catch {
            await stop()
            throw NodeError(error)
        }
    }

    func makePeer(_ hello: Hello) -> any PeerRole {
        if hello.role == .sender, settings.from.isEmpty { return ReceiverRole(node: self) }
        if hello.role == .receiver, !hello.flags.contains(.primaryOnly) {
            if history != .none { return SenderRole(node: self) }
            // Who is told to follow this one waits for it, and does not go to the primary itself.
            return RefuseRole(
                Refusal(.busy, "\(nodeFile.node) has nothing yet; it waits for its own first sync"),
                epoch: promisedEpoch)
        }
        return RefuseRole(
            Refusal(
                .redirect, "\(nodeFile.node) is a replica; connect to its primary", address: nodeFile.leader ?? ""),
            epoch: promisedEpoch)
    }

    private func serve() async throws {
        // The first hello tells where the replica stands, which is known when the apply thread has looked.
        await waitUntilPrepared()
        let dialer = Dialer(network: host.network, addresses: { [upstream] in upstream.next() }, logger: logger) {
            [self] ended in
            // Of its own end a node speaks itself.
            ReceiverRole(node: self, ended: { [self] in ended(isOver ? nil : $0) })
        }
        self.dialer.withLock { $0 = dialer }
        dialer.start()
        defer { dialer.stop() }
        if let until = settings.until {
            Task { [self] in
                if await waitApplied(until, seconds: nil) { finished.finish(.success(())) }
            }
        }
        try await finished.wait()
    }

    let prepared = Monitor<Bool>(false)
    private let preparedSignal = AsyncStream.makeStream(of: Void.self)

    private func waitUntilPrepared() async {
        for await _ in preparedSignal.stream { break }
    }

    private func startWorkers() throws {
        let worker = LogWorker(node: self)
        logWorker.withLock { $0 = worker }
        workersLeft.withLock { $0 = 2 }
        finished.captureBegins()
        _ = try WorkerThread.start(name: "log") { [self] in
            do {
                if let writer = writer.withLock({ $0.take() }) { try worker.run(writer) }
                worker.end()
                workerEnded(nil)
            } catch {
                worker.end()
                workerEnded(NodeError(error))
            }
        }
        _ = try WorkerThread.start(name: "apply", stackBytes: 16 << 20) { [self] in
            do {
                let applying = ApplyWorker(node: self)
                try applying.prepare()
                prepared.update { $0 = true }
                preparedSignal.continuation.yield()
                update { if $0.phase == .scanning { $0.phase = .connecting } }
                try runUntilDiverged(applying)
                workerEnded(nil)
            } catch CaptureError.stopped {
                workerEnded(nil)
            } catch {
                workerEnded(NodeError(error))
            }
        }
    }

    /// Divergence stops apply and keeps everything as it is, and the node stays to say so.
    private func runUntilDiverged(_ worker: ApplyWorker) throws {
        do {
            try worker.run()
        } catch let error as ApplyError {
            logger.critical("\(error)")
            update {
                $0.phase = .diverged
                $0.isHalted = true
                $0.problem = "\(error)"
            }
            dropLink("\(error)")
            if settings.until != nil { throw error }
            while let work = nextWork(applies: false) {
                switch work {
                case .check(let check): check.done(.failure(NodeError(error)))
                case .session(let session):
                    session.link.connection.closeFromOutside(reason: "\(error)")
                    end(session)
                case .retire(let done): done(.failure(NodeError(error)))
                case .segments, .pending: break
                }
            }
        }
    }

    private func workerEnded(_ error: NodeError?) {
        preparedSignal.continuation.finish()
        if let error { finished.finish(.failure(error)) }
        let left = workersLeft.withLock { left in
            left -= 1
            return left
        }
        if left == 0 { finished.captureEnded(nil) }
    }

    private func stop() async {
        progress.isCancelled.store(true, ordering: .relaxed)
        dropLink("stopping")
        let (checks, retired) = state.withLock { state in
            state.isStopping = true
            defer { state.checks.removeAll() }
            return (state.checks, state.retired.take())
        }
        state.signalAll()
        retired?(.failure(NodeError.stopping))
        for check in checks { check.done(.failure(NodeError.stopping)) }
        // What has come is logged before the end; it was paid for.
        logWorker.withLock { $0 }?.queue.close()
        signal.stopped.update { $0 = true }
        await finished.waitForCapture()
        do { try replicas.save() } catch { logger.warning("slots are not saved: \(error)") }
        await peers.close()
        do { try catalog.close() } catch { logger.warning("\(error)") }
    }

    /// Ends ``run()`` in order.
    package func shutDown() {
        finished.finish(.success(()))
        // Also one that waits for room before it is what it is to be.
        preparedSignal.continuation.finish()
    }

    package var isOver: Bool { finished.isOver }

    // MARK: Identity

    package var promisedEpoch: UInt64 { nodeFile.promisedEpoch }
    var epoch: UInt64 { promisedEpoch }
    var nodeFile: NodeFile { host.identity.value }

    /// Durable before anything of that epoch is accepted.
    func promise(atLeast epoch: UInt64) throws {
        try host.identity.update { $0.promise(atLeast: epoch) }
        dropReplicas("a higher epoch has begun")
    }

    func adoptHistory(of sender: Hello) throws {
        try host.identity.update { file in
            if file.history == nil { file.history = sender.history.description }
        }
    }

    func replicaHello() -> Hello {
        let file = nodeFile
        let state = state.withLock { $0 }
        var flags: Hello.Flags = []
        if state.isEmpty { flags.insert(.empty) }
        if state.needsSync { flags.insert(.needsSync) }
        if upstream.hasChoice { flags.insert(.primaryOnly) }
        return Hello(
            role: .receiver, flags: flags, node: file.node, history: (try? file.historyID) ?? .none,
            promisedEpoch: file.promisedEpoch, position: state.received, partialBytes: UInt64(partial.count),
            address: host.address?.description ?? "")
    }

    var partial: [UInt8] {
        get { partialBytes.withLock { $0 } }
        set { partialBytes.withLock { $0 = newValue } }
    }

    // MARK: Between the threads

    func update(_ body: (inout ReplicaState) -> Void) {
        state.update { body(&$0) }
    }

    func ack() -> Ack {
        var ack = state.withLock { $0.ack }
        ack.writtenBytes = written.written
        ack.copiedBytes = written.copied
        ack.loggedBytes = loggedBytes.load(ordering: .relaxed)
        return ack
    }

    /// Entries or a block have come.
    func came(rawBytes bytes: UInt32) {
        rawBytes.wrappingAdd(UInt64(bytes), ordering: .relaxed)
    }

    func sendAck() {
        link?.acknowledge()
    }

    var waitingBytes: Int { logWorker.withLock { $0 }?.queue.cost ?? 0 }

    func enqueue(_ bytes: [UInt8]) {
        _ = logWorker.withLock { $0 }?.queue.put(.segment(bytes), cost: bytes.count)
    }

    /// Content of a sync was worked on; the sender may send as much again.
    func consume(_ bytes: UInt64) {
        let isDue = state.withLock { state in
            let before = state.workedBytes
            state.workedBytes += bytes
            return before >> 20 != state.workedBytes >> 20
        }
        if isDue { sendAck() }
    }

    func logged(_ end: Position, bytes: UInt64, _ segments: [Segment]) {
        loggedBytes.wrappingAdd(bytes, ordering: .relaxed)
        rawBytes.wrappingAdd(segments.reduce(0) { $0 + $1.header.rawBytes }, ordering: .relaxed)
        update { state in
            state.received = end
            state.durable = end
            for segment in segments { state.noteUnapplied(segment.header) }
        }
        signal.advance()
        sendAck()
    }

    var appliedSeq: UInt64 { state.withLock { $0.applied.seq } }

    func applied(_ position: Position, isComplete: Bool) {
        update { state in
            state.incompleteFrontier = position.seq
            state.isIncomplete = !isComplete && !state.needsSync
            guard isComplete else {
                state.phase = .syncing
                return
            }
            state.applied = position
            state.settleBeats()
            state.external.removeAll { $0 <= position.seq }
            if let baseline = state.baseline, baseline <= position.seq { state.baseline = nil }
            state.isEmpty = false
            if state.phase == .syncing, state.session == nil, state.link != nil { state.phase = .streaming }
        }
        sendAck()
        _ = logWorker.withLock { $0 }?.queue.put(.prune)
        signal.ready.update { $0 = true }
        if isComplete {
            for waiter in untilWaiters.withLock({ $0.take(at: position) }) { waiter.resume(true) }
        }
    }

    /// The log begins anew where the tree is, at `known`.
    func resetLog(to known: CatalogState) throws {
        let position = known.position
        let result = Monitor<Result<Void, NodeError>?>(nil)
        let isQueued = logWorker.withLock { $0 }?.queue.put(
            .reset(position) { outcome in result.update { $0 = outcome } })
        // The node stops. The next start begins the log anew where the catalog is not on it.
        guard isQueued == true else { throw ApplyError.interrupted }
        let outcome: Result<Void, NodeError>? = result.wait { $0 }
        try outcome?.get()
        update { state in
            state.received = position
            state.durable = position
            // Blocks that were gone are no more durable than applied.
            state.external = known.isComplete ? [] : [known.whole.seq + 1]
            state.baseline = nil
        }
    }

    var snapshot: ReplicaState { state.withLock { $0 } }
}

extension ReplicaState {
    /// The catalog may be ahead of `applied` while a file lacks blocks.
    var applyFrontier: UInt64 { max(applied.seq, incompleteFrontier) }
}
