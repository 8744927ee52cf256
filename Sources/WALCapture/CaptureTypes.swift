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
    /// Between two looks at what could not be read, in nanoseconds.
    package var rereadIntervalNanoseconds: UInt64 = 60_000_000_000
    /// Replicate device nodes, which without this are skipped and counted.
    package var capturesDevices = false
    /// Take whatever the first scan finds deleted, and the root for the right one, without asking.
    package var acceptsDeletions = false
    /// What of the tree is replicated; nil for what it was.
    package var filter: Filter?
    /// At most so many inotify watches are taken; nil for as many as the system gives.
    package var maxWatches: Int?

    package init() {}
}

/// Who keeps what was captured. Called on the capture thread inside the catalog's transaction: the log comes first.
package protocol CaptureSink: AnyObject {
    /// Makes the entries durable as the next segment and returns its position. `state` is the catalog after them.
    func emit(
        _ changes: borrowing ChangeWriter, state: CatalogState, flags: SegmentHeader.Flags
    ) throws -> Position

    /// No segment was made yet.
    var isEmpty: Bool { get }

    /// True where room in the log waits for the catalog: no segment may go that the catalog would be repaired from, and
    /// one that is not durable may need any after ``Catalog/durableSeq``.
    var needsDurableCatalog: Bool { get }
}

package enum CaptureError: Error, Sendable, CustomStringConvertible {
    /// Another directory, or none, stands where the root was at the start.
    case rootReplaced(String)
    /// Nobody may look into the root for now.
    case rootDenied(String)
    /// The catalog is of another directory than the root.
    case otherTree
    /// What the state folder held at the start is not there any more.
    case stateGone(String)
    /// More of the tree is gone at once than is believed: of the objects that it had, and how many of them the log does not
    /// say to be gone.
    case tooManyDeletions(gone: UInt64, of: UInt64, kept: UInt64)
    /// Nothing is known of the tree any more, and this cannot be read.
    case unread(String)
    /// Another file system is mounted where one tree must be.
    case mountPoint(String)
    /// A file with more blocks than the format can tell, where all must be known.
    case tooLarge(String)
    /// There is nobody to answer any more.
    case stopped

    /// The tree may not be the tree, so nothing is taken for deleted: it takes somebody who knows, or time, to go on.
    package var isDoubt: Bool {
        switch self {
        case .rootReplaced, .rootDenied, .otherTree, .stateGone, .tooManyDeletions, .unread: true
        case .mountPoint, .tooLarge, .stopped: false
        }
    }

    /// What a first scan has found before is right all the same.
    var endsScan: Bool {
        switch self {
        case .stopped, .unread: true
        default: false
        }
    }

    package var description: String {
        switch self {
        case .rootReplaced(let path):
            "\(path) is not the directory that it was at the start; nothing was taken for deleted"
        case .rootDenied(let path): "\(path) cannot be read: Permission denied; nothing was taken for deleted"
        case .otherTree:
            "the catalog describes another directory than the one that is there now; nothing was taken for deleted"
        case .stateGone(let path): "the state folder \(path) was removed or replaced while it was in use"
        case .tooManyDeletions(let gone, let all, let kept):
            "\(gone) of \(all) objects are gone from the tree at once; \(kept == gone ? "all" : "\(kept)") of these are kept "
                + "on the replicas"
        case .unread(let path):
            "\(path) cannot be read, and the catalog that knew it is gone; nothing was taken for deleted"
        case .mountPoint(let path):
            "\(path) is a mount point; a replica must be on one file system, so unmount it first"
        case .tooLarge(let path):
            "\(path) is larger than a segment can tell; no primary can have it, so remove it first"
        case .stopped: "capture has stopped"
        }
    }

    /// What to do about a doubt. `accept` is what an operator does to say that it is meant; `stateInRoot` is the name of the
    /// state folder where that has gone with the root.
    package func remedy(accept: String, stateInRoot: String?) -> String {
        switch self {
        case .rootReplaced:
            "put it back, or, if the new one is meant, stop, "
                + (stateInRoot.map { "move \($0) from the old one into it, " } ?? "")
                + "start again there and then \(accept)"
        case .rootDenied: "give back the right to read it"
        case .otherTree: "if this one was restored in its place, \(accept)"
        case .stateGone: "stop, and restore it from a copy, or start again to begin a new history"
        case .tooManyDeletions: "put them back, or, if that is meant, \(accept)"
        case .unread: "make it readable, or, if it is lost, \(accept): it is deleted on the replicas then"
        case .mountPoint, .tooLarge, .stopped: ""
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
    /// Directories by who tells of their changes: inotify, fanotify, or nobody, so that scans find them.
    package let watches = Atomic<Int>(0)
    package let filesystemWatches = Atomic<Int>(0)
    package let unwatched = Atomic<Int>(0)
    package let skippedSpecial = Atomic<UInt64>(0)
    package let immutable = Atomic<UInt64>(0)
    /// Objects with more bytes of extended attributes than an entry can hold.
    package let overloaded = Atomic<UInt64>(0)
    /// Why something is not replicated; at most ``maxProblems``. By place, because a path changes with any directory above.
    private let problemTexts = Mutex<[Place: (path: String, text: String)]>([:])
    package static let maxProblems = 100

    /// Why nothing is captured until somebody, or time, has put it right; nil while all is well.
    private let doubtText = Mutex<String?>(nil)

    package init() {}

    package var doubt: String? {
        get { doubtText.withLock { $0 } }
        set { doubtText.withLock { $0 = newValue } }
    }

    package var phase: Phase {
        get { Phase(rawValue: phaseValue.load(ordering: .relaxed)) ?? .starting }
        set { phaseValue.store(newValue.rawValue, ordering: .relaxed) }
    }

    /// Throws ``CaptureError/stopped`` when the end is wanted.
    func checkCancelled() throws(CaptureError) {
        if isCancelled.load(ordering: .relaxed) { throw .stopped }
    }

    /// By path.
    package var problems: [String: String] {
        problemTexts.withLock { Dictionary($0.values.map { ($0.path, $0.text) }) { first, _ in first } }
    }

    var hasProblems: Bool { problemTexts.withLock { !$0.isEmpty } }

    var problemPlaces: [Place] { problemTexts.withLock { Array($0.keys) } }

    func report(_ place: Place, path: String, _ text: String) {
        problemTexts.withLock { if $0.count < Self.maxProblems || $0[place] != nil { $0[place] = (path, text) } }
    }

    func setProblemPath(_ place: Place, _ path: String) {
        problemTexts.withLock { $0[place]?.path = path }
    }

    /// A scan meets them again where they are still there.
    func clearProblems() {
        problemTexts.withLock { $0.removeAll() }
    }

    func clearProblem(_ place: Place) {
        problemTexts.withLock { $0[place] = nil }
    }
}
