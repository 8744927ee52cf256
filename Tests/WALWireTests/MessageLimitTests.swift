import Testing
import WALFormat
import WALTestKit
import WALWire

/// One case for each field that can be wrong: the last value that is taken and the first that is not.
@Suite struct MessageLimitTests {
    private static let lastNumber = UInt64(Int64.max) - 1
    private static let firstBadNumber = UInt64(Int64.max)

    /// The payload of `message` with `bytes` at `offset`.
    private func payload(_ message: Message, _ bytes: [UInt8], at offset: Int) -> [UInt8] {
        var payload = message.payload
        payload.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        return payload
    }

    private func u64(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }

    private func expect(_ error: FormatError, _ type: MessageType, _ payload: [UInt8]) {
        #expect(throws: error) { try Message(type, payload) }
    }

    // MARK: hello

    @Test(arguments: [0, 2, 0xFFFF] as [UInt16]) func helloVersion(version: UInt16) {
        // Whatever a later version has behind it, the version is what is named.
        let bytes = [UInt8(version & 0xFF), UInt8(version >> 8), 0xFF, 0xFF, 0xFF]
        expect(.version(what: "protocol", found: UInt32(version), supported: 1), .hello, bytes)
    }

    @Test(arguments: [0, 4, 255] as [UInt8]) func helloRole(role: UInt8) {
        expect(
            .value(what: "role of a hello", UInt64(role)), .hello, payload(.hello(Samples.receiver), [role], at: 2))
    }

    @Test func helloFlags() throws {
        let hello = Message.hello(Samples.receiver)
        #expect(throws: Never.self) { try Message(.hello, payload(hello, [7], at: 3)) }
        for flags: UInt8 in [8, 0x80, 0xFF] {
            expect(.value(what: "flags of a hello", UInt64(flags)), .hello, payload(hello, [flags], at: 3))
        }
    }

    @Test func helloNodeLength() throws {
        var hello = Samples.receiver
        hello.node = String(repeating: "n", count: 255)
        #expect(try Message(.hello, Message.hello(hello).payload) == .hello(hello))
        hello.node += "n"
        expect(.limit("bytes of the name of a node", value: 256, limit: 255), .hello, Message.hello(hello).payload)
    }

    @Test(arguments: [[0xFF], [0xC3], [0x0A], [0x1B], [0x7F], [0xC2, 0x9B], [0x61, 0x00]] as [[UInt8]])
    func helloNodeText(bytes: [UInt8]) {
        var hello = Samples.receiver
        hello.node = String(repeating: "n", count: bytes.count)
        expect(
            .text(what: "name of a node", PathText.escaped(bytes)), .hello, payload(.hello(hello), bytes, at: 5))
    }

    @Test func helloNumbers() throws {
        var hello = Samples.receiver
        hello.promisedEpoch = Self.lastNumber
        hello.position = Position(epoch: Self.lastNumber, seq: Self.lastNumber, chain: .zero)
        hello.partialBytes = .max
        let message = Message.hello(hello)
        #expect(try Message(.hello, message.payload) == message)
        // 4 fixed bytes, the name with its length, 16 of history.
        let start = 4 + 8 + 16
        for (offset, name) in [(start, "epoch"), (start + 8, "epoch"), (start + 16, "seq")] {
            for value in [Self.firstBadNumber, .max] {
                expect(.value(what: name, value), .hello, payload(message, u64(value), at: offset))
            }
        }
    }

    // MARK: welcome, refuse

    @Test(arguments: [0, 4, 255] as [UInt8]) func welcomeWay(way: UInt8) {
        let welcome = Message.welcome(Welcome(way: .list, history: .none, resumedBytes: 0))
        expect(.value(what: "way of a welcome", UInt64(way)), .welcome, payload(welcome, [way], at: 0))
    }

    @Test(arguments: [0, 10, 255] as [UInt8]) func refusalCode(code: UInt8) {
        expect(
            .value(what: "code of a refusal", UInt64(code)), .refuse,
            payload(.refuse(Refusal(.busy, "x")), [code], at: 0))
    }

    @Test func refusalText() throws {
        let longest = Message.refuse(Refusal(.busy, String(repeating: "x", count: 4096)))
        #expect(try Message(.refuse, longest.payload) == longest)
        expect(.limit("bytes of a refusal's text", value: 4097, limit: 4096), .refuse, [1, 0x81, 0x20])
        // Ours is cut, so that the peer learns the code at least.
        let cut = Message.refuse(Refusal(.busy, String(repeating: "x", count: 5000)))
        #expect(try Message(.refuse, cut.payload) == longest)
    }

    @Test func refusalTextIsHarmlessInATerminal() throws {
        let message = Message.refuse(Refusal(.busy, "a\u{1B}[2Jb\nc\u{9B}d"))
        let shown = "a\u{FFFD}[2Jb\u{FFFD}c\u{FFFD}d"
        #expect(try Message(.refuse, message.payload) == .refuse(Refusal(.busy, shown)))
        #expect(try Message(.refuse, [1, 2, 0x61, 0xFF, 0]) == .refuse(Refusal(.redirect, "a\u{FFFD}")))
    }

