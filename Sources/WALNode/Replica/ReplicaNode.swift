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
    package var rootPath: String
    package var statePath: String?
    package var name: String?
    package var from: Address?
    package var listen: [Address] = []
    /// Take over what is in the directory, as another tool left it.
    package var adopts = false
    /// Stop with success once this is applied.
    package var until: PositionText?
    /// A read by a client is refused unless this replica was current so many seconds ago.
    package var maxStaleSeconds: Double?
    package var retention = Retention(budgetBytes: 4 << 30, keepSeconds: 3600)
    package var command = "walrecv"

    package init(rootPath: String) {
        self.rootPath = rootPath
    }
}

/// A replica: makes a primary's segments durable, acknowledges them and applies them.
///
/// Started by ``run()`` and ended by a graceful shutdown, by what `--until` waits for, or by a log or catalog that is not
/// usable any more. A connection that is lost is made again for ever. Threads: one logs, one applies, one event loop
/// speaks to the primary and to clients.
package final class ReplicaNode: Service {
    let settings: ReplicaSettings
    let logger: Logger
    let folder: StateFolder
    let unsetAttributes = UnsetAttributes()
    let written = WrittenBytes()
    /// What came of segments, entries and blocks, before compression.
    let rawBytes = Atomic<UInt64>(0)
    let loggedBytes = Atomic<UInt64>(0)
    let catalog: Catalog
    let logView: LogView
    package let progress = CaptureProgress()
    private let file: Mutex<NodeFile>
    private let writer: Mutex<LogWriter?>
    private let state: Monitor<ReplicaState>
    private let partialBytes = Mutex<[UInt8]>([])
    private let network = Network()
    private let addresses = Mutex<[Address]>([])
    private let finished = Finish()
    private let workersLeft = Monitor<Int>(0)
    private let logWorker = Mutex<LogWorker?>(nil)
    private let untilWaiters = Mutex(UntilWaiters())

    /// Takes the directory: checks everything, changes nothing when it throws.
    package init(_ settings: ReplicaSettings, logger: Logger) throws {
        self.settings = settings
        self.logger = logger
        var existing: NodeFile?
        folder = try StateFolder(
            rootPath: settings.rootPath, statePath: settings.statePath, command: settings.command
        ) { root, found in
            existing = found
            try Self.checkDirectory(root, found, settings)
        }
        if existing == nil || (settings.name != nil && settings.name != existing!.node) {
            let name = try settings.name ?? existing?.node ?? Self.defaultName(of: folder.root)
            var made = existing ?? NodeFile(node: name, role: .replica, history: nil, epoch: 0)
            made.node = name
            try made.save(to: folder.directory)
            existing = made
        }
        file = Mutex(existing!)
        catalog = try Catalog(path: folder.catalogPath)
        let known = try catalog.state()
        let position = known.position
        let (writer, report) = try LogWriter.open(
            directory: folder.log, quarantine: folder.quarantine, history: try existing!.historyID,
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
        // Which of these have content outside of the log is not looked up: it is known when they are applied.
        if writer.end.seq > known.whole.seq { initial.external = Array(known.whole.seq + 1...writer.end.seq) }
        initial.isEmpty = position.seq == 0
        state = Monitor(initial)
        self.writer = Mutex(writer)
    }

    /// Throws what would keep ``init(_:logger:)`` from taking the directory, and makes nothing.
    static func check(_ settings: ReplicaSettings) throws {
        try checkDirectory(
            try StateFolder.openRoot(settings.rootPath),
            try StateFolder.existingNode(rootPath: settings.rootPath, statePath: settings.statePath), settings)
    }

    /// The host and the directory, so that two replicas of one host do not share a slot.
    private static func defaultName(of root: Directory) throws -> String {
        let path = root.currentPath.map { PathText.escaped($0) } ?? ""
        return String("\(try ProcessFacts.hostName()):\(path)".utf8.prefix(Limits.maxNodeNameBytes)) ?? "replica"
    }

    private static func checkDirectory(_ root: Directory, _ found: NodeFile?, _ settings: ReplicaSettings) throws {
        switch found?.role {
        case .primary, .fenced:
            throw NodeError(
                .failed, "\(settings.rootPath) is a primary; a directory cannot be a replica at the same time")
        case .replica where found?.history != nil: return
        case .replica, nil: break
        }
        let isEmpty = try root.entries().allSatisfy { $0.name == Name(".wal") }
        guard isEmpty || settings.adopts else {
            throw NodeError(
                .failed,
                "\(settings.rootPath) is not empty; give --adopt to make what is there a replica (files that the "
                    + "primary does not have are then removed), or name an empty directory")
        }
    }

    // MARK: Running

    package var listening: [Address] { addresses.withLock { $0 } }

    package func run() async throws {
        do {
            let control = try await network.listen(unixSocket: folder.controlSocketPath) { [self] in
                AcceptRole(service: self, makePeer: nil)
            }
            var channels = [control]
            for address in settings.listen {
                let (channel, real) = try await network.listen(address) { [self] in
                    AcceptRole(
                        service: self,
                        makePeer: { [self] hello in
                            if hello.role == .sender { return ReceiverRole(node: self) }
                            return RefuseRole(node: self)
                        })
                }
                channels.append(channel)
                addresses.withLock { $0.append(real) }
                logger.info("listening on \(real)")
            }
            try startWorkers()
            try await withGracefulShutdownHandler {
                try await serve()
            } onGracefulShutdown: { [self] in
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
            await stop(channels)
        } catch {
            await stop([])
            throw NodeError(error)
        }
    }

    private func serve() async throws {
        // The first hello tells where the replica stands, which is known when the apply thread has looked.
        await waitUntilPrepared()
        let dialer = settings.from.map { address in
            Dialer(network: network, address: address, logger: logger) { [self] ended in
                // Of its own end a node speaks itself.
                ReceiverRole(node: self, ended: { [self] in ended(isOver ? nil : $0) })
            }
        }
        dialer?.start()
        defer { dialer?.stop() }
        if let until = settings.until {
            Task { [self] in
                if await waitApplied(until, seconds: nil) { finished.finish(.success(())) }
            }
        }
        try await finished.wait()
    }

    private let prepared = Monitor<Bool>(false)
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
                workerEnded(nil)
            } catch {
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
                preparedSignal.continuation.finish()
                workerEnded(nil)
            } catch {
                preparedSignal.continuation.finish()
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
                case .segments, .pending: break
                }
            }
        }
    }

    private func workerEnded(_ error: NodeError?) {
        if let error { finished.finish(.failure(error)) }
        let left = workersLeft.withLock { left in
            left -= 1
            return left
        }
        if left == 0 { finished.captureEnded(nil) }
    }

    private func stop(_ channels: [any Channel]) async {
        for channel in channels { try? await channel.close() }
        progress.isCancelled.store(true, ordering: .relaxed)
        dropLink("stopping")
        let checks = state.withLock { state in
            state.isStopping = true
            defer { state.checks.removeAll() }
            return state.checks
        }
        state.signalAll()
        for check in checks { check.done(.failure(NodeError(.failed, "the node is stopping"))) }
        // What has come is logged before the end; it was paid for.
        logWorker.withLock { $0 }?.queue.close()
        await finished.waitForCapture()
        await network.shutDown()
        do { try catalog.close() } catch { logger.warning("\(error)") }
    }

    /// Ends ``run()`` in order.
    package func shutDown() {
        finished.finish(.success(()))
    }

    package var isOver: Bool { finished.isOver }

    // MARK: Identity

    package var promisedEpoch: UInt64 { file.withLock { $0.promisedEpoch } }
    var epoch: UInt64 { promisedEpoch }
    var nodeFile: NodeFile { file.withLock { $0 } }

    /// Durable before anything of that epoch is accepted.
    func promise(epoch: UInt64) throws {
        try file.withLock { file in
            guard epoch > file.promisedEpoch else { return }
            var next = file
            next.promisedEpoch = epoch
            next.epoch = epoch
            try next.save(to: folder.directory)
            file = next
        }
    }

    func adoptHistory(of sender: Hello) throws {
        try file.withLock { file in
            guard file.history == nil else { return }
            var next = file
            next.history = sender.history.description
            try next.save(to: folder.directory)
            file = next
        }
    }

    func replicaHello() -> Hello {
        let file = nodeFile
        let state = state.withLock { $0 }
        var flags: Hello.Flags = []
        if state.isEmpty { flags.insert(.empty) }
        if state.needsSync { flags.insert(.needsSync) }
        return Hello(
            role: .receiver, flags: flags, node: file.node, history: (try? file.historyID) ?? .none,
            promisedEpoch: file.promisedEpoch, position: state.received, partialBytes: UInt64(partial.count))
    }

    var partial: [UInt8] {
        get { partialBytes.withLock { $0 } }
        set { partialBytes.withLock { $0 = newValue } }
    }

    // MARK: The connection

    /// False when there is one already.
    func attach(_ link: Link) -> Bool {
        state.withLock { state in
            guard state.link == nil, !state.isStopping else { return false }
            state.link = link
            state.beats.removeAll()
            state.traffic.begin(link.connection.traffic)
            state.workedBytes = 0
            return true
        }
    }

    /// `done` when no sync of it is under way and all that came over it is in the log.
    func detach(_ link: Link, done: @escaping @Sendable () -> Void) {
        let barrier: @Sendable () -> Void = { [self] in
            update { state in
                if state.phase == .streaming || state.phase == .syncing { state.phase = .connecting }
                state.link = nil
                state.traffic.end(link.connection.traffic)
            }
            done()
        }
        let queueBarrier: @Sendable () -> Void = { [self] in
            if logWorker.withLock({ $0 })?.queue.put(.barrier(barrier)) != true { barrier() }
        }
        // A sync sees that its parts end, and ends. The log thread must not wait for it: the sync may wait for the log.
        let isSyncing = state.withLock { state in
            guard state.session != nil, !state.isStopping else { return false }
            state.afterSession = queueBarrier
            return true
        }
        if !isSyncing { queueBarrier() }
    }

    var link: Link? { state.withLock { $0.link } }

    func dropLink(_ reason: String) {
        link?.connection.closeFromOutside(reason: reason)
    }

    func heard(_ address: String?) {
        state.withLock { state in
            state.lastContact = Clock.monotonicNanoseconds()
            state.upstreamAddress = address
        }
    }

    func heartbeat(_ beat: Heartbeat) {
        state.withLock { state in
            state.primaryPosition = beat.position
            state.primaryCaptureTime = beat.captureTime
            state.note(beat)
        }
        self.state.signalAll()
    }

    func streaming(from address: String, _ sender: Hello) {
        logger.info("streaming from \(sender.node) at \(address)")
        update { state in
            state.wasWelcomed = true
            if !state.isHalted {
                state.phase = state.connectedPhase
                state.problem = nil
            }
            state.primaryPosition = sender.position
        }
        // Until its answer nobody can say how fresh this replica is.
        link?.askForHeartbeat()
    }

    func begin(_ session: SyncSession, address: String) {
        logger.info("syncing from \(session.sender.node) at \(address)")
        update { state in
            state.session = session
            state.wasWelcomed = true
            if !state.isHalted { state.phase = .syncing }
        }
    }

    func end(_ session: SyncSession) {
        let after: (@Sendable () -> Void)? = state.update { state in
            guard state.session === session else { return nil }
            state.session = nil
            return state.afterSession.take()
        }
        after?()
        // The word that it is no longer syncing must not wait for the next heartbeat.
        sendAck()
    }

    /// Returns why, in words for a person, with the remedy.
    ///
    /// As the first answer to a replica that dials, that its history is another one ends it: the address or the directory
    /// was named wrongly, and to ask again for ever would hide that. Later something has happened to the primary, which an
    /// operator may put right. Who dials this replica can end nothing.
    func refused(_ refusal: Refusal) -> String {
        let isAnotherHistory = refusal.code == .diverged || refusal.code == .unknownHistory
        let text =
            isAnotherHistory
            ? "\(refusal.text); name the right primary, or, to discard what is here, remove \(folder.path) while nothing "
                + "runs and start with --adopt"
            : refusal.text
        let isFirst = state.update { state in
            state.problem = text
            if isAnotherHistory || refusal.code == .fenced { state.phase = .diverged }
            return !state.wasWelcomed
        }
        // Nobody waits by a script, either, for something that will not come.
        // A replica that has no history yet has nothing that could be another's.
        if isAnotherHistory, settings.until != nil || (isFirst && settings.from != nil && nodeFile.history != nil) {
            finished.finish(.failure(NodeError(.diverged, text)))
        }
        return text
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

    private func sendAck() {
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
            state.external += segments.filter { $0.header.flags.contains(.external) }.map(\.header.seq)
        }
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
            state.isEmpty = false
            if state.phase == .syncing, state.session == nil, state.link != nil { state.phase = .streaming }
        }
        sendAck()
        _ = logWorker.withLock { $0 }?.queue.put(.prune)
        if isComplete {
            for waiter in untilWaiters.withLock({ $0.take(at: position) }) { waiter.resume(true) }
        }
    }

    /// The log begins anew behind a sync that brought the tree to `known`.
    func resetLog(to known: CatalogState) throws {
        let position = known.position
        let result = Monitor<Result<Void, NodeError>?>(nil)
        let isQueued = logWorker.withLock { $0 }?.queue.put(
            .reset(position) { outcome in result.update { $0 = outcome } })
        // The node stops. The next start finds the catalog ahead of the log and begins the log anew there.
        guard isQueued == true else { throw ApplyError.interrupted }
        let outcome: Result<Void, NodeError>? = result.wait { $0 }
        try outcome?.get()
        update { state in
            state.received = position
            state.durable = position
            // Blocks that were gone are no more durable than applied.
            state.external = known.isComplete ? [] : [known.whole.seq + 1]
        }
    }

    enum Work: Sendable {
        case session(SyncSession)
        case segments
        case check(CheckRequest)
        /// Files that lack blocks.
        case pending
    }

    /// How often blocks are asked for that were gone at the last time.
    private static let pendingNanoseconds: UInt64 = 1_000_000_000

    /// Waits for something that the apply thread can do; nil when the node stops.
    func nextWork(applies: Bool = true) -> Work? {
        let log = logView
        while true {
            let timeout = state.withLock { $0.isIncomplete ? Self.pendingNanoseconds : nil }
            let work: Work?? = state.wait(timeoutNanoseconds: timeout) { state in
                if state.isStopping { return .some(nil) }
                if let check = state.checks.first {
                    state.checks.removeFirst()
                    return .check(check)
                }
                if let session = state.session { return .session(session) }
                if applies, !state.needsSync, !state.isEmpty, state.applyFrontier < log.durableEnd.seq {
                    return .segments
                }
                return nil
            }
            if let work { return work }
            if state.withLock({ $0.isIncomplete && $0.link != nil && $0.session == nil }) { return .pending }
        }
    }

    /// After an interrupted fetch: the next connection may bring what this one did not.
    func waitForLink() {
        let link = link
        _ = state.wait(timeoutNanoseconds: 1_000_000_000) { state in
            state.isStopping || (state.link != nil && state.link !== link) || state.session != nil ? true : nil
        }
    }

    /// False when the time, in monotonic nanoseconds, came first.
    func waitUntil(_ deadline: UInt64, _ isMet: (ReplicaState) -> Bool) -> Bool {
        let left = deadline.elapsed(since: Clock.monotonicNanoseconds())
        return state.wait(timeoutNanoseconds: left) { $0.isStopping || isMet($0) ? true : nil } ?? false
    }

    func waitForStop(nanoseconds: UInt64?) -> Bool {
        state.wait(timeoutNanoseconds: nanoseconds) { $0.isStopping ? true : nil } ?? false
    }

    func stall(_ problem: String, isRoom: Bool = true) {
        logger.error("\(problem); \(isRoom ? "waiting for room" : "trying again")")
        update {
            if !$0.isHalted { $0.phase = .stalled }
            $0.problem = problem
        }
    }

    func recovered() {
        state.withLock { state in
            guard state.phase == .stalled else { return }
            state.phase = state.link == nil ? .connecting : state.connectedPhase
            state.problem = nil
        }
    }

    // MARK: Clients

    func check(_ request: CheckRequest) {
        update { $0.checks.append(request) }
    }

    /// True when it is applied; false after the time.
    func waitApplied(_ wanted: PositionText, seconds: Double?) async -> Bool {
        await withCheckedContinuation { continuation in
            let once = Once(continuation)
            let id = untilWaiters.withLock { $0.add(wanted, once) }
            // Applied between the question and the waiting.
            if wanted.isReached(by: snapshot.applied) { once.resume(true) }
            if let seconds {
                once.expire(after: seconds) { [self] in
                    untilWaiters.withLock { $0.remove(id) }
                    once.resume(false)
                }
            }
        }
    }

    var snapshot: ReplicaState { state.withLock { $0 } }
}

