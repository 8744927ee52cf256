import WALFormat
import WALSystem

/// Bytes at the end of the newest log file that are no whole segment.
package struct TornTail: Equatable, Sendable {
    /// A name in the log's directory.
    package var file: String
    package var offset: UInt64
    package var bytes: UInt64
    package var reason: FormatError
}

/// What stands next in the newest file of a log.
enum TailStep {
    case segment(LogLocation)
    case end
    case torn(TornTail)
}

extension SegmentWalk {
    /// ``next(limit:)`` for the newest file, whose end may be torn: reads and checks the whole segment, and tells a torn
    /// tail from damage by what stands behind it (see Recovery.swift, cases 3 to 6).
    mutating func nextInNewestFile(size: UInt64) throws(LogError) -> TailStep {
        let before = expected
        do throws(LogError) {
            guard let location = try next(limit: size) else { return .end }
            _ = try location.read()
            return .segment(location)
        } catch {
            guard case .corrupt(let name, let offset, .damage(let reason)) = error else { throw error }
            if let later = try laterSegment(behind: offset, size: size, expected: before) {
                throw .corrupt(
                    file: name, offset: offset,
                    .damageInside(reason, laterOffset: later.offset, laterSeq: later.seq))
            }
            return .torn(TornTail(file: name, offset: offset, bytes: size - offset, reason: reason))
        }
    }

    /// A header of the same log behind `offset`, at any byte. The content of a file may look like one, when somebody
    /// keeps a copy of the log in the tree: that copy is older than the segment it is in, so its numbers are lower.
    private func laterSegment(
        behind offset: UInt64, size: UInt64, expected: Successor
    ) throws(LogError) -> (offset: UInt64, seq: UInt64)? {
        var position = offset + 1
        while position < size, size - position >= UInt64(SegmentHeader.byteCount) {
            let bytes = try file.read(count: Int(min(256 << 10, size - position)), at: position)
            guard bytes.count >= SegmentHeader.byteCount else { return nil }
            let found = bytes.withUnsafeBytes { all in
                SegmentWalk.headers(in: all).first { expected.mayLead(to: $0.header) }
            }
            if let found { return (position + UInt64(found.offset), found.header.seq) }
            // A header may lie across two reads.
            position += UInt64(bytes.count - SegmentHeader.byteCount + 1)
        }
        return nil
    }

    private static func headers(in bytes: UnsafeRawBufferPointer) -> [(offset: Int, header: SegmentHeader)] {
        let magic = SegmentHeader.magic.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        let first = SegmentHeader.magic[0]
        var found: [(offset: Int, header: SegmentHeader)] = []
        for offset in 0...(bytes.count - SegmentHeader.byteCount) where bytes[offset] == first {
            guard bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) == magic,
                let header = try? SegmentHeader(decoding: UnsafeRawBufferPointer(rebasing: bytes[offset...]))
            else { continue }
            found.append((offset, header))
        }
        return found
    }
}

extension Successor {
    /// Whether a segment can come some time after the next one.
    fileprivate func mayLead(to header: SegmentHeader) -> Bool {
        header.seq > seq ?? 0 && header.epoch >= epoch && (history == nil || header.history == history)
    }
}
