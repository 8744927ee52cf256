import WALFormat
import WALSystem

// How a log is found again after any end of the process or the machine.
//
// What is assumed of storage
// - What fdatasync(2) of a file and fsync(2) of its directory have acknowledged is there after a power loss.
// - What they have not: any part of it may be there, in any order, and the rest of the file's length reads as zeros or
//   as garbage. Nothing is assumed of sectors being written whole.
// - What was acknowledged may still rot; then a checksum fails.
//
// What the writer sees to
// - A file is durable, its name included, before the next one is created. So only the newest can have a torn tail.
// - Files are unlinked oldest first, the directory synced after each, and the newest file with a segment stays. So the
//   files that are there are always contiguous, and say by themselves where the log stands.
// - Nothing is acknowledged or shown to a reader before it is durable.
//
// What is found, and what is done
// 1. No file: the log is empty and stands where the caller says.
// 2. Files that are not contiguous; an older file that is not whole segments, each one's header and trailer linked to the
//    one before by chain, seq, epoch and history; a segment that is intact but does not follow: refused. No crash of
//    this program leaves that.
// 3. The newest file ends with a whole segment, all of it checked: nothing to do.
// 4. It ends with something else (less than a header; a header and less than its segment; zeros; garbage; a segment
//    with a wrong checksum) and no header of a later segment stands behind it: a torn tail, which no one was ever told
//    was durable. Copied to the quarantine, synced there, then cut off.
// 5. The same, with a header of a later segment behind it: refused. It may be a group of segments that the disk wrote in
//    another order before the power failed, but just as well rot in what was acknowledged, and cutting would lose that.
// 6. A format version of a later program, or bytes whose checksums all hold and that are not understood: refused, since
//    they are not torn.
// 7. After the cut no segment is left in the newest file: the file is removed.
//
// Case 4 cannot be told from rot in the very last segment. etcd does it by sectors that are all zeros
// (`wal/decoder.go`, `isTornEntry`), for which sectors must be written whole. Here the copy, the report and the
// replicas' positions keep such a loss from going unnoticed.
//
// Refused means: an error that names file and offset, and nothing on the disk was changed, other files included.
//
// The newest file is synced and then read past the cache: a process whose sync failed leaves pages that look clean and
// never reached the disk, and they must not pass for durable (promise: a failed sync is final). posix_fadvise(2) does
// not promise to drop them, but Linux drops clean pages that nobody has mapped or locked.

/// What opening a log found.
package struct RecoveryReport: Sendable {
    package struct Cut: Sendable {
        package var tail: TornTail
        /// The file in the quarantine that holds the bytes that were cut.
        package var copy: Name
    }

    package var files: Int
    /// The last whole segment, or the base of an empty log.
    package var end: Position
    /// nil when there was no torn tail.
    package var cut: Cut?

    package var cutBytes: UInt64 { cut?.tail.bytes ?? 0 }
}

struct Recovery {
    let directory: Directory
    let quarantine: Directory
    let base: Position
    private(set) var records: [FileRecord] = []
    private(set) var cut: RecoveryReport.Cut?
    private var expected: Successor

    /// Recovers the log; nothing is changed on the disk unless everything but the newest file's tail is right.
    init(
        directory: Directory, quarantine: Directory, history: HistoryID, emptyAt base: Position
    ) throws(LogError) {
        self.directory = directory
        self.quarantine = quarantine
        self.base = base
        expected = Successor(history: history, seq: nil)
        let firstSeqs = try LogName.list(directory)
        guard let newest = firstSeqs.last else { return }
        expected = Successor(history: history, seq: firstSeqs[0])
        for firstSeq in firstSeqs.dropLast() { try recoverOlder(firstSeq) }
        try recoverNewest(newest)
    }

    var end: Position { records.last?.end ?? base }

    private func open(_ firstSeq: UInt64) throws(LogError) -> (file: LogFile, size: UInt64) {
        let name = LogName.name(firstSeq: firstSeq)
        if let next = expected.seq, next != firstSeq {
            guard next < firstSeq else {
                throw .corrupt(file: "\(name)", offset: 0, .seq(expected: next, actual: firstSeq))
            }
            throw .missing(first: next, last: firstSeq - 1, file: "\(name)")
        }
        let file = try system { () throws(SystemError) in try LogFile(directory, name, durableBytes: 0) }
        return (file, try file.size())
    }

