import WALFormat
import WALWire

/// One direction of a connection.
///
/// Fault model: bytes arrive in order, in chunks of any size, each once and unchanged, up to `limit`; what is behind it
/// never arrives. Damage of bytes on their way is TCP's to find, and what it misses the checksums of frames and segments.
struct Pipe {
    private var bytes: [UInt8] = []
    /// Bytes that have arrived.
    private(set) var carried = 0
    /// Where each frame ends, in bytes since the start.
    private(set) var frameEnds: [Int] = []
    var limit = Int.max
    /// Frames after which the limit is set.
    var frameLimit = Int.max

    init() {}

    mutating func write(frame: [UInt8]) {
        bytes += frame
        frameEnds.append(bytes.count)
        if frameEnds.count == frameLimit { limit = min(limit, bytes.count) }
    }

    mutating func deliver(upTo count: Int) -> [UInt8] {
        let end = min(bytes.count, limit, carried + count)
        defer { carried = end }
        return Array(bytes[carried..<end])
    }

    var isEmpty: Bool { carried == bytes.count }
    var isCut: Bool { carried >= limit }
}

/// Frames from chunks of bytes, as a connection reads them.
struct FrameReader {
    private var bytes: [UInt8] = []
    private var isFirst = true

    init() {}

    mutating func take(_ more: [UInt8]) {
        bytes += more
    }

    mutating func next() throws(FormatError) -> (message: Message, epoch: UInt64)? {
        guard bytes.count >= FrameHeader.byteCount else { return nil }
        let header = try FrameHeader(bytes, isFirst: isFirst)
        let end = FrameHeader.byteCount + Int(header.length)
        guard bytes.count >= end else { return nil }
        let message = try Message(header, Array(bytes[FrameHeader.byteCount..<end]))
        bytes.removeFirst(end)
        isFirst = false
        return (message, header.epoch)
    }
}
