import Logging
import Synchronization
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// Makes a node whose end is not on the primary's history one that can be a replica again, and loses nothing of what it
/// alone has.
///
/// 1. What was changed in a fenced primary's tree since it was fenced is captured into its own log, as ever.
/// 2. The fork is found: the last position that is on both logs.
/// 3. The segments after it, and every file and symlink that they or the capture touched, are copied to
///    `quarantine/EPOCH-SEQ/`, named for the fork, with a list for a person. Where no log reaches back to it, or
///    this node began anew after it, that is the whole tree.
/// 4. The catalog is marked as one that must reconcile, objects that were numbered after the fork get numbers of their
///    own, and the node becomes a replica. What is left is what any replica does that the log cannot bring forward.
///
/// Until the catalog is marked each step can be done again; then what is kept stays. So a crash anywhere is a restart of the
/// whole; the tree is not written to before the replica reconciles it.
struct Rejoin {
    let host: NodeHost
    let progress: CaptureProgress
    /// Says what the log has no room for; ends the wait for it.
    let signal: LogSignal
    let logger: Logger

    func run() throws {
        let file = host.identity.value
        let leader = try findLeader(file)
        let history = try file.historyID
        let catalog = try host.openCatalog(indexesBlocks: true)
        defer { try? catalog.close() }
        let (writer, _) = try LogWriter.open(
            directory: host.folder.log, quarantine: host.folder.quarantine, history: history,
            emptyAt: try catalog.state().position)
        // Of one that is to reconcile anyhow, an earlier attempt has kept what there was.
        if try !catalog.state().mustReconcile {
            try recapture(catalog, writer, history, epoch: writer.end.epoch)
        }
        let shared = try findFork(writer.view, leader)
        let fork = shared ?? writer.view.base
        let own = writer.end
        // Where even the base is of another past, so is the tree, though no segment is left that says so.
        let isForked = shared == nil || own.seq > fork.seq
        // Where this node began anew since, what it found in its tree then is in no segment either.
        let keepsAll = try shared == nil || writer.view.beginsAnew(after: fork.seq)
        // Objects that were numbered after the fork have other numbers once that is marked, and the segments do not tell of
        // those: what is kept by then is all that ever will be.
        let folder = try isForked ? folderName(fork) : nil
        if let folder, try !(catalog.state().mustReconcile && isKept(folder)) {
            try keep(after: fork, in: folder, writer.view, catalog, all: keepsAll)
            let what =
                keepsAll
                ? "nothing says what of this tree is on no other node; all of it is"
                : "segments \(fork.seq + 1) to \(own.seq) are on no other node; they and what they touched are"
            logger.warning("\(what) kept in quarantine/\(folder)")
        }
        let lastShared = keepsAll ? .root : try writer.view.header(at: fork.seq)?.lastObject ?? .root
        if try isForked || !writer.view.holds(catalog.state().position) {
            // It may be given up meanwhile, by one who wants this node to lead on: not while this is done.
            try host.identity.update { file in
                guard file.isRejoining == true else { throw CaptureError.stopped }
                try catalog.write(durably: true) { transaction in
                    try transaction.forgetPending()
                    try transaction.makeLocal(above: lastShared)
                    try transaction.forgetRequests(after: shared?.seq ?? 0)
                    // Nothing of this tree is a position of the history any more: it is neither served nor acknowledged.
                    if isForked { transaction.state.whole = .start }
                    transaction.state.mustReconcile = true
                    transaction.state.isComplete = false
                }
            }
        }
        // Whom it served as a primary it serves no more.
        try ReplicaRegistry.forget(in: host.folder.directory)
        try host.identity.update { file in
            guard file.isRejoining == true else { throw CaptureError.stopped }
            file.rejoin(leader.description)
        }
        logger.notice("rejoining \(leader) as a replica; the fork is at \(fork.short)")
    }

    /// Looks at the whole tree once.
    private func recapture(
        _ catalog: Catalog, _ writer: LogWriter, _ history: HistoryID, epoch: UInt64
    ) throws {
        try PrimaryNode.catchUp(catalog, with: writer, host.folder, logger)
        let sink = LogSink(
            writer: writer, catalog: catalog, history: history, epoch: max(epoch, 1), compression: .standard,
            retention: Retention(budgetBytes: .max, keepSeconds: .max),
            replicas: try ReplicaRegistry(folder: host.folder.directory), signal: signal, logger: logger)
        var settings = CaptureSettings()
        settings.acceptsDeletions = true
        settings.settleNanoseconds = 0
        settings.filter = try host.identity.value.filterValue
        let mailbox = try CaptureMailbox()
        let capture = try Capture(
            rootPath: host.rootPath, root: host.folder.root, state: host.folder.directory, catalog: catalog, sink: sink,
            settings: settings, deletions: DeletionGuard(.standard), mailbox: mailbox, progress: progress)
        // Asked before it runs: it is done after the first scan.
        mailbox.stop()
        try capture.run {}
        if progress.isCancelled.load(ordering: .relaxed) { throw CaptureError.stopped }
    }

    // MARK: The primary

