import WALCapture
import WALCatalog
import WALFormat
import WALSystem

/// Segments kept in memory instead of a log.
package final class MemorySink: CaptureSink, Sendable {
    private struct State: Sendable {
        var segments: [Segment] = []
        var end = Position.start
        var failure: (any Error)?
        var isHeld = false
        var isWaiting = false
    }

    package static let history = HistoryID(Digest(high: 1, low: 2))
    private let state = Monitor(State())

    package init() {}

    package var segments: [Segment] { state.withLock { $0.segments } }
    package let needsDurableCatalog = false
    package var isEmpty: Bool { segments.isEmpty }
    package var end: Position { state.withLock { $0.end } }

    /// Thrown instead of taking the next segment.
    package func fail(with error: (any Error)?) {
        state.withLock { $0.failure = error }
    }

    /// Lets whoever emits wait until ``release()``.
    package func hold() {
        state.withLock { $0.isHeld = true }
    }

    package func release() {
        state.update { $0.isHeld = false }
    }

    /// Waits until somebody waits here.
    package func waitForEmit() -> Bool {
        state.wait(timeoutNanoseconds: 10_000_000_000) { $0.isWaiting ? true : nil } ?? false
    }

    package func emit(
        _ changes: borrowing ChangeWriter, state catalog: CatalogState, flags: SegmentHeader.Flags
    ) throws -> Position {
        state.update { $0.isWaiting = true }
        let (end, failure) = state.wait { $0.isHeld ? nil : ($0.end, $0.failure) }!
        state.withLock { $0.isWaiting = false }
        if let failure { throw failure }
        let context = SegmentContext(
            history: Self.history, epoch: 1, previous: end, captureTime: Clock.realtimeNanoseconds(),
            treeDigest: catalog.treeDigest, lastObject: catalog.lastObject, flags: flags)
        let segment = Segment(changes, context: context, compression: .none)
        state.update {
            $0.segments.append(segment)
            $0.end = segment.position
        }
        return segment.position
    }
}

/// A primary: a directory, its catalog, and a capture that runs or does not.
package final class PrimaryTree {
    private let scratch: Scratch
    package let path: String
    package let statePath: String
    package var catalogPath: String { statePath + "/catalog.sqlite" }
    package private(set) var catalog: Catalog
    package let sink = MemorySink()
    package var settings: CaptureSettings = {
        var settings = CaptureSettings()
        settings.capturesDevices = true
        return settings
    }()
    /// Of all captures of this tree, one after the other.
    package var deletions = DeletionGuard(.standard)
    /// The capture sees files as this user would; nil for the user of the test.
    package var user: UInt32?
    package private(set) var progress = CaptureProgress()
    package private(set) var mailbox: CaptureMailbox?
    /// The root as the baseline has it.
    package private(set) var firstRoot: ObjectRow?
    private var thread: WorkerThread?
    private let outcome = Monitor<Outcome>(.running)

    package enum Outcome: Sendable {
        case running
        case ready
        case ended((any Error)?)
    }

    package init() throws {
        scratch = try Scratch()
        path = scratch.path + "/tree"
        statePath = scratch.path + "/state"
        try Files.makeDirectory(path)
        try Files.makeDirectory(statePath, mode: 0o700)
        catalog = try Catalog(path: statePath + "/catalog.sqlite", indexesBlocks: true)
        // Nothing is captured but by a mark, so that a test says what is looked at together.
        settings.settleNanoseconds = 60_000_000_000
        settings.maxDelayNanoseconds = 60_000_000_000
    }

    /// Captures what is there as soon as it likes, between any two calls of a test.
    package func captureEagerly() {
        settings.settleNanoseconds = 5_000_000
        settings.maxDelayNanoseconds = 500_000_000
    }

    deinit {
        mailbox?.stop()
        thread?.join()
    }

    /// Somewhere on the same file system, outside of the tree.
    package var outside: String { scratch.path }

    /// Starts a capture and waits for its first scan; throws what ends it before.
    package func start() throws {
        let mailbox = try CaptureMailbox()
        progress = CaptureProgress()
        outcome.withLock { $0 = .running }
        let make: @Sendable () throws -> Capture = {
            [path, statePath, catalog, sink, settings, deletions, progress] in
            try Capture(
                rootPath: path, root: try Directory.open(path: path), state: try Directory.open(path: statePath),
                catalog: catalog, sink: sink, settings: settings, deletions: deletions, mailbox: mailbox,
                progress: progress)
        }
        self.mailbox = mailbox
        thread = try WorkerThread.start(name: "capture") { [outcome, user] in
            do {
                if let user { Files.setFileUser(user) }
                try make().run { outcome.update { $0 = .ready } }
                outcome.update { $0 = .ended(nil) }
            } catch {
                outcome.update { $0 = .ended(error) }
            }
            mailbox.close()
        }
        let first = outcome.wait(timeoutNanoseconds: 30_000_000_000) { outcome -> Outcome? in
            if case .running = outcome { nil } else { outcome }
        }
        switch first {
        case .ready:
            if firstRoot == nil { firstRoot = try catalog.read { try $0.object(.root) } }
        case .ended(let error?): throw error
        default: throw TimedOut()
        }
    }

    package struct TimedOut: Error {}

    /// Stops the capture and returns the error that had ended it.
    @discardableResult
    package func stop() -> (any Error)? {
        mailbox?.stop()
        thread?.join()
        thread = nil
        mailbox = nil
        return outcome.withLock { if case .ended(let error) = $0 { error } else { nil } }
    }

    /// Captures all that was written until now.
    @discardableResult
    package func mark() throws -> Position {
        let answer = Monitor<Result<Position, any Error>?>(nil)
        mailbox!.mark { result in answer.update { $0 = result } }
        guard let result = answer.wait(timeoutNanoseconds: 30_000_000_000, until: { $0 }) else { throw TimedOut() }
        return try result.get()
    }

    /// Whether the catalog describes what is there, content included.
    package func check() throws -> [TreeDifference] {
        try catalog.read { transaction in
            try TreeCheck(isDeep: true, ignoresSpecial: true, progress: CaptureProgress())
                .run(transaction, root: try Directory.open(path: path)).differences
        }
    }

    /// Closes the catalog, and opens what stands at its path then.
    package func reopenCatalog(_ between: () throws -> Void = {}) throws {
        try catalog.close()
        try between()
        catalog = try Catalog(path: catalogPath, indexesBlocks: true)
    }

    /// The changes of the segments behind `seq`.
    package func changes(after seq: UInt64) throws -> [Change] {
        try sink.segments.filter { $0.header.seq > seq }.flatMap { try $0.changes() }
    }
}
