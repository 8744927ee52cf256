import Synchronization
import WALCatalog
import WALFormat
import WALSystem

package struct CaptureSettings: Sendable {
    /// How long a path must be quiet before it is looked at, in nanoseconds.
    package var settleNanoseconds: UInt64 = 50_000_000
    /// How long a path that is never quiet may be left alone, in nanoseconds.
    package var maxDelayNanoseconds: UInt64 = 1_000_000_000
    /// New content of one file beyond this is not put into the log.
    package var maxInlineBytes = Limits.defaultMaxInlineContentBytes
    /// Between two full scans, which find what raises no event; 0 for none.
    package var scanIntervalNanoseconds: UInt64 = 3_600_000_000_000
    /// Replicate device nodes, which without this are skipped and counted.
    package var capturesDevices = false
    /// Take more than half of a tree for deleted, of at least ``minGuardedDeletions`` objects, without asking.
    package var acceptsDeletions = false
    package static let minGuardedDeletions: UInt64 = 1000

    package init() {}
}

/// Who keeps what was captured. Called on the capture thread inside the catalog's transaction: the log comes first.
package protocol CaptureSink: AnyObject {
    /// Makes the entries durable as the next segment and returns its position. `state` is the catalog after them.
    func emit(
        _ changes: borrowing ChangeWriter, state: CatalogState, flags: SegmentHeader.Flags
    ) throws -> Position
}

package enum CaptureError: Error, Sendable, CustomStringConvertible {
    /// The root is not what it was; nothing is taken for deleted.
    case rootChanged(String)
    /// More of the tree is gone at once than is believed.
    case tooManyDeletions(gone: UInt64, of: UInt64)
    /// There is nobody to answer any more.
    case stopped

    package var description: String {
        switch self {
        case .rootChanged(let text): text
        case .tooManyDeletions(let gone, let all):
            "\(gone) of \(all) objects are gone from the tree at once; nothing was deleted on the replicas. Put them back, "
                + "or start with --accept-deletions if that is meant"
        case .stopped: "capture has stopped"
        }
    }
}

/// What the capture is doing, for status and progress. Shared between threads; each number is right by itself.
package final class CaptureProgress: Sendable {
    package enum Phase: Int, Sendable {
        case starting, scanning, watching, rescan, stalled, stopped
    }

    private let phaseValue = Atomic<Int>(0)
    /// Somebody wants the end: a scan stops where it is.
    package let isCancelled = Atomic<Bool>(false)
    package let namesSeen = Atomic<UInt64>(0)
    package let filesRead = Atomic<UInt64>(0)
    package let bytesRead = Atomic<UInt64>(0)
    package let dirty = Atomic<Int>(0)
    package let watches = Atomic<Int>(0)
    package let skippedSpecial = Atomic<UInt64>(0)
    package let immutable = Atomic<UInt64>(0)
    package let watchLimitReached = Atomic<Bool>(false)
    /// Why something is not replicated, by path; at most ``maxProblems``.
    private let problemTexts = Mutex<[String: String]>([:])
    package static let maxProblems = 100

    package init() {}

    package var phase: Phase {
        get { Phase(rawValue: phaseValue.load(ordering: .relaxed)) ?? .starting }
        set { phaseValue.store(newValue.rawValue, ordering: .relaxed) }
    }

    /// Throws ``CaptureError/stopped`` when the end is wanted.
    func checkCancelled() throws(CaptureError) {
        if isCancelled.load(ordering: .relaxed) { throw .stopped }
    }

    package var problems: [String: String] { problemTexts.withLock { $0 } }

    var hasProblems: Bool { problemTexts.withLock { !$0.isEmpty } }

    func report(_ path: String, _ problem: String) {
        problemTexts.withLock { if $0.count < Self.maxProblems || $0[path] != nil { $0[path] = problem } }
    }

    func clearProblem(_ path: String) {
        problemTexts.withLock { $0[path] = nil }
    }
}

/// How other threads speak to the capture thread.
package final class CaptureMailbox: Sendable {
    enum Request: Sendable {
        case mark(@Sendable (Result<Position, any Error>) -> Void)
        case rescan
        case stop
    }

    private let requests = Mutex<[Request]>([])
    private let isClosed = Mutex<Bool>(false)
    let wake: EventFD

    package init() throws {
        wake = try EventFD()
    }

    /// Captures all that was written before the call and gives the position that holds it. `done` is called on the
    /// capture thread.
    package func mark(_ done: @escaping @Sendable (Result<Position, any Error>) -> Void) {
        post(.mark(done))
    }

    package func rescan() {
        post(.rescan)
    }

    package func stop() {
        post(.stop)
    }

    private func post(_ request: Request) {
        let refused = isClosed.withLock { closed in
            if !closed { requests.withLock { $0.append(request) } }
            return closed
        }
        if refused {
            if case .mark(let done) = request { done(.failure(CaptureError.stopped)) }
            return
        }
        wake.signal()
    }

    func take() -> [Request] {
        requests.withLock { waiting in
            defer { waiting.removeAll() }
            return waiting
        }
    }

    /// After this nobody waits for an answer that never comes.
    package func close() {
        isClosed.withLock { $0 = true }
        for case .mark(let done) in take() {
            done(.failure(CaptureError.stopped))
        }
    }
}
