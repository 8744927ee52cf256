import Testing
import WALFormat
import WALTestKit
import WALWire

/// Each field of the frame header, what it may say and what not.
@Suite struct FrameTests {
    private let whole = FrameHeader(
        length: 0x0001_0203, type: .segmentPart, epoch: 0x0102_0304_0506_0708, payloadChecksum: 0x090A_0B0C)
    private var bytes: [UInt8] { whole.encoded() }

    /// With the checksum that goes with the change.
    private func header(_ change: (inout [UInt8]) -> Void) throws -> FrameHeader {
        var bytes = bytes
        change(&bytes)
        return try FrameHeader(FrameHeader.sealed(bytes))
    }

    /// The last four bytes of XXH3_128bits, as an u32.
    private func checksum(_ bytes: [UInt8]) -> [UInt8] { Array(Digest(of: bytes).bytes[12...].reversed()) }

    @Test func layout() {
        let fields: [UInt8] = [3, 2, 1, 0, 4, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 12, 11, 10, 9]
        #expect(bytes == fields + checksum(fields))
        #expect(bytes.count == FrameHeader.byteCount)
    }

    /// No bit of any frame may change: of the bytes of a segment alone, which have their own checksums, a frame knows
    /// nothing.
    @Test(arguments: MessageType.all) func everyBit(type: MessageType) throws {
        var random = SeededRandom()
        let frame = Samples.message(type, &random).frame(epoch: 3)
        let end = type == .segmentPart ? FrameHeader.byteCount + 24 : frame.count
        for bit in 0..<min(end, 2000) * 8 {
            var bytes = frame
            bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: FormatError.self, "bit \(bit), \(random.reproduce)") {
                _ = try Message(try FrameHeader(bytes), Array(bytes[FrameHeader.byteCount...]))
            }
        }
    }

    @Test func reads() throws {
        let header = try FrameHeader(bytes)
        #expect(header == whole)
    }

    @Test func bytesBehindTheHeaderAreLeftAlone() throws {
        #expect(try FrameHeader(bytes + [1, 2, 3]) == FrameHeader(bytes))
    }

    @Test(arguments: 0..<24) func shortHeader(count: Int) {
        #expect(throws: FormatError.self) { try FrameHeader(Array(bytes.prefix(count))) }
    }

    @Test(arguments: [0, 17, 18, 255] as [UInt8]) func unknownType(code: UInt8) {
        #expect(throws: FormatError.value(what: "type of a frame", UInt64(code))) { try header { $0[4] = code } }
    }

    @Test(arguments: 5..<8) func reservedByte(offset: Int) {
        #expect(throws: FormatError.value(what: "reserved bytes of a frame", 1)) { try header { $0[offset] = 1 } }
    }

    /// One more than any epoch must be a number that SQLite and Int64 hold too.
    @Test func epochBeyondItsRange() {
        let last = FrameHeader(length: 0, type: .ack, epoch: UInt64(Int64.max) - 1, payloadChecksum: 0).encoded()
        #expect(throws: Never.self) { try FrameHeader(last) }
        for epoch in [UInt64(Int64.max), .max] {
            let bytes = FrameHeader(length: 0, type: .ack, epoch: epoch, payloadChecksum: 0).encoded()
            #expect(throws: FormatError.value(what: "epoch", epoch)) { try FrameHeader(bytes) }
        }
    }

    @Test(arguments: MessageType.all) func lengthBeyondTheLimitOfItsType(type: MessageType) throws {
        let limit = UInt64(type.maxPayloadBytes)
        let largest = FrameHeader(length: UInt32(limit), type: type, epoch: 1, payloadChecksum: 0)
        #expect(try FrameHeader(largest.encoded()) == largest)
        for length in [UInt32(limit) + 1, .max] {
            let bytes = FrameHeader(length: length, type: type, epoch: 1, payloadChecksum: 0).encoded()
            #expect(throws: FormatError.limit("bytes of a \(type) frame", value: UInt64(length), limit: limit)) {
                try FrameHeader(bytes)
            }
        }
    }

    @Test func limitOfEachType() {
        for type in MessageType.all {
            let limit =
                switch type {
                case .hello, .welcome, .refuse: 65_536
                case .ack, .heartbeat, .syncBegin, .syncEnd, .syncDone: 4096
                case .segmentPart, .want, .block, .group, .content: 1_052_672
                case .syncEntries: 50_335_744
                case .request, .response: 16_777_216
                }
            #expect(type.maxPayloadBytes == limit, "\(type)")
        }
    }

    /// Before a peer has said who it is, it gets no more room than a handshake may have.
    @Test(arguments: MessageType.all) func firstFrameIsOfTheHandshake(type: MessageType) throws {
        let bytes = FrameHeader(length: 0, type: type, epoch: 0, payloadChecksum: 0).encoded()
        if type == .hello || type == .refuse {
            #expect(try FrameHeader(bytes, isFirst: true).type == type)
        } else {
            #expect(throws: FormatError.value(what: "type of the first frame", UInt64(type.rawValue))) {
                try FrameHeader(bytes, isFirst: true)
            }
        }
    }

    @Test func typesAreNumberedWithoutGaps() {
        #expect(MessageType.all.count == 16)
        #expect(MessageType(rawValue: 0) == nil)
        #expect(MessageType(rawValue: 17) == nil)
        #expect(Samples.each.map(\.type) == MessageType.all)
    }

    @Test func largestContentFitsItsFrame() {
        // Fields before the bytes: 24 of a piece, 9 of entries, 22 of a block.
        #expect(24 + Limits.maxBlockBytes <= MessageType.segmentPart.maxPayloadBytes)
        #expect(9 + Int(Limits.maxSegmentRawBytes) <= MessageType.syncEntries.maxPayloadBytes)
        #expect(22 + Limits.maxChunkBytes <= MessageType.block.maxPayloadBytes)
        // 9 + 9 + 3 + 16 bytes a request.
        #expect(3 + Limits.maxWantBlocks * 37 <= MessageType.want.maxPayloadBytes)
        #expect(8 + Refusal.maxTextBytes + Limits.maxAddressBytes <= MessageType.refuse.maxPayloadBytes)
        #expect(
            10 + Limits.maxAddressBytes + Limits.maxGroupMembers
                * (4 + Limits.maxNodeNameBytes + Limits.maxAddressBytes)
                <= MessageType.group.maxPayloadBytes)
    }
}