    private mutating func recoverOlder(_ firstSeq: UInt64) throws(LogError) {
        let (file, size) = try open(firstSeq)
        var walk = SegmentWalk(file: file, offset: 0, expected: expected)
        var record: FileRecord?
        while let location = try walk.next(limit: size) { add(location, to: &record) }
        guard let record else {
            let nothing = FormatError.truncated(what: "log file", needed: 1, available: 0)
            throw .corrupt(file: "\(file.name)", offset: 0, .damage(nothing))
        }
        records.append(record)
        expected = walk.expected
    }

    private mutating func recoverNewest(_ firstSeq: UInt64) throws(LogError) {
        let (file, size) = try open(firstSeq)
        try file.settle()
        var walk = SegmentWalk(file: file, offset: 0, expected: expected)
        var record: FileRecord?
        while true {
            switch try walk.nextInNewestFile(size: size) {
            case .segment(let location):
                add(location, to: &record)
                continue
            case .end: break
            case .torn(let tail): try cutOff(tail, file)
            }
            break
        }
        if let record {
            records.append(record)
        } else {
            try remove(file, firstSeq)
        }
        try syncDirectory()
    }

    private func add(_ location: LogLocation, to record: inout FileRecord?) {
        if record == nil {
            // The epoch before a log's first segment is not in the log. The caller may know it; if not, the first
            // segment's bounds it from above.
            let previous = location.header.previousChain
            let known = records.last?.end ?? base
            let follows = known.seq + 1 == location.header.seq && known.chain == previous
            record = FileRecord(
                after: follows
                    ? known
                    : Position(epoch: location.header.epoch, seq: location.header.seq - 1, chain: previous))
        }
        record?.add(location.header, chain: location.chain)
    }

    private mutating func cutOff(_ tail: TornTail, _ file: LogFile) throws(LogError) {
        if tail.offset == 0 { try checkRemovable(file) }
        let copy = try keep(tail, file)
        do throws(SystemError) {
            let target = try directory.openFileForWriting(file.name)
            try target.truncate(to: tail.offset)
            try target.sync()
            try target.close()
        } catch {
            throw .failed(file: tail.file, error)
        }
        cut = RecoveryReport.Cut(tail: tail, copy: copy)
    }

    /// A lone file without a segment is only what it should be when it would start where the caller says the log does.
    private func checkRemovable(_ file: LogFile) throws(LogError) {
        let firstSeq = LogName.firstSeq(of: file.name.bytes) ?? 0
        guard !records.isEmpty || firstSeq == base.seq + 1 else {
            throw .corrupt(file: "\(file.name)", offset: 0, .seq(expected: base.seq + 1, actual: firstSeq))
        }
    }

    private func remove(_ file: LogFile, _ firstSeq: UInt64) throws(LogError) {
        try checkRemovable(file)
        try system { () throws(SystemError) in try directory.unlink(file.name) }
    }

    private func syncDirectory() throws(LogError) {
        do throws(SystemError) {
            try directory.sync()
        } catch {
            throw .failed(file: ".", error)
        }
    }

    /// A durable copy of the bytes, `log-SEQ-OFFSET-TIME.torn`: first seq of the file, offset in it, nanoseconds since
    /// 1970.
    private func keep(_ tail: TornTail, _ file: LogFile) throws(LogError) -> Name {
        let seq = LogName.firstSeq(of: file.name.bytes) ?? 0
        let name = Name(trusted: Array("log-\(seq)-\(tail.offset)-\(Clock.realtimeNanoseconds()).torn".utf8))
        do throws(SystemError) {
            let copy = try quarantine.createFile(name)
            // What is cut off next is nowhere else.
            guard try file.copy(offset: tail.offset, length: tail.bytes, to: copy) == tail.bytes else {
                throw SystemError(code: Errno.inputOutput, call: "copy_file_range", path: "\(name)")
            }
            try copy.sync()
            try copy.close()
            try quarantine.sync()
        } catch {
            // The error to report is the first one.
            try? quarantine.unlink(name)
            throw error.isNoSpace
                ? .noSpace(file: "quarantine/\(name)", bytes: tail.bytes, error) : .system(error)
        }
        return name
    }
}
