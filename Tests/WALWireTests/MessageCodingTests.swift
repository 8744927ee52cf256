import Testing
import WALFormat
import WALTestKit
import WALWire

@Suite struct RoundTripTests {
    @Test(arguments: MessageType.all) func everyMessage(type: MessageType) throws {
        var random = SeededRandom()
        for round in 0..<500 {
            let message = Samples.message(type, &random)
            let epoch = random.anyUInt64() >> 1 & ~1
            let frame = message.frame(epoch: epoch)
            let header = try FrameHeader(frame)
            #expect(header.type == type && header.epoch == epoch, "round \(round), \(random.reproduce)")
            #expect(Int(header.length) == frame.count - FrameHeader.byteCount, "round \(round), \(random.reproduce)")
            #expect(try Message(type, message.payload) == message, "round \(round), \(random.reproduce)")
        }
    }

    /// A piece of a segment whose bytes the caller sends from the log itself.
    @Test func bytesFromElsewhere() throws {
        let piece = SegmentPart(seq: 1, offset: 2, total: 30, bytes: [7, 8, 9])
        let empty = SegmentPart(seq: 1, offset: 2, total: 30, bytes: [])
        let split = Message.segmentPart(empty).frame(epoch: 5, extraBytes: 3) + [7, 8, 9]
        #expect(split == Message.segmentPart(piece).frame(epoch: 5))
    }

    @Test(arguments: MessageType.all) func everyPrefixIsRefused(type: MessageType) throws {
        let payload = Samples.each[Int(type.rawValue) - 1].payload
        // These carry bytes to the end of the frame, so that only their fields can be cut.
        let fields = [MessageType.segmentPart: 24, .request: 0, .response: 0, .content: 0][type] ?? payload.count
        for count in 0..<fields {
            #expect(throws: FormatError.self, "\(count) bytes") { try Message(type, Array(payload.prefix(count))) }
        }
    }

    @Test(arguments: MessageType.all) func bytesBehindAMessageAreRefused(type: MessageType) throws {
        switch type {
        case .segmentPart, .request, .response, .content: break
        case .syncEntries, .block:
            // Their bytes go to the end of the frame; there is one too many for what the fields say.
            #expect(throws: FormatError.value(what: "stored bytes of a frame", 4)) {
                try Message(type, Samples.each[Int(type.rawValue) - 1].payload + [0])
            }
        default:
            #expect(throws: FormatError.trailing(what: "\(type) frame", bytes: 1)) {
                try Message(type, Samples.each[Int(type.rawValue) - 1].payload + [0])
            }
        }
    }
}

/// The bytes of each message as walship-protocol(7) has them.
@Suite struct MessageLayoutTests {
    private let position = Position(epoch: 2, seq: 3, chain: Digest(high: 0x0405, low: 0x0607))
    private let positionBytes: [UInt8] =
        [2, 0, 0, 0, 0, 0, 0, 0] + [3, 0, 0, 0, 0, 0, 0, 0] + [0, 0, 0, 0, 0, 0, 4, 5] + [0, 0, 0, 0, 0, 0, 6, 7]
    private let historyBytes: [UInt8] = (0..<16).map { $0 * 0x11 }

    private func u64(_ low: UInt8) -> [UInt8] { [low, 0, 0, 0, 0, 0, 0, 0] }

