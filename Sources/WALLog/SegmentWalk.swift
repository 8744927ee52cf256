import WALFormat

/// What the next segment must say of its past.
struct Successor: Sendable {
    /// nil where any will do, as at the start of a walk; known from the first segment on.
    var history: HistoryID?
    var seq: UInt64?
    var chain: Digest?
    /// Least epoch.
    var epoch: UInt64 = 0

    init(history: HistoryID?, seq: UInt64?) {
        self.history = history
        self.seq = seq
        chain = seq == 1 ? Position.start.chain : nil
    }

    init(history: HistoryID, after position: Position) {
        self.history = history
        seq = position.seq + 1
        chain = position.chain
        epoch = position.epoch
    }

    /// nil when the segment is the one that follows.
    func fault(of header: SegmentHeader) -> Fault? {
        if let history, header.history != history { return .history(expected: history, actual: header.history) }
        if let seq, header.seq != seq { return .seq(expected: seq, actual: header.seq) }
        if let chain, header.previousChain != chain { return .chain(expected: chain, actual: header.previousChain) }
        if header.epoch < epoch { return .epoch(atLeast: epoch, actual: header.epoch) }
        return nil
    }

    mutating func advance(over header: SegmentHeader, chain: Digest) {
        history = header.history
        seq = header.seq + 1
        self.chain = chain
        epoch = header.epoch
    }
}

/// Goes through a log file from header to header. A segment's trailer and the next one's header lie side by side, so
/// that one pread(2) a segment checks the whole chain without reading a body; where segments are small, one serves for
/// many.
struct SegmentWalk: Sendable {
    let file: LogFile
    /// Of the segment that ``next(limit:)`` gives next.
    private(set) var offset: UInt64
    private(set) var expected: Successor
    private var window = Window()

    init(file: LogFile, offset: UInt64, expected: Successor) {
        self.file = file
        self.offset = offset
        self.expected = expected
    }

    /// The next segment; nil at `limit`, up to which the file must be whole segments that no longer change. After an
    /// error the walk stands where it stood.
    mutating func next(limit: UInt64) throws(LogError) -> LogLocation? {
        guard offset < limit else { return nil }
        let headerBytes = try window.bytes(of: file, at: offset, count: SegmentHeader.byteCount, limit: limit)
        let header = try decode(headerBytes)
        switch expected.fault(of: header) {
        case nil: break
        case .history(let expected, let actual):
            throw .foreign(file: "\(file.name)", offset: offset, expected: expected, actual: actual)
        case .some(let fault): throw .corrupt(file: "\(file.name)", offset: offset, fault)
        }
        guard header.segmentBytes <= limit - offset else {
            throw damage(.truncated(what: "segment", needed: header.segmentBytes, available: limit - offset))
        }
        let chain = try trailerChain(header, headerBytes, limit: limit)
        defer {
            offset += header.segmentBytes
            expected.advance(over: header, chain: chain)
        }
        return LogLocation(header: header, chain: chain, file: file, offset: offset)
    }

    /// Goes on to the start of segment `seq`, which must lie between here and `limit`.
    mutating func skip(to seq: UInt64, limit: UInt64) throws(LogError) {
        while let current = expected.seq, current < seq {
            guard try next(limit: limit) != nil else {
                throw damage(.truncated(what: "segment \(seq)", needed: 1, available: 0))
            }
        }
    }

    private func damage(_ error: FormatError) -> LogError {
        .corrupt(file: "\(file.name)", offset: offset, .damage(error))
    }

    private func decode(_ bytes: [UInt8]) throws(LogError) -> SegmentHeader {
        do throws(FormatError) {
            return try bytes.withBytes { all throws(FormatError) in try SegmentHeader(decoding: all) }
        } catch {
            if case .version(_, let found, let supported) = error {
                throw .version(file: "\(file.name)", offset: offset, found: found, supported: supported)
            }
            throw SegmentWalk.isSealed(bytes)
                ? .corrupt(file: "\(file.name)", offset: offset, .unsupported(error)) : damage(error)
        }
    }

    /// Whether magic and checksum hold, so that no accident of writing can be why it was refused.
    private static func isSealed(_ header: [UInt8]) -> Bool {
        guard header.count == SegmentHeader.byteCount, header.starts(with: SegmentHeader.magic) else { return false }
        return header.withUnsafeBytes { all in
            let stated = all.loadUnaligned(fromByteOffset: SegmentHeader.byteCount - 4, as: UInt32.self)
            return UInt32(littleEndian: stated) == crc32(UnsafeRawBufferPointer(rebasing: all.dropLast(4)))
        }
    }

    private mutating func trailerChain(
        _ header: SegmentHeader, _ headerBytes: [UInt8], limit: UInt64
    ) throws(LogError) -> Digest {
        let start = offset + header.segmentBytes - UInt64(SegmentTrailer.byteCount)
        let bytes = try window.bytes(of: file, at: start, count: SegmentTrailer.byteCount, limit: limit)
        do throws(FormatError) {
            let trailer = try bytes.withBytes { all throws(FormatError) in
                var reader = ByteReader(all, what: "segment trailer")
                return try SegmentTrailer(decoding: &reader)
            }
            guard trailer.chain == SegmentTrailer(header: headerBytes, bodyDigest: trailer.bodyDigest).chain else {
                throw .checksum(what: "segment chain")
            }
            return trailer.chain
        } catch {
            throw damage(error)
        }
    }
}

/// The part of a file that was read last.
private struct Window: Sendable {
    static let byteCount: UInt64 = 16 << 10
    private var start: UInt64 = 0
    private var held: [UInt8] = []

    /// `count` bytes at `offset`, fewer where `limit` or the file ends.
    mutating func bytes(of file: LogFile, at offset: UInt64, count: Int, limit: UInt64) throws(LogError) -> [UInt8] {
        let wanted = min(UInt64(count), limit - offset)
        if offset < start || offset + wanted > start + UInt64(held.count) {
            held = try file.read(count: Int(min(Window.byteCount, limit - offset)), at: offset)
            start = offset
        }
        let from = Int(offset - start)
        return Array(held[from..<min(held.count, from + Int(wanted))])
    }
}
