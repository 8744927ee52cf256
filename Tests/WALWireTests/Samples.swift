import WALFormat
import WALTestKit
import WALWire

/// Valid messages: one of each type for tables, and random ones for round trips.
enum Samples {
    static let history = HistoryID(Digest(high: 0x0011_2233_4455_6677, low: 0x8899_AABB_CCDD_EEFF))
    static let otherHistory = HistoryID(Digest(high: 1, low: 2))

    static let receiver = Hello(
        role: .receiver, node: "replica", history: history, promisedEpoch: 3,
        position: Position(epoch: 3, seq: 10, chain: Digest(high: 10, low: 10)))
    static let sender = Hello(
        role: .sender, node: "primary", history: history, promisedEpoch: 3,
        position: Position(epoch: 3, seq: 20, chain: Digest(high: 20, low: 20)))

    static let ack = Ack(
        received: 12, durable: 11, applied: 10, consumedBytes: 0, isSyncing: false, wantsHeartbeat: true, clock: 7,
        writtenBytes: 13,
        copiedBytes: 14, loggedBytes: 15)
    static let heartbeat = Heartbeat(position: sender.position, captureTime: 5, clock: 6, echo: 7)
    static let syncBegin = SyncBegin(
        position: sender.position, treeDigest: .zero, lastObject: 9, objectCount: 8, contentBytes: 7)
    static let entries = SyncEntries(count: 1, codec: .none, rawBytes: 3, bytes: [1, 2, 3])
    static let block = BlockAnswer(object: 4, offset: 0, rawBytes: 3, codec: .none, isGone: false, bytes: [4, 5, 6])
    static let want = [BlockRequest(object: 4, offset: 0, block: ContentBlock(length: 3, digest: .zero))]

    /// One of each type, in the order of their numbers.
    static let each: [Message] = [
        .hello(sender), .welcome(Welcome(way: .stream, history: history, resumedBytes: 0)),
        .refuse(Refusal(.busy, "later")), .segmentPart(SegmentPart(seq: 11, offset: 0, total: 9, bytes: [1, 2, 3])),
        .ack(ack), .heartbeat(heartbeat), .syncBegin(syncBegin), .syncEntries(entries), .syncEnd,
        .syncDone(sender.position), .want(want), .block(block), .request(Array("{}".utf8)),
        .response(Array("{}".utf8)), .group(group), .content([1, 2, 3]),
    ]

    static let group = Group(
        leader: "127.0.0.1:7420", syncReplicas: 1,
        members: [
            Group.Member(name: "replica", address: "127.0.0.1:7421"), Group.Member(name: "other", address: ""),
        ])

    static func message(_ type: MessageType, _ random: inout SeededRandom) -> Message {
        switch type {
        case .hello: return .hello(hello(&random))
        case .welcome:
            return .welcome(
                Welcome(
                    way: [.stream, .list, .everything].randomElement(using: &random)!,
                    history: HistoryID(digest(&random)), resumedBytes: random.anyUInt64(),
                    behindBytes: random.anyUInt64()))
        case .refuse:
            return .refuse(
                Refusal(
                    Refusal.Code(rawValue: UInt8(random.int(in: 1...8)))!, text(4096, &random),
                    address: text(300, &random)))
        case .segmentPart:
            return .segmentPart(
                SegmentPart(
                    seq: number(&random), offset: random.anyUInt64(), total: random.anyUInt64(), bytes: some(&random)))
        case .ack:
            return .ack(
                Ack(
                    received: random.anyUInt64(), durable: random.anyUInt64(), applied: random.anyUInt64(),
                    consumedBytes: random.anyUInt64(), isSyncing: random.once(in: 2),
                    wantsHeartbeat: random.once(in: 2), clock: clock(&random),
                    writtenBytes: random.anyUInt64(), copiedBytes: random.anyUInt64(),
                    loggedBytes: random.anyUInt64(), groupTag: random.anyUInt64()))
        case .heartbeat:
            return .heartbeat(
                Heartbeat(
                    position: position(&random), captureTime: clock(&random), clock: clock(&random),
                    echo: clock(&random)))
        case .syncBegin:
            return .syncBegin(
                SyncBegin(
                    position: position(&random), treeDigest: digest(&random), lastObject: random.anyUInt64() >> 2,
                    objectCount: random.anyUInt64(), contentBytes: random.anyUInt64()))
        case .syncEntries:
            let coded = coded(limit: 9000, &random)
            return .syncEntries(
                SyncEntries(
                    count: UInt32(truncatingIfNeeded: random.anyUInt64()), codec: coded.codec,
                    rawBytes: coded.rawBytes, bytes: coded.bytes))
        case .syncEnd: return .syncEnd
        case .syncDone: return .syncDone(position(&random))
        case .want: return .want((0..<random.int(in: 0...20)).map { _ in request(&random) })
        case .block: return .block(block(&random))
        case .request: return .request(some(&random))
        case .response: return .response(some(&random))
        case .group:
            return .group(
                Group(
                    leader: text(300, &random), syncReplicas: UInt32(truncatingIfNeeded: random.anyUInt64()),
                    members: (0..<random.int(in: 0...20)).map { _ in
                        Group.Member(name: text(255, &random), address: text(300, &random))
                    },
                    epochs: (0..<UInt64(random.int(in: 0...20))).map {
                        EpochStart(epoch: 2 + $0 * 3, seq: 1 + $0 * 7)
                    }))
        case .content: return .content(some(&random))
        }
    }

