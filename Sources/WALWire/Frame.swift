import WALFormat

/// The 24 bytes before every payload (walship-protocol(7), "Frames").
///
/// It has a checksum, and so has the payload: TCP's own lets one bad packet in some ten thousand through, and a bit of an
/// epoch would depose a primary, one of a length would make its reader wait for bytes that nobody sends.
package struct FrameHeader: Hashable, Sendable {
    package static let byteCount = 24
    private static let checkedBytes = 20

    /// Bytes of the payload.
    package var length: UInt32
    package var type: MessageType
    /// The sender's epoch.
    package var epoch: UInt64
    /// Of the payload, as far as ``MessageType/checkedBytes(of:)`` goes.
    package var payloadChecksum: UInt32

    package init(length: UInt32, type: MessageType, epoch: UInt64, payloadChecksum: UInt32) {
        self.length = length
        self.type = type
        self.epoch = epoch
        self.payloadChecksum = payloadChecksum
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(reserving: FrameHeader.byteCount)
        writer.integer(length)
        writer.integer(type.rawValue)
        writer.raw([0, 0, 0])
        writer.integer(epoch)
        writer.integer(payloadChecksum)
        writer.integer(Digest(of: writer.bytes).short)
        return writer.bytes
    }

    /// Reads the first 24 of `bytes`. The length is checked against the limit of its type, so that nothing is reserved
    /// for a frame that cannot be. `isFirst` is for the first frame of a peer, which is a hello or a refusal: nobody
    /// makes a node reserve the room of a request before it has said who it is.
    package init(decoding bytes: UnsafeRawBufferPointer, isFirst: Bool = false) throws(FormatError) {
        let what = "frame header"
        var reader = ByteReader(bytes, what: what)
        _ = try reader.take(Self.checkedBytes)
        guard try reader.integer(UInt32.self) == Digest(of: .init(rebasing: bytes[..<Self.checkedBytes])).short else {
            throw .checksum(what: what)
        }
        reader = ByteReader(bytes, what: what)
        length = try reader.integer(UInt32.self)
        let code = try reader.integer(UInt8.self)
        guard let type = MessageType(rawValue: code) else { throw .value(what: "type of a frame", UInt64(code)) }
        guard !isFirst || type == .hello || type == .refuse else {
            throw .value(what: "type of the first frame", UInt64(code))
        }
        self.type = type
        guard try reader.take(3).allSatisfy({ $0 == 0 }) else { throw .value(what: "reserved bytes of a frame", 1) }
        epoch = try reader.epoch()
        payloadChecksum = try reader.integer(UInt32.self)
        guard UInt64(length) <= UInt64(type.maxPayloadBytes) else {
            throw .limit("bytes of a \(type) frame", value: UInt64(length), limit: UInt64(type.maxPayloadBytes))
        }
    }
}

package enum MessageType: UInt8, Sendable {
    case hello = 1
    case welcome = 2
    case refuse = 3
    case segmentPart = 4
    case ack = 5
    case heartbeat = 6
    case syncBegin = 7
    case syncEntries = 8
    case syncEnd = 9
    case syncDone = 10
    case want = 11
    case block = 12
    case request = 13
    case response = 14
    case group = 15
    case content = 16

    package var maxPayloadBytes: Int {
        switch self {
        case .hello, .welcome, .refuse: Limits.maxHandshakeBytes
        case .ack, .heartbeat, .syncBegin, .syncEnd, .syncDone: 4096
        case .segmentPart, .block, .want, .group, .content: Limits.maxFrameBytes
        // One entry is never cut, and that of a large file has a table as long as the largest in a segment.
        case .syncEntries: Int(Limits.maxSegmentRawBytes) + 4096
        case .request, .response: Limits.maxControlBytes
        }
    }

    /// How much of a payload its frame's checksum is of: all, but for the bytes of a segment, which go out of the log
    /// unseen and have checksums of their own.
    package func checkedBytes(of payload: Int) -> Int {
        self == .segmentPart ? min(payload, SegmentPart.fieldBytes) : payload
    }
}
