import Synchronization
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// What clients read and write on a primary.
extension PrimaryNode: TreeService {
    func admit(_ look: ReadRequest, seconds: Double) throws {
        guard let text = look.after else { return }
        let wanted = try parse(text)
        try requireHistory(wanted, text)
        // A primary has all of its history in its tree; what it does not know it will not hear of.
        let end = logView.durableEnd
        guard wanted.isReached(by: end) else {
            throw NodeError(.notMet, "\(file.node) is the primary and at \(end.short), before \(text)")
        }
    }

    func requireSeen(_ position: String) throws {
        let wanted = try parse(position)
        guard wanted.epoch <= epoch else {
            throw NodeError(
                .noPrimary,
                "\(file.node) leads epoch \(epoch) and has not heard of epoch \(wanted.epoch), which \(position) is of")
        }
        try requireHistory(wanted, position)
    }

    private func parse(_ text: String) throws -> PositionText {
        do { return try PositionText(text) } catch { throw NodeError(.usage, "\(error)") }
    }

    func freshness(_ look: ReadRequest, seconds: Double) throws -> Freshness {
        var position: Position?
        if look.wantsPosition == true || look.after != nil {
            // What applications wrote, and was read, gets a position now: a replica that has it shows no less.
            position = try waitFor { [self] in
                try await mark(withinSeconds: seconds) { [self] done in mailbox.mark(done) }
            }
        }
        return Freshness(
            node: file.node, role: file.role.rawValue, position: position.map { PositionStatus($0) }, staleSeconds: 0,
            isStale: false)
    }

    func requireWritable() throws {
        guard !isDrained.load(ordering: .relaxed), !isOver else {
            throw NodeError(.noPrimary, "\(file.node) is handing over to another primary")
        }
        if signal.isStalled { throw NodeError(.noSpace, "no space for the log of \(file.node)") }
        if let doubt = progress.doubt { throw NodeError(.failed, doubt) }
    }

    func position(of request: RequestID) throws -> Position? {
        try catalog.read { try $0.position(of: request) }
    }

    func uploads() throws -> Directory { try Self.uploads(of: folder) }

    static func uploads(of folder: StateFolder) throws -> Directory {
        let name = Name("uploads")
        do throws(SystemError) {
            try folder.directory.makeDirectory(name, permissions: 0o700)
        } catch {
            if !error.isExisting { throw error }
        }
        let uploads = try folder.directory.openDirectory(name)
        try uploads.dropInheritedList()
        return uploads
    }

    /// Removes what clients of an earlier run have left.
    static func forgetUploads(of folder: StateFolder) throws {
        let uploads = try uploads(of: folder)
        for entry in try uploads.entries() { try uploads.removeTree(entry.name) }
    }

    static func applier(_ catalog: Catalog, _ folder: StateFolder) -> Applier {
        let applier = Applier(
            catalog: catalog, root: folder.root, staging: folder.staging,
            quarantine: Quarantine(directory: folder.quarantine))
        applier.isPrimary = true
        return applier
    }

    // MARK: Writing

    /// While somebody changes the same names, or the log is ahead of the tree.
    private static let retryNanoseconds: UInt64 = 20_000_000
    private static let busyTries = 25
    /// Beside the content, for the log, the catalog and the directories.
    private static let spareBytes: UInt64 = 1 << 20

    func write(_ write: TreeWrite, seconds: Double) throws -> Position {
        try requireWritable()
        try requireRoom(for: write)
        let deadline = Clock.monotonicNanoseconds() + UInt64(seconds * 1e9)
        var tries = 0
        while true {
            do {
                return try writeOnce(write, deadline)
            } catch let error as WriteRefusal {
                tries += 1
                guard case .busy = error.kind, tries < Self.busyTries, Clock.monotonicNanoseconds() < deadline else {
                    throw NodeError(error.kind == .notMet ? .notMet : .failed, "\(error)")
                }
            } catch CaptureError.stopped {
                throw NodeError(.noPrimary, "\(file.node) captures nothing any more")
            } catch let error as ApplyError {
                // It is logged, and found as that once the tree has it.
                guard case .unfinished = error, Clock.monotonicNanoseconds() < deadline else { throw error }
            }
            if signal.stopped.wait(timeoutNanoseconds: Self.retryNanoseconds, until: { $0 ? true : nil }) == true {
                throw NodeError(.noPrimary, "\(file.node) is stopping")
            }
        }
    }

    /// What goes into the log is written twice. A log that is full would keep everybody waiting.
    private func requireRoom(for write: TreeWrite) throws {
        var needed = Self.spareBytes
        if case .put(_, let upload) = write.operation {
            let size = try uploads().status(of: upload).size
            if size <= UInt64(settings.capture.maxInlineBytes) { needed += 2 * size }
        }
        let space = try folder.directory.space()
        guard space.availableBytes >= needed else {
            throw NodeError(
                .noSpace, "no space on the primary for this write: \(space.availableBytes) bytes are left")
        }
    }

    private func writeOnce(_ write: TreeWrite, _ deadline: UInt64) throws -> Position {
        let outcome = Monitor<Result<Position, any Error>?>(nil)
        mailbox.perform(
            CaptureWork({ [self] access in
                do {
                    let position = try perform(write, access)
                    outcome.update { $0 = .success(position) }
                } catch {
                    outcome.update { $0 = .failure(error) }
                    // The catalog is behind the log; nothing may be captured before that is put right.
                    if case ApplyError.unfinished = error { throw error }
                }
            }) { error in outcome.update { $0 = .failure(error) } })
        let left = deadline.elapsed(since: Clock.monotonicNanoseconds())
        let result: Result<Position, any Error>? = outcome.wait(timeoutNanoseconds: left) { $0 }
        guard let result else {
            throw NodeError(
                .notMet, "not written in time; it may still be, so ask again with the same request to find out")
        }
        return try result.get()
    }

    /// On the capture thread.
    private func perform(_ write: TreeWrite, _ access: CaptureAccess) throws -> Position {
        if let known = try access.catalog.read({ try $0.position(of: write.request) }) { return known }
        let applier = Self.applier(access.catalog, folder)
        let uploads = try uploads()
        var dropped: [ObjectID] = []
        var taken: (upload: Name, object: ObjectID)?
        do {
            let position = try applier.make(blocks: NoBlocks()) { catalog in
                var builder = try WriteBuilder(
                    catalog, root: root, uploads: uploads, maxInlineBytes: settings.capture.maxInlineBytes)
                let changes = try builder.build(write)
                dropped = builder.dropped
                if let object = builder.made, case .put(_, let upload) = write.operation {
                    try applier.take(upload, from: uploads, as: object)
                    taken = (upload, object)
                }
                return changes
            } log: { changes, state in
                try access.sink.emit(changes, state: state, flags: .client)
            }
            if !dropped.isEmpty { access.forget(dropped) }
            report(applier)
            return position ?? logView.durableEnd
        } catch {
            report(applier)
            if case ApplyError.unfinished = error { throw error }
            if let taken { try? applier.giveBack(taken.object, to: uploads, taken.upload) }
            throw error
        }
    }

    private func report(_ applier: Applier) { Self.report(applier.quarantine, logger) }

    func waitDurable(_ position: Position, count: Int, seconds: Double) throws {
        try waitFor { [self] in
            try await waitDurable(position, count: max(count, syncReplicas), Deadline(seconds: seconds))
        }
    }
}
