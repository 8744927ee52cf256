import WALFormat

/// A log file as the writer and the readers remember it.
struct FileRecord: Sendable {
    /// What the file's first segment follows.
    let before: Position
    private(set) var info: LogFileInfo
    /// Of the last segment; `before` while there is none.
    private(set) var end: Position
    /// Some segments' starts, ascending, the first one's among them: seeking goes to the nearest and walks on from there.
    private(set) var index: [IndexEntry] = []

    struct IndexEntry: Sendable {
        var seq: UInt64
        var offset: UInt64
    }

    /// 16 bytes of memory for each so many bytes of log; a walk over so many takes a millisecond at worst.
    static let indexSpacing: UInt64 = 256 << 10

    init(after position: Position) {
        before = position
        end = position
        info = LogFileInfo(firstSeq: position.seq + 1, lastSeq: position.seq, bytes: 0, lastCaptureTime: 0)
    }

    var isEmpty: Bool { info.bytes == 0 }

    /// Notes a segment that was written at the end of the file.
    mutating func add(_ header: SegmentHeader, chain: Digest) {
        if index.isEmpty || info.bytes - index[index.count - 1].offset >= FileRecord.indexSpacing {
            index.append(IndexEntry(seq: header.seq, offset: info.bytes))
        }
        info.lastSeq = header.seq
        info.bytes += header.segmentBytes
        info.lastCaptureTime = header.captureTime
        end = Position(epoch: header.epoch, seq: header.seq, chain: chain)
    }

    /// The last index entry at or before `seq`, which must be in the file.
    func nearest(_ seq: UInt64) -> IndexEntry {
        var low = 0
        var high = index.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if index[middle].seq <= seq { low = middle } else { high = middle }
        }
        return index[low]
    }
}
