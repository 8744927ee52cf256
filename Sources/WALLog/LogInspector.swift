import WALFormat
import WALSystem

/// Reads a log without a writer, and changes nothing: for tools, and for the status when nothing runs.
///
/// Beside a running writer it sees what that had written when it came by: the tail may be a segment that is just being
/// written, and ``LogError/pruned(wanted:first:)`` says that a file went away under it.
package struct LogInspector {
    private let directory: Directory
    private var names: ArraySlice<Name>
    private var walk: SegmentWalk?
    private var size: UInt64 = 0
    private var expected: Successor
    /// After ``next()`` gave nil: what follows the last whole segment. nil when nothing does.
    package private(set) var tail: TornTail?

    /// - Parameter history: nil takes that of the first segment.
    package init(log directory: Directory, history: HistoryID? = nil) throws(LogError) {
        let firstSeqs = try LogName.list(directory)
        self.directory = directory
        names = firstSeqs.map { LogName.name(firstSeq: $0) }[...]
        expected = Successor(history: history, seq: firstSeqs.first)
    }

    /// One file, which may be anywhere and have any name.
    package init(file name: Name, in directory: Directory) {
        self.directory = directory
        names = [name]
        expected = Successor(history: nil, seq: LogName.firstSeq(of: name.bytes))
    }

    /// The next segment: headers and chain are checked, and all of it in the last file. nil at the end; see ``tail``.
    /// Throws what opening the log would throw.
    package mutating func next() throws(LogError) -> LogLocation? {
        while true {
            if walk != nil {
                if names.isEmpty { return try nextInNewestFile() }
                if let location = try walk?.next(limit: size) { return location }
                expected = walk?.expected ?? expected
                walk = nil
            }
            guard let name = names.popFirst() else { return nil }
            try open(name)
        }
    }

    private mutating func nextInNewestFile() throws(LogError) -> LogLocation? {
        guard tail == nil, let step = try walk?.nextInNewestFile(size: size) else { return nil }
        switch step {
        case .segment(let location): return location
        case .end: return nil
        case .torn(let found):
            tail = found
            return nil
        }
    }

    private mutating func open(_ name: Name) throws(LogError) {
        let firstSeq = LogName.firstSeq(of: name.bytes)
        if let next = expected.seq, let firstSeq, next < firstSeq {
            throw .missing(first: next, last: firstSeq - 1, file: "\(name)")
        }
        do throws(SystemError) {
            walk = SegmentWalk(
                file: try LogFile(directory, name, durableBytes: 0), offset: 0, expected: expected)
        } catch {
            guard error.code == Errno.noEntry, let firstSeq else { throw .system(error) }
            throw .pruned(wanted: firstSeq, first: firstSeq + 1)
        }
        size = try walk?.file.size() ?? 0
    }

    /// What a log holds.
    package struct Summary: Sendable {
        package var files: [LogFileInfo] = []
        /// The last whole segment; nil when there is none.
        package var end: Position?
        package var history: HistoryID?
        package var tail: TornTail?

        package var bytes: UInt64 { files.reduce(0) { $0 + $1.bytes } }
    }

    /// Goes through the whole log.
    package static func summary(log directory: Directory, history: HistoryID? = nil) throws(LogError) -> Summary {
        var inspector = try LogInspector(log: directory, history: history)
        var summary = Summary()
        var name: Name?
        while let location = try inspector.next() {
            if location.file.name != name {
                name = location.file.name
                summary.files.append(
                    LogFileInfo(firstSeq: location.header.seq, lastSeq: 0, bytes: 0, lastCaptureTime: 0))
            }
            let last = summary.files.count - 1
            summary.files[last].lastSeq = location.header.seq
            summary.files[last].bytes = location.offset + location.length
            summary.files[last].lastCaptureTime = location.header.captureTime
            summary.end = location.position
            summary.history = location.header.history
        }
        summary.tail = inspector.tail
        return summary
    }
}