    /// The one that this node was told of may have been followed by another while this one was away; then the group knows.
    private func findLeader(_ file: NodeFile) throws -> Address {
        var addresses: [Address] = []
        for text in [file.leader] + (file.members ?? []).map(\.address) {
            if let address = text.flatMap({ try? Address($0) }), !addresses.contains(address) {
                addresses.append(address)
            }
        }
        guard !addresses.isEmpty else { throw NodeError(.noPrimary, "no primary is known to rejoin") }
        let (asked, history) = (addresses, file.history ?? "")
        let seen = try waitFor { await GroupClient.explore(from: asked, history: history).seen }
        let primaries = seen.filter { $0.status.role == "primary" && $0.status.epoch >= file.promisedEpoch }
        guard let leader = primaries.max(by: { $0.status.epoch < $1.status.epoch }) else {
            if let lower = seen.first(where: { $0.status.role == "primary" }) {
                throw NodeError(
                    .noPrimary,
                    "\(lower.status.node) at \(lower.address) leads epoch \(lower.status.epoch), and this node has promised "
                        + "epoch \(file.promisedEpoch), to a promotion that came to nothing; walctl switchover \(lower.address) to one of "
                        + "its replicas begins an epoch that it can rejoin")
            }
            throw NodeError(
                .noPrimary,
                "no primary of epoch \(file.promisedEpoch) or later of this history answers at "
                    + asked.map(\.description).joined(separator: ", ") + " or at those that they name")
        }
        return leader.address
    }

    // MARK: The fork

    /// The last position that both logs have, nil where there is none. Positions up to it are common, and none after it, so it
    /// is searched by halves.
    private func findFork(_ log: LogView, _ leader: Address) throws -> Position? {
        let client = BlockingClient(leader)
        defer { client.close() }
        guard let status = try client.ask(ControlRequest(.status)).status, status.role == "primary" else {
            throw NodeError(.noPrimary, "\(leader) is not a primary")
        }
        guard status.history == host.identity.value.history else {
            throw NodeError(.diverged, "\(leader) has history \(status.history ?? "none"), this node another")
        }
        func isShared(_ seq: UInt64) throws -> Bool {
            guard let own = try log.position(at: seq) else { return false }
            var request = ControlRequest(.holds)
            request.position = own.description
            return try client.ask(request).isWhole ?? false
        }
        // Below the first segment that either still has, nothing can be compared.
        var low = max(log.base.seq, status.log.firstSeq > 0 ? status.log.firstSeq - 1 : 0)
        var high = min(log.durableEnd.seq, status.log.lastSeq)
        guard low <= high, try isShared(low) else {
            // All that there is counts as this node's own: more is kept than must be, never less.
            logger.warning("the logs have nothing in common any more; all of this node's log and tree is kept")
            return nil
        }
        while low < high {
            let middle = low + (high - low + 1) / 2
            if try isShared(middle) { low = middle } else { high = middle - 1 }
        }
        return try log.position(at: low) ?? log.base
    }

    // MARK: What is kept

    /// `EPOCH-SEQ` of the fork, with a number where an earlier rejoin had the same one; chosen once for each rejoin, so that one
    /// that is tried again keeps what there is in one place.
    private func folderName(_ fork: Position) throws -> Name {
        let plain = "\(fork.epoch)-\(fork.seq)"
        if let chosen = host.identity.value.rejoinFolder, chosen == plain || chosen.hasPrefix(plain + ".") {
            return Name(trusted: Array(chosen.utf8))
        }
        var name = plain
        var number = 1
        while try isKept(Name(trusted: Array(name.utf8))) {
            number += 1
            name = "\(plain).\(number)"
        }
        try host.identity.update { $0.rejoinFolder = name }
        return Name(trusted: Array(name.utf8))
    }

    /// A folder has its name when it is complete and on the disk.
    private func isKept(_ folder: Name) throws(SystemError) -> Bool {
        do throws(SystemError) {
            return try host.folder.quarantine.status(of: folder).kind == .directory
        } catch {
            if error.isNotFound { return false }
            throw error
        }
    }

    private func keep(after fork: Position, in name: Name, _ log: LogView, _ catalog: Catalog, all: Bool) throws {
        let unfinished = Name(trusted: name.bytes + Array(".unfinished".utf8))
        let quarantine = host.folder.quarantine
        try quarantine.removeTree(unfinished)
        try quarantine.makeDirectory(unfinished, permissions: 0o700)
        let folder = try quarantine.openDirectory(unfinished)
        var touched: Set<ObjectID> = []
        var removed: [String] = []
        let segments = try folder.createFile(Name("segments.log"))
        var offset: UInt64 = 0
        var cursor = try log.cursor(after: fork.seq)
        while let location = try cursor.next() {
            let segment = try location.read()
            try segments.write(segment.bytes, at: offset)
            offset += UInt64(segment.bytes.count)
            for change in try segment.changes() {
                switch change {
                case .put(let object, _, _), .metadata(let object, _), .bind(_, _, let object): touched.insert(object)
                case .unbind(let parent, let name):
                    let path = try catalog.read { try $0.path(of: parent) } ?? []
                    removed.append(PathText.joined(path + [name]))
                case .drop, .filter, .request: break
                }
            }
        }
        try segments.syncData()
        try segments.close()
        if all { try catalog.read { try $0.forEachObject { touched.insert($0.id) } } }
        let kept = try catalog.read { transaction in
            var keeper = QuarantineCopy(catalog: transaction, root: host.folder.root, into: folder)
            return try keeper.copy(touched.sorted())
        }
        let list = Self.list(fork, kept, removed)
        let file = try folder.createFile(Name("LIST"))
        try file.write(Array(list.utf8), at: 0)
        try file.close()
        try folder.syncFilesystem()
        // An earlier attempt of this rejoin has kept the same, or less: nothing was marked since.
        try quarantine.removeTree(name)
        try quarantine.rename(unfinished, to: quarantine, name)
        try quarantine.sync()
    }

    private static func list(_ fork: Position, _ kept: [String], _ removed: [String]) -> String {
        var lines = [
            "What this node had after \(fork.short) and no other node has.",
            "segments.log: the segments; walctl dump shows them. files/: the objects as they stood in the tree.", "",
        ]
        lines += kept.map { "kept     \($0)" }
        // The path is that of the directory as it is named now.
        lines += removed.map { "removed  \($0)" }
        return lines.joined(separator: "\n") + "\n"
    }
}