    // MARK: segments, acks, heartbeats

    @Test func segmentPartSeq() throws {
        let part = Message.segmentPart(SegmentPart(seq: Self.lastNumber, offset: .max, total: .max, bytes: []))
        #expect(try Message(.segmentPart, part.payload) == part)
        for value in [Self.firstBadNumber, .max] {
            expect(.value(what: "seq", value), .segmentPart, payload(part, u64(value), at: 0))
        }
    }

    @Test func ackFlag() {
        let ack = Message.ack(Samples.ack)
        #expect(throws: Never.self) { try Message(.ack, payload(ack, [1], at: 32)) }
        for value: UInt8 in [2, 255] {
            expect(.value(what: "syncing of an ack", UInt64(value)), .ack, payload(ack, [value], at: 32))
            expect(
                .value(what: "wish of an ack for a heartbeat", UInt64(value)), .ack, payload(ack, [value], at: 33))
        }
    }

    /// A lag is reckoned from the peer's clock: no clock may make that overflow.
    @Test(arguments: [Int64.min, .min + 1, -(1 << 62) - 1, (1 << 62) + 1, .max])
    func clocksAreHeld(clock: Int64) throws {
        let held: Int64 = clock < 0 ? -(1 << 62) : 1 << 62
        var ack = Samples.ack
        ack.clock = clock
        guard case .ack(let read) = try Message(.ack, Message.ack(ack).payload) else {
            Issue.record("not an ack")
            return
        }
        #expect(read.clock == held)
        let beat = Heartbeat(position: .start, captureTime: clock, clock: clock, echo: clock)
        #expect(
            try Message(.heartbeat, Message.heartbeat(beat).payload)
                == .heartbeat(Heartbeat(position: .start, captureTime: held, clock: held, echo: held)))
        let now: Int64 = 4_000_000_000_000_000_000
        #expect(!now.subtractingReportingOverflow(held).overflow)
    }

    @Test(arguments: [MessageType.heartbeat, .syncBegin, .syncDone]) func positionNumbers(type: MessageType) throws {
        let message = Samples.each[Int(type.rawValue) - 1]
        for (offset, name) in [(0, "epoch"), (8, "seq")] {
            #expect(throws: Never.self) { try Message(type, payload(message, u64(Self.lastNumber), at: offset)) }
            for value in [Self.firstBadNumber, .max] {
                expect(.value(what: name, value), type, payload(message, u64(value), at: offset))
            }
        }
    }

    // MARK: sync

    @Test func lastObjectOfASync() {
        let begin = Message.syncBegin(Samples.syncBegin)
        #expect(throws: Never.self) {
            try Message(.syncBegin, payload(begin, u64(ObjectID.firstLocal - 1), at: 48))
        }
        for value in [ObjectID.firstLocal, .max] {
            expect(.value(what: "last object of a sync", value), .syncBegin, payload(begin, u64(value), at: 48))
        }
    }

    private func entries(_ codec: UInt8, raw: UInt32, stored: Int) -> [UInt8] {
        [1, 0, 0, 0, codec] + withUnsafeBytes(of: raw.littleEndian) { Array($0) } + [UInt8](repeating: 7, count: stored)
    }

    @Test func codecOfEntries() {
        expect(.value(what: "codec of entries", 2), .syncEntries, entries(2, raw: 3, stored: 3))
        expect(.value(what: "codec of entries", 255), .syncEntries, entries(255, raw: 3, stored: 3))
    }

    @Test func lengthsOfEntries() {
        let limit = 48 << 20
        #expect(throws: Never.self) { try Message(.syncEntries, entries(0, raw: UInt32(limit), stored: limit)) }
        #expect(throws: Never.self) { try Message(.syncEntries, entries(1, raw: UInt32(limit), stored: 5)) }
        for raw in [UInt32(limit) + 1, .max] {
            expect(
                .limit("raw bytes of a frame", value: UInt64(raw), limit: UInt64(limit)), .syncEntries,
                entries(1, raw: raw, stored: 5))
        }
        for (codec, raw, stored) in [(0, 4, 3), (0, 2, 3), (1, 3, 3), (1, 2, 3), (1, 0, 0)] as [(UInt8, UInt32, Int)] {
            expect(
                .value(what: "stored bytes of a frame", UInt64(stored)), .syncEntries,
                entries(codec, raw: raw, stored: stored))
        }
    }

    // MARK: want, block

    private func want(
        count: Int = 1, object: UInt64 = 4, offset: UInt64 = 0, length: Int = 3, requests: Int = 1
    ) -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(count)
        for _ in 0..<requests {
            writer.varint(object)
            writer.varint(offset)
            writer.varint(length)
            writer.digest(.zero)
        }
        return writer.bytes
    }

    @Test func countOfAWant() {
        #expect(throws: Never.self) { try Message(.want, want(count: 4096, requests: 4096)) }
        expect(
            .limit("blocks of a want", value: 4097, limit: 4096), .want, want(count: 4097, requests: 4097))
        expect(
            .limit("blocks of a want", value: UInt64(Int64.max), limit: 4096), .want, want(count: .max, requests: 0))
    }

    @Test func objectOfAWant() {
        #expect(throws: Never.self) { try Message(.want, want(object: ObjectID.firstLocal - 1)) }
        for object in [0, ObjectID.firstLocal, .max] {
            expect(.value(what: "number of an object", object), .want, want(object: object))
        }
    }

    @Test func lengthOfAWant() {
        #expect(throws: Never.self) { try Message(.want, want(length: 262_144)) }
        expect(.value(what: "bytes of a block", 0), .want, want(length: 0))
        expect(.limit("bytes of a block", value: 262_145, limit: 262_144), .want, want(length: 262_145))
    }

    @Test func offsetOfAWant() {
        let last = UInt64(Int64.max) - 3
        #expect(throws: Never.self) { try Message(.want, want(offset: last, length: 3)) }
        for offset in [last + 1, .max] {
            expect(.value(what: "offset of a block", offset), .want, want(offset: offset, length: 3))
        }
    }

    private func block(
        object: UInt64 = 4, offset: UInt64 = 0, raw: UInt32 = 3, codec: UInt8 = 0, gone: UInt8 = 0, stored: Int = 3
    ) -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(object)
        writer.integer(offset)
        writer.integer(raw)
        writer.raw([codec, gone])
        writer.raw([UInt8](repeating: 7, count: stored))
        return writer.bytes
    }

    @Test func objectOfABlock() {
        #expect(throws: Never.self) { try Message(.block, block(object: ObjectID.firstLocal - 1)) }
        for object in [0, ObjectID.firstLocal, .max] {
            expect(.value(what: "number of an object", object), .block, block(object: object))
        }
    }

    @Test func offsetOfABlock() {
        let last = UInt64(Int64.max) - 3
        #expect(throws: Never.self) { try Message(.block, block(offset: last)) }
        for offset in [last + 1, .max] {
            expect(.value(what: "offset of a block", offset), .block, block(offset: offset))
        }
    }

    @Test func flagsOfABlock() {
        expect(.value(what: "codec of a block", 2), .block, block(codec: 2))
        expect(.value(what: "gone of a block", 2), .block, block(gone: 2))
    }

    @Test func lengthsOfABlock() {
        let limit = 262_144
        #expect(throws: Never.self) { try Message(.block, block(raw: UInt32(limit), stored: limit)) }
        #expect(throws: Never.self) { try Message(.block, block(raw: UInt32(limit), codec: 1, stored: 9)) }
        for raw in [UInt32(limit) + 1, .max] {
            let error = FormatError.limit("raw bytes of a frame", value: UInt64(raw), limit: UInt64(limit))
            expect(error, .block, block(raw: raw, codec: 1, stored: 9))
            // Also where no bytes come that would show it.
            expect(error, .block, block(raw: raw, codec: 1, gone: 1, stored: 0))
        }
        expect(.value(what: "bytes of a block", 0), .block, block(raw: 0, stored: 0))
        for (codec, raw, stored) in [(0, 4, 3), (0, 2, 3), (1, 3, 3), (1, 2, 3)] as [(UInt8, UInt32, Int)] {
            expect(
                .value(what: "stored bytes of a frame", UInt64(stored)), .block,
                block(raw: raw, codec: codec, stored: stored))
        }
        expect(.value(what: "bytes of a block that is gone", 3), .block, block(gone: 1))
    }
}

