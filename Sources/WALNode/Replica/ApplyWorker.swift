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
    private let node: ReplicaNode
    private let catalog: Catalog
    private let applier: Applier
    private let log: LogView
    private let logger: Logger

    /// Raw bytes that one batch holds in memory, more or less.
    private static let batchBytes: UInt64 = 16 << 20
    private static let batchSegments = 256
    private static let hiddenBatchBytes = 8 << 20

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
    private func indexHidden() throws {
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
    private func waitForRoom(_ bytes: UInt64) throws {
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
    private func settle() throws {
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

    // MARK: Sync

    private func sync(_ session: SyncSession) throws {
        var isDone = false
        defer {
            // A sync that failed is asked for again by the next connection.
            if !isDone { session.link.connection.closeFromOutside(reason: "the sync did not come to its end") }
            node.end(session)
        }
        guard case .begin(let begin)? = session.parts.take() else { throw ApplyError.interrupted }
        node.update {
            $0.phase = .syncing
            $0.syncTotalFiles = begin.objectCount
            $0.syncTotalBytes = begin.contentBytes
            $0.syncFiles = 0
            $0.syncBytes = 0
        }
        if session.way == .everything {
            try receiveEverything(session, begin)
        } else {
            try receiveListing(session, begin)
        }
        try node.resetLog(to: try catalog.state())
        node.update {
            $0.isEmpty = false
            $0.needsSync = false
        }
        try settle()
        isDone = true
        let lacking = try catalog.state().isComplete ? "" : ", but for blocks that the primary has no more"
        logger.info("tree is at \(begin.position.short)\(lacking)")
        session.finished(begin.position)
    }

    /// The next part of the listing, and the bytes that it had on the wire.
    private func nextEntries(
        _ session: SyncSession, _ begin: SyncBegin
    ) throws -> (set: ChangeSet, needsBlocks: Bool, wireBytes: Int)? {
        switch session.parts.take() {
        case .entries(let entries):
            do throws(FormatError) {
                let (set, needsBlocks) = try changeSet(entries, begin)
                return (set, needsBlocks, entries.bytes.count)
            } catch {
                throw session.link.ended("\(error)")
            }
        case .end: return nil
        case .begin, nil: throw ApplyError.interrupted
        }
    }

    private func changeSet(
        _ entries: SyncEntries, _ begin: SyncBegin
    ) throws(FormatError) -> (set: ChangeSet, needsBlocks: Bool) {
        let body = try entries.raw()
        var changes: [Change] = []
        var needsBlocks = false
        try body.withBytes { raw throws(FormatError) in
            var reader = ChangeReader(raw, entryCount: entries.count)
            while let change = try reader.next() {
                if case .put(_, _, .file(let content)) = change, !needsBlocks {
                    needsBlocks = content.extents.contains { if case .fetch = $0 { true } else { false } }
                }
                changes.append(change)
            }
        }
        let set = ChangeSet(
            changes: changes, body: body, position: begin.position, treeDigest: nil, lastObject: begin.lastObject)
        return (set, needsBlocks)
    }

    private func receiveEverything(_ session: SyncSession, _ begin: SyncBegin) throws {
        // An earlier one that could not be read again, on a full disk. What is there is sent all the same, so it must go.
        if try applier.hasHiddenTree { try applier.discardHidden() }
        try waitForRoom(begin.contentBytes)
        try applier.hide()
        let blocks = LinkBlocks(link: session.link, isUnasked: true) { [node] bytes in
            node.consume(bytes)
            node.update { $0.syncBytes += bytes }
        }
        do {
            var sets: [ChangeSet] = []
            var bytes = 0
            while let (set, needsBlocks, wireBytes) = try nextEntries(session, begin) {
                sets.append(set)
                bytes += set.body.count
                // Blocks come right behind the entries that need them.
                if needsBlocks || bytes >= Self.hiddenBatchBytes {
                    try applier.applyHidden(sets, blocks: blocks)
                    sets.removeAll()
                    bytes = 0
                }
                node.consume(UInt64(wireBytes))
                node.update {
                    $0.syncFiles += UInt64(set.changes.count / 2)
                    $0.syncBytes += UInt64(set.body.count)
                }
            }
            if !sets.isEmpty { try applier.applyHidden(sets, blocks: blocks) }
        } catch {
            try indexHidden()
            node.update { $0.needsSync = true }
            throw error
        }
        // A replica belongs to nobody before it has what that one says.
        try require(begin, try catalog.state().treeDigest)
        try node.adoptHistory(of: session.sender)
        try applier.show(
            at: node.folder.root, position: begin.position, treeDigest: begin.treeDigest,
            lastObject: begin.lastObject)
    }

    private func require(_ begin: SyncBegin, _ digest: Digest) throws {
        guard digest == begin.treeDigest else {
            throw ApplyError.diverged(seq: begin.position.seq, expected: begin.treeDigest, actual: digest)
        }
    }

    private func receiveListing(_ session: SyncSession, _ begin: SyncBegin) throws {
        let path = node.folder.path + "/catalog.next.sqlite"
        for suffix in ["", "-wal", "-shm"] {
            try? node.folder.directory.unlink(Name(trusted: Array("catalog.next.sqlite\(suffix)".utf8)))
        }
        let next = try Catalog(path: path)
        defer {
            try? next.close()
            for suffix in ["", "-wal", "-shm"] {
                try? node.folder.directory.unlink(Name(trusted: Array("catalog.next.sqlite\(suffix)".utf8)))
            }
        }
        try next.write { transaction in
            let listing = Listing(transaction, at: begin.position)
            while let (set, _, wireBytes) = try nextEntries(session, begin) {
                for change in set.changes { try listing.add(change) }
                node.consume(UInt64(wireBytes))
                node.update { $0.syncFiles += UInt64(set.changes.count / 2) }
            }
            try require(begin, transaction.state.treeDigest)
        }
        let changes = try next.read { wanted in
            let isForeign = try catalog.state().position.seq == 0
            if try isForeign || catalog.read({ try $0.hasLocalObjects() }) {
                try catalog.write { own in
                    // Of a tree that was taken over, what is not replicated stays where it is. What an earlier sync brought
                    // is the primary's, and goes with its other names.
                    if isForeign, !applier.isHidden { try own.forgetExcluded(by: try wanted.filter()) }
                    try own.renumber(by: try own.match(wanted))
                }
            }
            let requests = try wanted.requests().map(Change.request)
            return requests + (try catalog.read { own in try TreeDiff(own: own, wanted: wanted).changes() })
        }
        logger.info("reconciling", metadata: ["changes": "\(changes.count)"])
        let set = ChangeSet(
            changes: changes, body: [], position: begin.position, treeDigest: begin.treeDigest,
            lastObject: begin.lastObject)
        let blocks = LinkBlocks(link: session.link, isUnasked: false) { [node] bytes in
            node.consume(bytes)
            node.update { $0.syncBytes += bytes }
        }
        try waitForRoom(set.fetchedBytes)
        // Before the tree is at a position of it: a position without its history could go on with another.
        try node.adoptHistory(of: session.sender)
        let (position, before) = (try catalog.state().position, node.snapshot.needsSync)
        // Once the catalog is at the end of it the log is not what the tree goes on from.
        node.update { $0.needsSync = true }
        do {
            try applier.apply([set], blocks: blocks, isReconcile: true)
        } catch {
            if try catalog.state().position == position { node.update { $0.needsSync = before } }
            // What was written went straight to its names, and the catalog does not know it.
            if applier.isHidden { try indexHidden() }
            throw error
        }
        if applier.isHidden {
            try applier.show(
                at: node.folder.root, position: begin.position, treeDigest: begin.treeDigest,
                lastObject: begin.lastObject)
        }
    }
}