    static func position(_ random: inout SeededRandom) -> Position {
        Position(epoch: number(&random), seq: number(&random), chain: digest(&random))
    }

    private static func hello(_ random: inout SeededRandom) -> Hello {
        Hello(
            role: [.sender, .receiver, .control].randomElement(using: &random)!,
            flags: Hello.Flags(rawValue: UInt8(random.int(in: 0...7))), node: text(255, &random),
            history: HistoryID(digest(&random)), promisedEpoch: number(&random), position: position(&random),
            partialBytes: random.anyUInt64())
    }

    private static func block(_ random: inout SeededRandom) -> BlockAnswer {
        let coded = coded(limit: 9000, &random)
        let isGone = random.once(in: 4)
        return BlockAnswer(
            object: object(&random), offset: random.anyUInt64() >> 2, rawBytes: coded.rawBytes, codec: coded.codec,
            isGone: isGone, bytes: isGone ? [] : coded.bytes)
    }

    private static func request(_ random: inout SeededRandom) -> BlockRequest {
        let length = UInt32(random.int(in: 1...Limits.maxChunkBytes))
        return BlockRequest(
            object: object(&random), offset: random.anyUInt64() >> 2,
            block: ContentBlock(length: length, digest: digest(&random)))
    }

    /// At least one byte; `bytes` need not be what zlib makes, because the frame carries them unread.
    private static func coded(
        limit: Int, _ random: inout SeededRandom
    ) -> (codec: Codec, rawBytes: UInt32, bytes: [UInt8]) {
        let raw = random.int(in: 1...limit)
        guard random.once(in: 2) else { return (.none, UInt32(raw), random.bytes(raw)) }
        return (.zlib, UInt32(raw), random.bytes(random.int(in: 0..<raw)))
    }

    private static func digest(_ random: inout SeededRandom) -> Digest {
        Digest(high: random.next(), low: random.next())
    }

    private static func object(_ random: inout SeededRandom) -> ObjectID { max(random.anyUInt64() >> 2, 1) }

    /// An epoch or a seq.
    private static func number(_ random: inout SeededRandom) -> UInt64 {
        min(random.anyUInt64() >> 1, UInt64(Int64.max) - 1)
    }

    private static func clock(_ random: inout SeededRandom) -> Int64 {
        let value = Int64(random.anyUInt64() >> 2)
        return random.once(in: 4) ? -value : value
    }

    private static func some(_ random: inout SeededRandom) -> [UInt8] {
        random.bytes(random.int(in: 0...(random.once(in: 20) ? 50_000 : 200)))
    }

    private static func text(_ maxBytes: Int, _ random: inout SeededRandom) -> String {
        let letters = ["a", "Z", "0", " ", "-", "ä", "漢", "🐋", "\\", "\""]
        var text = ""
        for _ in 0..<random.int(in: 0...(random.once(in: 10) ? maxBytes / 4 : 12)) {
            text += letters.randomElement(using: &random)!
        }
        return text
    }
}

extension MessageType {
    static let all: [MessageType] = (1...16).map { MessageType(rawValue: $0)! }
}

extension Message {
    /// The payload as it goes over the wire.
    var payload: [UInt8] { Array(frame(epoch: 0)[FrameHeader.byteCount...]) }

    init(_ type: MessageType, _ payload: [UInt8]) throws(FormatError) {
        self = try payload.withBytes { bytes throws(FormatError) in try Message(type, payload: bytes) }
    }

    init(_ header: FrameHeader, _ payload: [UInt8]) throws(FormatError) {
        self = try payload.withBytes { bytes throws(FormatError) in try Message(header, payload: bytes) }
    }
}

extension FrameHeader {
    /// The first bytes of a frame with the checksum that goes with them.
    static func sealed(_ frame: [UInt8]) -> [UInt8] {
        let fields = frame.prefix(byteCount - 4)
        return fields + withUnsafeBytes(of: Digest(of: Array(fields)).short.littleEndian, Array.init)
    }

    init(_ bytes: [UInt8], isFirst: Bool = false) throws(FormatError) {
        self = try bytes.withBytes { all throws(FormatError) in try FrameHeader(decoding: all, isFirst: isFirst) }
    }
}