/// What entries and blocks hold once they are decompressed.
@Suite struct CodedBytesTests {
    private func compressed(_ raw: [UInt8]) throws -> [UInt8] {
        try #require(raw.withUnsafeBytes { Deflate.compress($0, level: 1) })
    }

    @Test func storedBytesAreTheRawOnes() throws {
        #expect(try Samples.entries.raw() == [1, 2, 3])
        #expect(try Samples.block.raw() == [4, 5, 6])
    }

    @Test func zlib() throws {
        let raw = [UInt8](repeating: 9, count: 1000)
        let stored = try compressed(raw)
        #expect(try SyncEntries(count: 1, codec: .zlib, rawBytes: 1000, bytes: stored).raw() == raw)
        let answer = BlockAnswer(object: 1, offset: 0, rawBytes: 1000, codec: .zlib, isGone: false, bytes: stored)
        #expect(try answer.raw() == raw)
    }

    @Test func zlibOfAnotherLengthIsRefused() throws {
        let stored = try compressed([UInt8](repeating: 9, count: 1000))
        for length: UInt32 in [999, 1001, 100_000] {
            #expect(throws: FormatError.self) {
                try SyncEntries(count: 1, codec: .zlib, rawBytes: length, bytes: stored).raw()
            }
        }
        #expect(throws: FormatError.self) {
            try SyncEntries(count: 1, codec: .zlib, rawBytes: 1000, bytes: stored + [0]).raw()
        }
    }

    @Test func blockThatIsGoneHasNoBytes() {
        #expect(throws: FormatError.self) {
            try BlockAnswer(object: 1, offset: 0, rawBytes: 5, codec: .zlib, isGone: true, bytes: []).raw()
        }
    }
}
