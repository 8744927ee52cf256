import Logging
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// The replica's apply thread: batches of segments from the log into the tree, syncs, and checks in between.
final class ApplyWorker {
    let node: ReplicaNode
    let catalog: Catalog
    let applier: Applier
    let log: LogView
    let logger: Logger

    /// Raw bytes that one batch holds in memory, more or less.
    private static let batchBytes: UInt64 = 16 << 20
    private static let batchSegments = 256

    init(node: ReplicaNode) {
        self.node = node
        catalog = node.catalog
        log = node.logView
        logger = node.logger
        applier = Applier(
            catalog: catalog, root: node.folder.root, staging: node.folder.staging,
            quarantine: Quarantine(directory: node.folder.quarantine), unset: node.unsetAttributes,
            written: node.written)
    }

    // MARK: Start

    /// Finishes what a crash interrupted and finds out where the replica stands.
    func prepare() throws {
        while true {
            do {
                try prepareOnce()
                node.recovered(\.applyStall)
                // Nothing may come to be applied for long, and the tree is there.
                if try node.servesTree { node.signal.ready.update { $0 = true } }
                return
            } catch {
                guard Applier.isNoSpace(error), wait(for: error) else { throw error }
                if node.waitForStop(nanoseconds: 0) { throw CaptureError.stopped }
            }
        }
    }

    private func prepareOnce() throws {
        try? node.folder.directory.unlink(Name("catalog.next.sqlite"))
        let state = try catalog.state()
        if try applier.hasHiddenTree, state.position.seq > 0 {
            try applier.finishShowing(at: node.folder.root)
        } else if try applier.hasHiddenTree {
            try indexHidden()
            node.update { $0.needsSync = true }
            return
        }
        try applier.recover()
        if state.position.seq > 0 {
            if state.mustReconcile { node.update { $0.needsSync = true } }
            try checkAtStart()
        } else if try !node.folder.root.entries().allSatisfy({ $0.name == Name(".wal") }) {
            try adopt()
        }
        reportDrift()
    }

    /// A tree that another tool seeded.
    private func adopt() throws {
        node.update { $0.phase = .scanning }
        logger.notice("adopting what is in \(node.host.rootPath)")
        try catalog.write { transaction in
            try transaction.removeEverything()
            try TreeIndex(progress: node.progress).fill(transaction, root: node.folder.root)
        }
        node.update {
            $0.isEmpty = false
            $0.needsSync = true
        }
    }

    /// A first sync that was cut off: what it brought is read and kept.
    func indexHidden() throws {
        try applier.hide()
        if try applier.root.entries().isEmpty {
            try applier.discardHidden()
            node.update { $0.isEmpty = true }
            applier.root = node.folder.root
            applier.isHidden = false
            return
        }
        node.update { $0.phase = .scanning }
        try catalog.write { transaction in
            try transaction.removeEverything()
            try TreeIndex(progress: node.progress).fill(transaction, root: applier.root)
        }
        node.update { $0.isEmpty = false }
    }

    private func checkAtStart() throws {
        node.update { $0.phase = .scanning }
        let result = try catalog.read { transaction in
            try TreeCheck(isDeep: false, ignoresSpecial: false, progress: node.progress).run(
                transaction, root: node.folder.root)
        }
        if try heal(result.differences) { node.update { $0.needsSync = true } }
    }

    private func heal(_ differences: [TreeDifference]) throws -> Bool {
        guard !differences.isEmpty else { return false }
        for difference in differences { logger.warning("drift: \(difference.path) is \(difference.kind.rawValue)") }
        return try applier.heal(
            differences.map {
                DriftedPlace(
                    place: $0.place, object: $0.object, isMissing: $0.kind == .missing,
                    isMetadataOnly: $0.kind == .metadata)
            })
    }

    private func reportDrift() {
        for drift in applier.quarantine.takeDrift() {
            let kept = drift.keptAs.map { "; it is kept as quarantine/\($0)" } ?? " or removed"
            logger.warning("\(drift.path) was changed on the replica\(kept)")
        }
    }

    // MARK: Work

    func run() throws {
        while let work = node.nextWork() {
            do {
                switch work {
                case .session(let session):
                    do { try sync(session) } catch  where isOfThePeer(error) {
                        throw session.link.ended("\(error)")
                    }
                case .segments: try applyBatch()
                case .check(let request): check(request)
                case .retire(let done):
                    guard try catalog.state().isWholeTree else {
                        done(.failure(node.notWhole))
                        break
                    }
                    do { try retire() } catch let error as NotKept {
                        done(.failure(error.cause))
                        break
                    } catch {
                        done(.failure(error))
                        throw error
                    }
                    done(.success(()))
                    return
                case .pending: try fetchMissing()
                }
                // A look at the tree says nothing of what waits.
                if case .check = work {} else { node.recovered(\.applyStall) }
            } catch ApplyError.interrupted {
                node.waitForLink()
            } catch let error as ApplyError {
                guard case .lost = error else { throw error }
                // Somebody took it away: found and healed like any other drift. A hidden tree was read again already.
                logger.warning("\(error)")
                if !applier.isHidden { try checkAtStart() }
                node.dropLink("the replica must reconcile")
            } catch {
                guard wait(for: error) else { throw error }
            }
            reportDrift()
        }
        try applier.finish()
    }

    /// Why the log could not be kept: this replica cannot lead, and goes on as one.
    private struct NotKept: Error {
        var cause: any Error
    }

