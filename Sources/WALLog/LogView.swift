import Synchronization
import WALFormat
import WALSystem

/// The durable part of a log for any number of readers on any threads, while its writer goes on.
package final class LogView: Sendable {
    private struct Entry: Sendable {
        var record: FileRecord
        /// One descriptor for all readers of a file, and none for a file that nobody reads.
        weak var file: LogFile?
    }

    private struct State: Sendable {
        var base: Position
        var end: Position
        var entries: [Entry]

        /// The entry that holds segment `seq`.
        func index(of seq: UInt64) -> Int? {
            guard seq > base.seq, seq <= end.seq else { return nil }
            var low = 0
            var high = entries.count
            while high - low > 1 {
                let middle = (low + high) / 2
                if entries[middle].record.info.firstSeq <= seq { low = middle } else { high = middle }
            }
            return low
        }
    }

    private let directory: Directory
    private let currentHistory: Mutex<HistoryID>
    private let state: Mutex<State>
    /// A cursor of an earlier one reads what is no longer the log.
    private let resets = Atomic<UInt64>(0)

    init(directory: Directory, history: HistoryID, records: [FileRecord], end: Position) {
        self.directory = directory
        currentHistory = Mutex(history)
        state = Mutex(
            State(
                base: records.first?.before ?? end, end: end,
                entries: records.map { Entry(record: $0, file: nil) }))
    }

    private var history: HistoryID { currentHistory.withLock { $0 } }

    var generation: UInt64 { resets.load(ordering: .acquiring) }

    /// Files that hold durable segments, oldest first; `bytes` counts only those segments.
    package var files: [LogFileInfo] { state.withLock { $0.entries.map(\.record.info) } }

    /// What the oldest segment follows, ``durableEnd`` when there is none. After files were pruned in an earlier run its
    /// epoch may be too high: compare its chain, which covers the epoch, or use ``holds(_:)``.
    package var base: Position { state.withLock { $0.base } }

    /// The oldest segment, or the one that would be.
    package var firstSeq: UInt64 { base.seq + 1 }

    /// The last segment that is durable, or the base.
    package var durableEnd: Position { state.withLock { $0.end } }

    /// Sum over ``files``.
    package var bytes: UInt64 { state.withLock { $0.entries.reduce(0) { $0 + $1.record.info.bytes } } }

    /// The position after segment `seq`, base and end included; nil when the log does not reach there.
    package func position(at seq: UInt64) throws(LogError) -> Position? {
        let (base, end) = state.withLock { ($0.base, $0.end) }
        if seq == end.seq { return end }
        if seq == base.seq { return base }
        return try location(at: seq)?.position
    }

    /// Whether a position lies on this log: the same past, and all that follows it is here.
    package func holds(_ position: Position) throws(LogError) -> Bool {
        try self.position(at: position.seq)?.chain == position.chain
    }

    /// nil when the segment is not in the log.
    package func header(at seq: UInt64) throws(LogError) -> SegmentHeader? {
        try location(at: seq)?.header
    }

    /// nil when the segment is not in the log.
    package func location(at seq: UInt64) throws(LogError) -> LogLocation? {
        guard var walk = try walk(toNear: seq) else { return nil }
        let limit = walk.file.durableBytes
        try walk.skip(to: seq, limit: limit)
        return try walk.next(limit: limit)
    }

    /// A cursor whose first segment is the one after `seq`. Throws ``LogError/pruned(wanted:first:)`` or
    /// ``LogError/beyond(wanted:end:)`` when the log does not reach there.
    package func cursor(after seq: UInt64) throws(LogError) -> LogCursor {
        // Before the rest is looked at: a reset in between is then seen by the cursor.
        let generation = generation
        let (base, end) = state.withLock { ($0.base, $0.end) }
        guard seq >= base.seq else { throw .pruned(wanted: seq + 1, first: base.seq + 1) }
        guard seq <= end.seq else { throw .beyond(wanted: seq, end: end.seq) }
        guard let position = try position(at: seq) else { throw .pruned(wanted: seq + 1, first: firstSeq) }
        var expected = Successor(history: history, after: position)
        // Of a pruned base only the chain is sure.
        if seq == base.seq { expected.epoch = 0 }
        return LogCursor(view: self, generation: generation, expected: expected)
    }

    /// Whether a primary that began anew says so in a segment after `seq`.
    package func beginsAnew(after seq: UInt64) throws(LogError) -> Bool {
        var cursor = try cursor(after: seq)
        while let location = try cursor.next() {
            if location.header.flags.contains(.baseline) { return true }
        }
        return false
    }

    /// Bytes of the segments `after + 1` to `through`: what a replica that has the former lacks of the latter. Reads at
    /// most two stretches of ``FileRecord/indexSpacing``, and none for whole files.
    package func bytesBetween(after: UInt64, through: UInt64) throws(LogError) -> UInt64 {
        guard after < through else { return 0 }
        let (files, base, end) = state.withLock { ($0.entries.map(\.record.info), $0.base, $0.end) }
        guard after >= base.seq else { throw .pruned(wanted: after + 1, first: base.seq + 1) }
        guard through <= end.seq else { throw .beyond(wanted: through, end: end.seq) }
        var total: UInt64 = 0
        for file in files where file.lastSeq > after && file.firstSeq <= through {
            let from = try file.firstSeq > after ? 0 : offset(of: after + 1)
            let to = try file.lastSeq <= through ? file.bytes : offset(of: through + 1)
            total += to - from
        }
        return total
    }

    private func offset(of seq: UInt64) throws(LogError) -> UInt64 {
        guard let location = try location(at: seq) else { throw .pruned(wanted: seq, first: firstSeq) }
        return location.offset
    }

    /// A walk that stands at segment `seq` or at most one stretch of the index before it; nil when the segment is not in
    /// the log.
    func walk(toNear seq: UInt64) throws(LogError) -> SegmentWalk? {
        let found = try state.withLock { state throws(LogError) -> (LogFile, FileRecord.IndexEntry)? in
            guard let index = state.index(of: seq) else { return nil }
            let file = try LogView.file(&state.entries[index], directory, base: state.base)
            return (file, state.entries[index].record.nearest(seq))
        }
        guard let (file, nearest) = found else { return nil }
        return SegmentWalk(
            file: file, offset: nearest.offset, expected: Successor(history: history, seq: nearest.seq))
    }

    private static func file(_ entry: inout Entry, _ directory: Directory, base: Position) throws(LogError) -> LogFile {
        if let file = entry.file { return file }
        let info = entry.record.info
        do throws(SystemError) {
            let file = try LogFile(directory, info.name, durableBytes: info.bytes)
            entry.file = file
            return file
        } catch {
            // The writer unlinks first and tells afterwards.
            throw error.code == Errno.noEntry ? .pruned(wanted: info.firstSeq, first: info.lastSeq + 1) : .system(error)
        }
    }

    // MARK: for the writer

    /// Shows the newest file as far as `record` goes, all of which must be durable.
    func publish(_ record: FileRecord) {
        state.withLock { state in
            if let last = state.entries.indices.last, state.entries[last].record.info.firstSeq == record.info.firstSeq {
                state.entries[last].record = record
                state.entries[last].file?.grow(to: record.info.bytes)
            } else {
                state.entries.append(Entry(record: record, file: nil))
            }
            state.end = record.end
        }
    }

    func dropOldest() {
        state.withLock { state in
            state.entries.removeFirst()
            state.base = state.entries.first?.record.before ?? state.end
        }
    }

    func reset(to base: Position, history: HistoryID) {
        state.withLock { state in
            currentHistory.withLock { $0 = history }
            state.entries = []
            state.base = base
            state.end = base
            resets.wrappingAdd(1, ordering: .acquiringAndReleasing)
        }
    }
}
