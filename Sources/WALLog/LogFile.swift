import Synchronization
import WALFormat
import WALSystem

/// Names of log files: the number of the first segment in 20 digits, so that they sort as they follow, and `.log`.
package enum LogName {
    private static let digits = 20
    private static let suffix = Array(".log".utf8)

    package static func name(firstSeq: UInt64) -> Name {
        let number = String(firstSeq)
        return Name(trusted: Array(repeatElement(0x30, count: digits - number.utf8.count)) + number.utf8 + suffix)
    }

    /// nil when it is not such a name.
    package static func firstSeq(of name: [UInt8]) -> UInt64? {
        guard name.count == digits + suffix.count, name.suffix(suffix.count).elementsEqual(suffix),
            name.prefix(digits).allSatisfy({ (0x30...0x39).contains($0) }),
            let seq = UInt64(String(decoding: name.prefix(digits), as: UTF8.self)), seq > 0
        else { return nil }
        return seq
    }

    /// First seqs of all log files, ascending. Names that do not end in `.log` are somebody else's.
    static func list(_ directory: Directory) throws(LogError) -> [UInt64] {
        var found: [UInt64] = []
        for entry in try system({ () throws(SystemError) in try directory.entries() }) {
            if let seq = firstSeq(of: entry.name.bytes) {
                found.append(seq)
            } else if entry.name.bytes.suffix(suffix.count).elementsEqual(suffix) {
                throw .name("\(entry.name)")
            }
        }
        return found.sorted()
    }
}

/// What is known of a log file without opening it.
package struct LogFileInfo: Hashable, Sendable {
    package var firstSeq: UInt64
    package var lastSeq: UInt64
    /// Of whole segments.
    package var bytes: UInt64
    /// Of the last segment: nanoseconds since 1970 on the clock of the primary.
    package var lastCaptureTime: Int64

    package init(firstSeq: UInt64, lastSeq: UInt64, bytes: UInt64, lastCaptureTime: Int64) {
        self.firstSeq = firstSeq
        self.lastSeq = lastSeq
        self.bytes = bytes
        self.lastCaptureTime = lastCaptureTime
    }

    package var name: Name { LogName.name(firstSeq: firstSeq) }
}

/// An open log file, shared by all who read it: it stays readable after it was pruned, until the last of them lets go.
package final class LogFile: Sendable {
    package let name: Name
    private let file: File
    /// Bytes from the start that are whole segments and durable: they never change again. Grows while the file is the
    /// newest of its log.
    var durableBytes: UInt64 { durable.load(ordering: .acquiring) }
    private let durable: Atomic<UInt64>

    init(_ directory: Directory, _ name: Name, durableBytes: UInt64) throws(SystemError) {
        self.name = name
        self.file = try directory.openFile(name)
        self.durable = Atomic(durableBytes)
    }

    func grow(to bytes: UInt64) {
        durable.store(bytes, ordering: .releasing)
    }

    /// For sendfile(2) and the like; open as long as this object lives.
    package var descriptor: Int32 { file.descriptor }

    /// Up to `count` bytes from `offset` on; fewer only at the end of the file.
    func read(count: Int, at offset: UInt64) throws(LogError) -> [UInt8] {
        try system { () throws(SystemError) in try file.read(count: count, at: offset) }
    }

    func size() throws(LogError) -> UInt64 {
        try system { () throws(SystemError) in try file.size() }
    }

    /// Makes the file durable and drops it from the cache, so that what is read next comes from the disk.
    func settle() throws(LogError) {
        do throws(SystemError) {
            try file.syncData()
        } catch {
            throw .failed(file: "\(name)", error)
        }
        file.adviseNotNeeded()
    }

    /// Copies `offset..<offset + length` to the start of another file.
    ///
    /// - Returns: bytes copied, fewer only when the file ended.
    func copy(offset: UInt64, length: UInt64, to target: borrowing File) throws(SystemError) -> UInt64 {
        try target.copyRange(from: file, sourceOffset: offset, to: 0, length: length)
    }
}

/// A segment in a log file.
package struct LogLocation: Sendable {
    package let header: SegmentHeader
    package let chain: Digest
    package let file: LogFile
    package let offset: UInt64

    /// Bytes of the whole segment.
    package var length: UInt64 { header.segmentBytes }
    package var position: Position { Position(epoch: header.epoch, seq: header.seq, chain: chain) }

    /// Reads the segment and checks all of it, ``LogError/corrupt(file:offset:_:)``.
    package func read() throws(LogError) -> Segment {
        let bytes = try file.read(count: Int(length), at: offset)
        let segment: Segment
        do throws(FormatError) {
            segment = try Segment(verifying: bytes)
        } catch {
            throw corrupt(isSealed(segment: bytes, header: header) ? .unsupported(error) : .damage(error))
        }
        guard segment.header == header, segment.chain == chain else {
            throw corrupt(.damage(.checksum(what: "segment")))
        }
        return segment
    }

    private func corrupt(_ fault: Fault) -> LogError {
        .corrupt(file: "\(file.name)", offset: offset, fault)
    }
}

/// Whether body digest and chain hold. Such bytes are what a writer wrote, whatever this program thinks of them, so they
/// are never taken for a torn tail: that would cut off what a later program wrote with, say, a codec unknown here.
private func isSealed(segment bytes: [UInt8], header: SegmentHeader) -> Bool {
    guard UInt64(bytes.count) == header.segmentBytes else { return false }
    let bodyEnd = SegmentHeader.byteCount + Int(header.storedBytes)
    return bytes.withUnsafeBytes { all in
        var reader = ByteReader(all, what: "segment trailer", offset: bodyEnd)
        guard let trailer = try? SegmentTrailer(decoding: &reader) else { return false }
        let body = UnsafeRawBufferPointer(rebasing: all[SegmentHeader.byteCount..<bodyEnd])
        let stated = SegmentTrailer(header: Array(all[..<SegmentHeader.byteCount]), bodyDigest: trailer.bodyDigest)
        return trailer.bodyDigest == Digest(of: body) && trailer.chain == stated.chain
    }
}