extension ReplicaState {
    /// The catalog may be ahead of `applied` while a file lacks blocks.
    var applyFrontier: UInt64 { max(applied.seq, incompleteFrontier) }
}

/// Somebody who is neither a primary nor a client.
private final class RefuseRole: PeerRole {
    private let node: ReplicaNode
    private var connection: Connection?

    init(node: ReplicaNode) {
        self.node = node
    }

    func accepted(_ connection: Connection) {
        self.connection = connection
    }

    func opened(_ connection: Connection) {
        self.connection = connection
    }

    func received(_ message: Message, epoch: UInt64) {
        connection?.send(
            .refuse(Refusal(.redirect, "this node is a replica; connect to its primary")), epoch: node.promisedEpoch)
        connection?.close(reason: "not a primary")
    }

    func tick() {}

    func closed(reason: String?) {
        connection = nil
    }
}

/// Who waits for a position to be applied.
private struct UntilWaiters: Sendable {
    private var waiters: [UInt64: (wanted: PositionText, once: Once<Bool>)] = [:]
    private var next: UInt64 = 0

    mutating func add(_ wanted: PositionText, _ once: Once<Bool>) -> UInt64 {
        next += 1
        waiters[next] = (wanted, once)
        return next
    }

    mutating func remove(_ id: UInt64) {
        waiters[id] = nil
    }

    mutating func take(at position: Position) -> [Once<Bool>] {
        let met = waiters.filter { $0.value.wanted.isReached(by: position) }
        for id in met.keys { waiters[id] = nil }
        return met.values.map(\.once)
    }
}
