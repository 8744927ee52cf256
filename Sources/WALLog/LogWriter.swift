import WALFormat
import WALSystem

/// Appends to a log. One owner, one thread; readers use ``view`` from any thread.
///
/// After the first write or sync that fails (a full disk at an append excepted) the writer is finished: what the disk
/// then holds is not known, and trying again proves nothing (fsync(2)). Every later call throws the same error, and the
/// log is recovered when it is opened again.
package final class LogWriter {
    package let view: LogView
    /// The last segment appended, or the base of an empty log.
    package private(set) var end: Position
    /// The last segment that a sync covers.
    package private(set) var durableEnd: Position

    private let directory: Directory
    private var history: HistoryID
    private let rollBytes: UInt64
    private var current: CurrentFile?
    /// A file was created and the directory not synced since.
    private var hasNewName = false
    private var failure: LogError?
    private var gathered: [UInt8] = []

    /// The file that is written to. Its descriptor is closed by `deinit`, which can lose nothing: a file is synced before
    /// the writer lets go of it, or the writer is finished.
    private final class CurrentFile {
        let file: File
        let name: Name
        var record: FileRecord

        init(file: consuming File, record: FileRecord) {
            self.file = file
            self.name = record.info.name
            self.record = record
        }
    }

    private init(
        directory: Directory, history: HistoryID, rollBytes: UInt64, records: [FileRecord], end: Position
    ) throws(LogError) {
        self.directory = directory
        self.history = history
        self.rollBytes = rollBytes
        self.end = end
        self.durableEnd = end
        view = LogView(directory: directory, history: history, records: records, end: end)
        if let record = records.last {
            let file = try system { () throws(SystemError) in try directory.openFileForWriting(record.info.name) }
            current = CurrentFile(file: file, record: record)
        }
    }

    /// Opens and recovers a log (Recovery.swift lists the cases). What is then in it is durable.
    ///
    /// - Parameters:
    ///   - directory: holds log files and nothing else that ends in `.log`; nobody else writes to it.
    ///   - quarantine: where a torn tail is kept.
    ///   - base: where the log stands when it has no segment.
    ///   - rollBytes: a file is closed before it exceeds this, see ``Retention/rollBytes``.
    package static func open(
        directory: Directory, quarantine: Directory, history: HistoryID, emptyAt base: Position,
        rollBytes: UInt64 = Limits.logFileBytes
    ) throws(LogError) -> (writer: LogWriter, report: RecoveryReport) {
        let recovery = try Recovery(directory: directory, quarantine: quarantine, history: history, emptyAt: base)
        let writer = try LogWriter(
            directory: directory, history: history, rollBytes: rollBytes, records: recovery.records,
            end: recovery.end)
        let report = RecoveryReport(files: recovery.records.count, end: recovery.end, cut: recovery.cut)
        return (writer, report)
    }

    package func append(_ segment: Segment) throws(LogError) {
        try append([segment])
    }

    /// Appends segments that follow each other and the log's end; otherwise ``LogError/notNext(seq:_:)`` and nothing is
    /// written. They are durable after ``sync()``.
    ///
    /// After ``LogError/noSpace(file:bytes:_:)`` and ``LogError/system(_:)`` the log ends at ``end``, which may be after
    /// some of the segments: go on with those that follow it.
    package func append(_ segments: [Segment]) throws(LogError) {
        try checkUsable()
        var next = Successor(history: history, after: end)
        for segment in segments {
            if let fault = next.fault(of: segment.header) { throw .notNext(seq: segment.header.seq, fault) }
            next.advance(over: segment.header, chain: segment.chain)
        }
        var rest = segments[...]
        while let first = rest.first {
            let target = try fileWithRoom(for: UInt64(first.bytes.count))
            var bytes = UInt64(first.bytes.count)
            let more = rest.dropFirst().prefix { segment in
                bytes += UInt64(segment.bytes.count)
                return target.record.info.bytes + bytes <= rollBytes && bytes <= LogWriter.maxGatheredBytes
            }
            let part = rest[..<more.endIndex]
            try write(part, to: target)
            rest = rest[part.endIndex...]
        }
    }

    /// Makes all that was appended durable and shows it to the readers.
    package func sync() throws(LogError) {
        try checkUsable()
        guard let current, durableEnd != end || hasNewName else { return }
        do throws(SystemError) {
            try current.file.syncData()
            if hasNewName { try directory.sync() }
        } catch {
            throw finish(.failed(file: "\(current.name)", error))
        }
        hasNewName = false
        durableEnd = end
        if !current.record.isEmpty { view.publish(current.record) }
    }

    /// Unlinks the oldest files as far as all their segments are ≤ `seq`. The newest that holds a durable segment stays:
    /// it says where the log stands. Readers keep what they have open.
    ///
    /// - Returns: bytes freed.
    @discardableResult
    package func prune(through seq: UInt64) throws(LogError) -> UInt64 {
        try checkUsable()
        var freed: UInt64 = 0
        for file in view.files.dropLast() {
            guard file.lastSeq <= seq else { break }
            try unlinkDurably(file.name)
            view.dropOldest()
            freed += file.bytes
        }
        return freed
    }

    /// Drops all segments: the log then stands at `base`, which the caller must have made durable, because an empty log
    /// does not say where it stands. Cut short by a crash it leaves the newest files, so that the log still ends where it
    /// did and the caller sees that it must be done again.
    ///
    /// `history` is the one that `base` lies on, where that is another than before; nil where it is the same.
    package func reset(to base: Position, history: HistoryID? = nil) throws(LogError) {
        try checkUsable()
        let firstSeqs = try LogName.list(directory)
        self.history = history ?? self.history
        view.reset(to: base, history: self.history)
        current = nil
        for firstSeq in firstSeqs {
            do throws(LogError) {
                try unlinkDurably(LogName.name(firstSeq: firstSeq))
            } catch {
                // Half of the files are gone: the old log is none any more, and the new one may not begin.
                throw finish(error)
            }
        }
        hasNewName = false
        end = base
        durableEnd = base
    }

    /// Segments up to this many bytes are put together for one pwrite(2).
    private static let maxGatheredBytes: UInt64 = 1 << 20

    private func checkUsable() throws(LogError) {
        if let failure { throw failure }
    }

    private func finish(_ error: LogError) -> LogError {
        failure = error
        return error
    }

    private func fileWithRoom(for bytes: UInt64) throws(LogError) -> CurrentFile {
        if let current, current.record.isEmpty || current.record.info.bytes + bytes <= rollBytes { return current }
        // Recovery cuts the newest file only, so this one must be whole on the disk before it ceases to be that.
        try sync()
        let record = FileRecord(after: end)
        do throws(SystemError) {
            let file = try directory.createFile(record.info.name)
            let created = CurrentFile(file: file, record: record)
            current = created
            hasNewName = true
            return created
        } catch {
            throw error.isNoSpace ? .noSpace(file: "\(record.info.name)", bytes: bytes, error) : .system(error)
        }
    }

    private func write(_ segments: ArraySlice<Segment>, to target: CurrentFile) throws(LogError) {
        let offset = target.record.info.bytes
        do throws(SystemError) {
            if segments.count == 1, let only = segments.first {
                try target.file.write(only.bytes, at: offset)
            } else {
                gathered.removeAll(keepingCapacity: true)
                for segment in segments { gathered += segment.bytes }
                try target.file.write(gathered, at: offset)
            }
        } catch {
            let bytes = segments.reduce(0) { $0 + UInt64($1.bytes.count) }
            throw error.isNoSpace
                ? takeBack(to: offset, target, bytes, error)
                : finish(.failed(file: "\(target.name)", error))
        }
        for segment in segments { target.record.add(segment.header, chain: segment.chain) }
        end = target.record.end
    }

    private func takeBack(to offset: UInt64, _ target: CurrentFile, _ bytes: UInt64, _ cause: SystemError) -> LogError {
        do throws(SystemError) {
            try target.file.truncate(to: offset)
            return .noSpace(file: "\(target.name)", bytes: bytes, cause)
        } catch {
            return finish(.failed(file: "\(target.name)", error))
        }
    }

    private func unlinkDurably(_ name: Name) throws(LogError) {
        try system { () throws(SystemError) in try directory.unlink(name) }
        do throws(SystemError) {
            // After each: a file system may make two unlinks durable in another order, and a gap would be refused.
            try directory.sync()
        } catch {
            throw finish(.failed(file: "\(name)", error))
        }
    }
}