    /// Ends this time as a replica, with a tree that is at the end of the log.
    ///
    /// What the log holds from where its primary began anew cannot be applied without that one. None of it was acknowledged.
    private func retire() throws {
        try applier.finish()
        // A reconcile that was cut off may have left some out.
        while try hasAppliable() {
            node.update { $0.needsSync = false }
            try applyBatch()
        }
        let state = try catalog.state()
        if try !log.holds(state.position) {
            // A reconcile has come further than the log, which did not begin anew there before the connection was lost.
            try node.resetLog(to: state)
        } else if state.position.seq < log.durableEnd.seq {
            let name: Name
            do { name = try node.keepLog(after: state.position) } catch { throw NotKept(cause: error) }
            let end = state.position.short
            logger.warning("its primary began anew after \(end); the log is kept in quarantine/\(name)")
            try node.resetLog(to: state)
        }
        node.update { $0.needsSync = false }
        try applier.retire()
    }

    /// Whether the log goes on from where the catalog is, with something else than a primary that began anew.
    private func hasAppliable() throws -> Bool {
        let position = try catalog.state().position
        guard try log.holds(position) else { return false }
        return try log.header(at: position.seq + 1).map { !$0.flags.contains(.baseline) } ?? false
    }

    /// False where nothing is to be waited for.
    private func wait(for error: any Error) -> Bool {
        switch error {
        case let error as SystemError
        where error.isNoSpace || error.isDenied || error.isBusy || error.isBeyondFileSystem:
            // Room may come, and so may a right: an immutable file, a device without the privilege to make it. What is
            // mounted in the tree may go, and what this file system cannot hold may go from the primary's.
            let remedy = error.isBusy ? "; something is mounted on it here, unmount that" : ""
            node.stall(\.applyStall, "\(error)\(remedy)", isRoom: error.isNoSpace)
        case CatalogError.full: node.stall(\.applyStall, "\(error)")
        default: return false
        }
        _ = node.waitForStop(nanoseconds: 1_000_000_000)
        return true
    }

    /// Where there was none before, what a sync brings is not asked for before there is: it would come again and again. It
    /// comes over the connection that the sync was begun on, which waits. After a minute it is tried all the same: holes take
    /// no room, and some file systems compress.
    func waitForRoom(_ bytes: UInt64) throws {
        guard applier.isShort else { return }
        let deadline = Clock.monotonicNanoseconds() + 60_000_000_000
        while Clock.monotonicNanoseconds() < deadline {
            do { return try node.folder.staging.requireRoom(for: bytes) } catch {
                guard wait(for: error) else { throw error }
            }
            guard !node.isSessionOver, !node.waitForStop(nanoseconds: 0) else { throw ApplyError.interrupted }
        }
    }

    /// What came in a sync is no tree, and nothing of this replica's is in doubt for that.
    private func isOfThePeer(_ error: any Error) -> Bool {
        switch error {
        case CatalogError.mismatch, ApplyError.mismatch: true
        case ApplyError.diverged: node.nodeFile.history == nil
        default: false
        }
    }

    /// Blocks that were gone may be there again, when a file came back to what it was.
    private func fetchMissing() throws {
        guard let link = node.link else { return }
        let left = try applier.fetchMissing(
            from: LinkBlocks(link: link, isUnasked: false) { [node] in node.consume($0) })
        if left == 0 { try settle() }
    }

    private func applyBatch() throws {
        // Of the last batch only this may be left: the catalog is at the log's end then, and no segment comes for it.
        try applier.goOn()
        let state = try catalog.state()
        var cursor = try log.cursor(after: state.position.seq)
        var sets: [ChangeSet] = []
        var rawBytes: UInt64 = 0
        while sets.count < Self.batchSegments, rawBytes < Self.batchBytes, let location = try cursor.next() {
            if location.header.flags.contains(.baseline) {
                guard sets.isEmpty else { break }
                try settle()
                logger.notice("segment \(location.header.seq) is where the primary began anew: reconciling")
                node.update {
                    $0.needsSync = true
                    $0.baseline = location.header.seq
                }
                node.dropLink("the replica must reconcile")
                return
            }
            rawBytes += location.header.rawBytes
            sets.append(try ChangeSet(try location.read()))
        }
        guard !sets.isEmpty else { return try settle() }
        let blocks: (any BlockSource)? =
            if let link = node.link {
                LinkBlocks(link: link, isUnasked: false) { [node] in node.consume($0) }
            } else if node.snapshot.isDraining {
                NoBlocks()
            } else {
                nil
            }
        try applier.apply(sets, blocks: blocks)
        try settle()
    }

    /// After a step: where the tree stands now.
    func settle() throws {
        let state = try catalog.state()
        node.applied(state.position, isComplete: state.isComplete)
    }

    private func check(_ request: CheckRequest) {
        do {
            let (result, report) = try catalog.read { transaction in
                let check = TreeCheck(isDeep: request.isDeep, ignoresSpecial: false, progress: node.progress)
                let result = try check.run(transaction, root: applier.root)
                return (
                    result,
                    VerifyReport(
                        transaction, history: node.nodeFile.history, result, isDeep: request.isDeep,
                        differences: result.differences)
                )
            }
            if request.isRepair, !result.differences.isEmpty, try heal(result.differences) {
                node.update { $0.needsSync = true }
                node.dropLink("the replica must reconcile")
            }
            request.done(.success(report))
        } catch {
            request.done(.failure(error))
        }
    }
}