    @Test func hello() {
        let hello = Hello(
            role: .receiver, flags: [.empty, .needsSync], node: "né", history: Samples.history, promisedEpoch: 8,
            position: position, partialBytes: 9, address: "h:1")
        #expect(
            Message.hello(hello).payload
                == [1, 0, 2, 3] + [3, 0x6E, 0xC3, 0xA9] + historyBytes + u64(8) + positionBytes + u64(9)
                + [3, 0x68, 0x3A, 0x31])
    }

    @Test func group() {
        let group = Group(
            leader: "h:1", syncReplicas: 2,
            members: [Group.Member(name: "né", address: "i:2"), Group.Member(name: "x", address: "")],
            epochs: [EpochStart(epoch: 2, seq: 9)])
        #expect(
            Message.group(group).payload
                == [3, 0x68, 0x3A, 0x31] + [2, 0, 0, 0] + [2] + [3, 0x6E, 0xC3, 0xA9] + [3, 0x69, 0x3A, 0x32]
                + [1, 0x78] + [0] + [1] + u64(2) + u64(9))
        var other = group
        other.epochs[0].seq = 10
        #expect(group.tag != 0 && group.tag != other.tag)
    }

    /// The examples of walship-protocol(7).
    @Test func examplesOfTheManual() throws {
        var hello = Samples.receiver
        hello.partialBytes = 128
        let welcome = Welcome(way: .stream, history: Samples.history, resumedBytes: 128, behindBytes: 2560)
        let example =
            bytes("4d00000001000000030000000000000088fcd17353205a2f0100020007726570")
            + bytes("6c69636100112233445566778899aabbccddeeff030000000000000003000000")
            + bytes("000000000a00000000000000000000000000000a000000000000000a80000000")
            + bytes("0000000000")
        #expect(Message.hello(hello).frame(epoch: 3) == example)
        #expect(
            Message.welcome(welcome).frame(epoch: 3)
                == bytes("21000000020000000300000000000000d51b544bbdea5a4801") + historyBytes + u64(128)
                + bytes("000a000000000000"))
    }

    private func bytes(_ digits: String) -> [UInt8] {
        let digits = Array(digits)
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...$0 + 1]), radix: 16)! }
    }

    @Test func welcome() {
        let welcome = Welcome(way: .everything, history: Samples.history, resumedBytes: 9, behindBytes: 8)
        #expect(Message.welcome(welcome).payload == [3] + historyBytes + u64(9) + u64(8))
    }

    @Test func refuse() {
        #expect(Message.refuse(Refusal(.fenced, "no")).payload == [2, 2, 0x6E, 0x6F, 0])
        #expect(
            Message.refuse(Refusal(.redirect, "no", address: "h:1")).payload
                == [1, 2, 0x6E, 0x6F, 3, 0x68, 0x3A, 0x31])
    }

    @Test func segmentPart() {
        let part = SegmentPart(seq: 1, offset: 2, total: 3, bytes: [4, 5])
        #expect(Message.segmentPart(part).payload == u64(1) + u64(2) + u64(3) + [4, 5])
    }

    @Test func ack() {
        let ack = Ack(
            received: 5, durable: 4, applied: 3, consumedBytes: 2, isSyncing: true, wantsHeartbeat: true, clock: -1,
            writtenBytes: 6,
            copiedBytes: 7, loggedBytes: 8, groupTag: 9)
        let clock = [UInt8](repeating: 0xFF, count: 8)
        #expect(
            Message.ack(ack).payload
                == u64(5) + u64(4) + u64(3) + u64(2) + [1, 1] + clock + u64(6) + u64(7) + u64(8) + u64(9))
    }

    @Test func heartbeat() {
        let beat = Heartbeat(position: position, captureTime: 4, clock: 5, echo: 6)
        #expect(Message.heartbeat(beat).payload == positionBytes + u64(4) + u64(5) + u64(6))
    }

    @Test func syncBegin() {
        let begin = SyncBegin(
            position: position, treeDigest: Samples.history.value, lastObject: 4, objectCount: 5, contentBytes: 6)
        #expect(Message.syncBegin(begin).payload == positionBytes + historyBytes + u64(4) + u64(5) + u64(6))
    }

    @Test func syncEntries() {
        let entries = SyncEntries(count: 2, codec: .zlib, rawBytes: 3, bytes: [4, 5])
        #expect(Message.syncEntries(entries).payload == [2, 0, 0, 0, 1, 3, 0, 0, 0, 4, 5])
    }

    @Test func syncEndAndSyncDone() {
        #expect(Message.syncEnd.payload == [])
        #expect(Message.syncDone(position).payload == positionBytes)
    }

    @Test func want() {
        let requests = [
            BlockRequest(
                object: 300, offset: 5, block: ContentBlock(length: 65_536, digest: Samples.history.value)),
            BlockRequest(object: 1, offset: 0, block: ContentBlock(length: 1, digest: .zero)),
        ]
        #expect(
            Message.want(requests).payload
                == [2] + [0xAC, 0x02, 5, 0x80, 0x80, 0x04] + historyBytes + [1, 0, 1]
                + [UInt8](repeating: 0, count: 16))
    }

    @Test func block() {
        let answer = BlockAnswer(object: 1, offset: 2, rawBytes: 3, codec: .none, isGone: false, bytes: [4, 5, 6])
        #expect(Message.block(answer).payload == u64(1) + u64(2) + [3, 0, 0, 0, 0, 0, 4, 5, 6])
        let gone = BlockAnswer(object: 1, offset: 2, rawBytes: 3, codec: .none, isGone: true, bytes: [])
        #expect(Message.block(gone).payload == u64(1) + u64(2) + [3, 0, 0, 0, 0, 1])
    }

    @Test func requestAndResponse() {
        #expect(Message.request([1, 2]).payload == [1, 2])
        #expect(Message.response([3]).payload == [3])
        #expect(Message.content([4]).payload == [4])
    }
}
