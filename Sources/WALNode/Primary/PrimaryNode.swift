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

package struct PrimarySettings: Sendable {
    /// Replicas to dial.
    package var to: [Address] = []
    package var compression = Compression.standard
    /// Also what a peer on this host asks for, which may be the end of a tunnel.
    package var compressesLoopback = false
    /// Log that a slow replica still needs is dropped beyond this.
    package var retention = Retention(budgetBytes: 4 << 30, keepSeconds: 3600)
    package var capture = CaptureSettings()
    /// Beyond this, what is gone from the tree at once is doubted.
    package var maxDelete = DeletionLimit.standard
    /// What of the tree is replicated from now on; nil for what it was.
    package var filter: Filter?
    /// Stop with success once every replica of ``to`` has applied what was there at the start.
    package var isOnce = false
    /// A doubt about the tree ends the node, where nobody is there to resume it.
    package var endsInDoubt = false
    /// So many replicas must have made a segment durable before a mark, a write or a wait is answered; 0 for none.
    /// nil for what it was in the group before this node led, else 0.
    package var syncReplicas: Int?

    package init() {}
}

/// A primary: captures one tree into its log and ships the log to any number of replicas.
///
/// Started by ``run()`` and ended by a graceful shutdown, by what `--once` waits for, or by a log, catalog or root that is
/// not usable any more. Threads: one captures; one event loop speaks to all replicas and clients; each replica that needs
/// a listing or blocks has one more while it does, and so have verifications.
package final class PrimaryNode: NodeRole, LogSource {
    let settings: PrimarySettings
    let logger: Logger
    let host: NodeHost
    let peers = PeerSet()
    /// Of this time as a primary.
    let epoch: UInt64
    let history: HistoryID
    let catalog: Catalog
    let logView: LogView
    let replicas: ReplicaRegistry
    let signal = LogSignal()
    let mailbox: CaptureMailbox
    let verifications = VerifyQueue()
    /// Of whichever runs: its end must not wait for a reader of a whole tree.
    let verifyProgress = CaptureProgress()
    package let progress = CaptureProgress()
    /// The last segment of the log that is known not to be what was written, and what is wrong with it.
    let damage = Mutex<(seq: UInt64, text: String)?>(nil)
    let writer: Mutex<LogWriter?>
    let finished = Finish()
    /// The end of the log when this role began.
    let beganAt: Position
    /// Another primary of this epoch.
    let rival = Mutex<String?>(nil)
    /// See ``groupNoted()``.
    let settling = Mutex(())
    /// See ``drain()``: monotonic nanoseconds.
    private let drainDeadline = Mutex<UInt64?>(nil)
    /// Nothing is captured any more.
    let isDrained = Atomic<Bool>(false)

    var folder: StateFolder { host.folder }
    var compression: Compression { settings.compression }
    var compressesLoopback: Bool { settings.compressesLoopback }
    var servesTree: Bool { get throws { try catalog.state().isWholeTree } }
    var file: NodeFile { host.identity.value }

    init(_ given: PrimarySettings, host: NodeHost, logger: Logger) throws {
        var settings = given
        self.host = host
        self.logger = logger
        let folder = host.folder
        let before = host.identity.value
        if let filter = settings.filter {
            try host.identity.update { $0.filter = filter.lines }
        } else if let rules = before.filter, !rules.isEmpty {
            logger.notice("the filter of the history stays as it was: \(rules.count) rules; --no-filter takes it away")
        }
        epoch = before.epoch
        history = try before.historyID
        catalog = try host.openCatalog(indexesBlocks: true)
        let (writer, report) = try LogWriter.open(
            directory: folder.log, quarantine: folder.quarantine, history: history,
            emptyAt: try catalog.state().position, rollBytes: settings.retention.rollBytes)
        if report.cutBytes > 0 {
            logger.warning(
                "cut \(report.cutBytes) bytes of an unfinished segment from the log; a copy is in quarantine")
        }
        logView = writer.view
        // Copies of the catalog that a crash left.
        for entry in try folder.staging.entries() where entry.name.isTemporary {
            try? folder.staging.unlink(entry.name)
        }
        try Self.forgetUploads(of: folder)
        try Self.catchUp(catalog, with: writer, folder, logger)
        if before.isAppointed == true {
            // What was promised to clients is promised on, until an operator says otherwise.
            settings.syncReplicas = given.syncReplicas ?? Int(before.syncReplicas ?? 0)
            // As a replica it was not told what is left out; what the history has of them it must not lose.
            let hasDevices = try catalog.read { try $0.hasDevices() }
            settings.capture.capturesDevices = settings.capture.capturesDevices || hasDevices
        }
        self.settings = settings
        if before.isAppointed == true, writer.end.epoch < epoch { try Self.beginEpoch(host, history, catalog, writer) }
        beganAt = writer.end
        self.writer = Mutex(writer)
        replicas = try ReplicaRegistry(folder: folder.directory)
        replicas.setVoters(host.identity.value.voters ?? [])
        mailbox = try CaptureMailbox()
    }

    func hello() -> Hello { senderHello() }

    /// A replica got something else than it should have. Where that is what the log holds, no replica can come over it by
    /// the log, and each reconciles with the tree instead, as when the log were pruned.
    func checkLog(after seq: UInt64) {
        _ = try? WorkerThread.start(name: "check") { [self] in
            do {
                var cursor = try logView.cursor(after: seq)
                var bytes: UInt64 = 0
                // As much as may have been under way, and the segment that goes beyond it.
                while bytes <= UInt64(Limits.sendWindowBytes), let location = try cursor.next() {
                    bytes += location.header.storedBytes
                    do {
                        _ = try location.read()
                    } catch {
                        noteDamage(location.header.seq, "\(error)")
                        return
                    }
                }
            } catch {
                noteDamage(seq + 1, "\(error)")
            }
        }
    }

    private func noteDamage(_ seq: UInt64, _ text: String) {
        let isNew = damage.withLock { damage in
            guard damage.map({ $0.seq < seq }) ?? true else { return false }
            damage = (seq, text)
            return true
        }
        if isNew { logger.critical("\(text); replicas that need segment \(seq) reconcile with the tree instead") }
    }

    func standing(of position: Position) -> SenderMachine.Standing {
        if let damage = damage.withLock({ $0 }), position.seq < damage.seq { return .pruned }
        return standing(of: position, on: logView)
    }

    func heartbeat(echo: Int64) -> Heartbeat {
        let end = logView.durableEnd
        let header = try? logView.header(at: end.seq)
        return Heartbeat(
            position: end, captureTime: header?.captureTime ?? 0, clock: Clock.realtimeNanoseconds(),
            echo: echo)
    }

    func deposed(epoch: UInt64) {
        host.request(.deposed(epoch: epoch, leader: nil))
    }

    // MARK: Running

    func run() async throws {
        guard !isOver else { return await stop() }
        do {
            try startCapture()
            try await withGracefulShutdownHandler {
                try await serve()
            } onGracefulShutdown: { [self] in
                let isUnmet = settings.isOnce
                finished.finish(
                    isUnmet
                        ? .failure(
                            NodeError(
                                .notMet,
                                "stopped before every --to replica had applied the tree; start again to go on"))
                        : .success(()))
            }
            await stop()
        } catch {
            await stop()
            throw NodeError(error)
        }
    }

    func makePeer(_ hello: Hello) -> any PeerRole {
        guard hello.role == .sender else { return SenderRole(node: self) }
        return RefuseRole(
            Refusal(.busy, "\(file.node) is itself the primary of epoch \(epoch)"), epoch: file.promisedEpoch)
    }

    private func serve() async throws {
        let dialers = settings.to.map { address in
            Dialer(network: host.network, address: address, logger: logger) { [self] ended in
                SenderRole(node: self, ended: ended)
            }
        }
        for dialer in dialers { dialer.start() }
        let housekeeping = Task { [self] in
            while !Task.isCancelled {
                try await Task.sleep(for: .seconds(5))
                do { try replicas.save() } catch { logger.warning("slots are not saved: \(error)") }
            }
        }
        if settings.isOnce {
            Task { [self] in
                do {
                    try await shipOnce()
                    finished.finish(.success(()))
                } catch {
                    finished.finish(.failure(NodeError(error)))
                }
            }
        }
        let herald = Herald(node: self).start()
        defer {
            herald.cancel()
            housekeeping.cancel()
            for dialer in dialers { dialer.stop() }
        }
        try await finished.wait()
    }

    /// Returns when every replica that was named has applied what was there at the call.
    private func shipOnce() async throws {
        let position = try await mark()
        let count = settings.to.count
        await withCheckedContinuation { continuation in
            _ = replicas.wait(for: position.seq, count: count, isDialledOnly: true) { _ in
                continuation.resume()
            }
        }
    }

    /// A replica that this node dialled will never have what `--once` waits for.
    func refused(_ refusal: Refusal) {
        guard settings.isOnce, refusal.code == .diverged || refusal.code == .unknownHistory else { return }
        finished.finish(.failure(NodeError(refusal)))
    }

    /// Ends ``run()`` in order.
    package func shutDown() {
        finished.finish(.success(()))
    }

    package var isOver: Bool { finished.isOver }

    package func mark() async throws -> Position {
        try await withCheckedThrowingContinuation { continuation in
            mailbox.mark { continuation.resume(with: $0) }
        }
    }

    /// Captures what there is and nothing after it, for whoever takes over; what is in the log is shipped on. Unless another
    /// primary comes, it goes on by itself a while after it was asked last.
    func drain() async throws -> Position {
        let deadline = Clock.monotonicNanoseconds() + Self.drainNanoseconds
        if drainDeadline.withLock({ current in
            defer { current = deadline }
            return current == nil
        }) {
            do {
                _ = try await mark()
            } catch {
                drainDeadline.withLock { $0 = nil }
                throw error
            }
            isDrained.store(true, ordering: .relaxed)
            logger.notice("drained: nothing more is captured until another primary has taken over")
            Task { [self] in
                while let deadline = drainDeadline.withLock({ $0 }) {
                    let left = deadline.elapsed(since: Clock.monotonicNanoseconds())
                    guard left > 0 else { return undrain("nobody has taken over: capturing again") }
                    try await Task.sleep(for: .nanoseconds(Int64(left)))
                }
            }
        }
        progress.isCancelled.store(true, ordering: .relaxed)
        mailbox.stop()
        await finished.waitForCapture()
        return logView.durableEnd
    }

    /// Throws where the lead cannot be handed over at `position`: something was written since, or the few who promise then need not
    /// meet any that a promotion by the group before this one needs.
    func requireDrained(at position: String) throws {
        let end = logView.durableEnd
        guard isDrained.load(ordering: .relaxed), end.description == position else {
            throw NodeError(
                .notMet,
                "\(file.node) went on by itself, to \(end.short), because nobody took over in time; nothing was "
                    + "changed, run it again")
        }
        guard isSettled else {
            throw NodeError(
                .notMet,
                "\(file.node) is about to count one more replica; nothing was changed, run it again (walctl status says what it "
                    + "waits for)")
        }
    }

    /// The role begins anew, as after a restart.
    func undrain(_ why: String) {
        guard drainDeadline.withLock({ $0.take() }) != nil, !isOver, file.role == .primary else { return }
        logger.notice("\(why)")
        host.request(.appointed)
    }

    private static let drainNanoseconds: UInt64 = 60_000_000_000

    private func stop() async {
        signal.stopped.update { $0 = true }
        progress.isCancelled.store(true, ordering: .relaxed)
        mailbox.stop()
        verifications.close()
        verifyProgress.isCancelled.store(true, ordering: .relaxed)
        await finished.waitForCapture()
        do { try replicas.save() } catch { logger.warning("slots are not saved: \(error)") }
        await peers.close()
        do { try catalog.close() } catch { logger.warning("\(error)") }
    }
}
