import WALFormat
import WALSystem

/// The one error of this room. `file` is a name in the log's directory, `offset` a byte of that file.
package enum LogError: Error, Equatable, Sendable {
    /// A system call failed. Nothing was written, and the call may be tried again.
    case system(SystemError)
    /// The disk or the quota is full. What was written of `bytes` was taken back: free space, then append again.
    case noSpace(file: String, bytes: UInt64, SystemError)
    /// A write or a sync failed. What the disk holds after ``LogWriter/durableEnd`` is not known: the writer is finished.
    case failed(file: String, SystemError)
    /// A name that ends in `.log` and is not the number of a segment.
    case name(String)
    /// Segments `first` to `last` are missing before `file`.
    case missing(first: UInt64, last: UInt64, file: String)
    /// Bytes that are not the log that was written. Nothing was changed.
    case corrupt(file: String, offset: UInt64, Fault)
    /// A log of another history.
    case foreign(file: String, offset: UInt64, expected: HistoryID, actual: HistoryID)
    /// Written by a later program. Nothing was changed.
    case version(file: String, offset: UInt64, found: UInt32, supported: UInt32)
    /// A segment to append is not the one that follows the log's end.
    case notNext(seq: UInt64, Fault)
    /// The log does not reach back to `wanted` any more; it starts at `first`.
    case pruned(wanted: UInt64, first: UInt64)
    /// The log ends at `end`, before `wanted`.
    case beyond(wanted: UInt64, end: UInt64)
    /// The log was dropped and begun anew under a cursor.
    case reset
}

/// What is wrong with a segment.
package enum Fault: Equatable, Sendable {
    /// The bytes are not those that were written.
    case damage(FormatError)
    /// The same, and a later segment stands behind it: this is no torn tail.
    case damageInside(FormatError, laterOffset: UInt64, laterSeq: UInt64)
    /// Every checksum holds, and yet it is not understood.
    case unsupported(FormatError)
    case history(expected: HistoryID, actual: HistoryID)
    case seq(expected: UInt64, actual: UInt64)
    /// The chain of what precedes the segment.
    case chain(expected: Digest, actual: Digest)
    case epoch(atLeast: UInt64, actual: UInt64)
}

extension LogError {
    /// The log on this disk is not what was written to it, or not this node's; only an operator can decide.
    package var isCorruption: Bool {
        switch self {
        case .name, .missing, .corrupt, .foreign: true
        case .system, .noSpace, .failed, .version, .notNext, .pruned, .beyond, .reset: false
        }
    }
}

extension LogError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .system(let error): "\(error)"
        case .noSpace(let file, let bytes, let error):
            "no room for \(bytes) bytes in log file '\(file)': \(error); free some space or lower the log's budget"
        case .failed(let file, let error):
            "log file '\(file)' is in doubt: \(error); nothing after the last sync counts: check the disk, then restart"
        case .name(let file):
            "'\(file)' in the log's directory is no log file's name; move it out of there"
        case .missing(let first, let last, let file):
            "log file '\(file)' does not follow: segments \(first) to \(last) are missing before it; \(LogError.remedy)"
        case .corrupt(let file, let offset, let fault):
            "log file '\(file)' at offset \(offset): \(fault); nothing was changed; \(LogError.remedy)"
        case .foreign(let file, let offset, let expected, let actual):
            "log file '\(file)' at offset \(offset) is of history \(actual), not \(expected): it belongs to another "
                + "tree; put the right log there, or move it away"
        case .version(let file, let offset, let found, let supported):
            "log file '\(file)' at offset \(offset) has format version \(found), newer than \(supported), the last that "
                + "this program reads; nothing was changed: upgrade this program"
        case .notNext(let seq, let fault): "segment \(seq) does not follow the end of the log: \(fault)"
        case .pruned(let wanted, let first):
            "the log starts at segment \(first), segment \(wanted) was pruned: resync is needed"
        case .beyond(let wanted, let end): "the log ends at segment \(end), before segment \(wanted)"
        case .reset: "the log was begun anew meanwhile: connect again"
        }
    }

    private static let remedy =
        "restore the log from a copy, or move it away: the node goes on from its catalog, and replicas that lack "
        + "something of it reconcile"
}

extension Fault: CustomStringConvertible {
    package var description: String {
        switch self {
        case .damage(let error): "damaged: \(error)"
        case .damageInside(let error, let offset, let seq):
            "damaged: \(error), but segment \(seq) stands behind it at offset \(offset), so it is no torn tail"
        case .unsupported(let error): "intact, but not understood: \(error)"
        case .history(let expected, let actual): "history \(actual) where \(expected) is expected"
        case .seq(let expected, let actual): "segment \(actual) where \(expected) is expected"
        case .chain(let expected, let actual): "it follows chain \(actual), not \(expected)"
        case .epoch(let atLeast, let actual): "epoch \(actual) after epoch \(atLeast)"
        }
    }
}

/// Runs a system call of which nothing but its result is of interest.
func system<Value: ~Copyable>(_ body: () throws(SystemError) -> Value) throws(LogError) -> Value {
    do throws(SystemError) {
        return try body()
    } catch {
        throw .system(error)
    }
}
