import Testing
import WALFormat
import WALTestKit
import WALWire

/// Each field of the frame header, what it may say and what not.
@Suite struct FrameTests {
    private let bytes = FrameHeader(length: 0x0001_0203, type: .segmentPart, epoch: 0x0102_0304_0506_0708).encoded()

    private func header(_ change: (inout [UInt8]) -> Void) throws -> FrameHeader {
        var bytes = bytes
        change(&bytes)
        return try FrameHeader(bytes)
    }

    @Test func layout() {
        #expect(bytes == [3, 2, 1, 0, 4, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1])
        #expect(bytes.count == FrameHeader.byteCount)
    }

    @Test func reads() throws {
        let header = try FrameHeader(bytes)
        #expect(header == FrameHeader(length: 0x0001_0203, type: .segmentPart, epoch: 0x0102_0304_0506_0708))
    }

    @Test func bytesBehindTheHeaderAreLeftAlone() throws {
        #expect(try FrameHeader(bytes + [1, 2, 3]) == FrameHeader(bytes))
    }

    @Test(arguments: 0..<16) func shortHeader(count: Int) {
        #expect(throws: FormatError.self) { try FrameHeader(Array(bytes.prefix(count))) }
    }

    @Test(arguments: [0, 16, 17, 255] as [UInt8]) func unknownType(code: UInt8) {
        #expect(throws: FormatError.value(what: "type of a frame", UInt64(code))) { try header { $0[4] = code } }
    }

    @Test(arguments: 5..<8) func reservedByte(offset: Int) {
        #expect(throws: FormatError.value(what: "reserved bytes of a frame", 1)) { try header { $0[offset] = 1 } }
    }

    /// One more than any epoch must be a number that SQLite and Int64 hold too.
    @Test func epochBeyondItsRange() {
        let last = FrameHeader(length: 0, type: .ack, epoch: UInt64(Int64.max) - 1).encoded()
        #expect(throws: Never.self) { try FrameHeader(last) }
        for epoch in [UInt64(Int64.max), .max] {
            let bytes = FrameHeader(length: 0, type: .ack, epoch: epoch).encoded()
            #expect(throws: FormatError.value(what: "epoch", epoch)) { try FrameHeader(bytes) }
        }
    }

    @Test(arguments: MessageType.all) func lengthBeyondTheLimitOfItsType(type: MessageType) throws {
        let limit = UInt64(type.maxPayloadBytes)
        let largest = FrameHeader(length: UInt32(limit), type: type, epoch: 1)
        #expect(try FrameHeader(largest.encoded()) == largest)
        for length in [UInt32(limit) + 1, .max] {
            let bytes = FrameHeader(length: length, type: type, epoch: 1).encoded()
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
                case .segmentPart, .want, .block, .content: 1_052_672
                case .syncEntries: 50_335_744
                case .request, .response: 16_777_216
                }
            #expect(type.maxPayloadBytes == limit, "\(type)")
        }
    }

    /// Before a peer has said who it is, it gets no more room than a handshake may have.
    @Test(arguments: MessageType.all) func firstFrameIsOfTheHandshake(type: MessageType) throws {
        let bytes = FrameHeader(length: 0, type: type, epoch: 0).encoded()
        if type == .hello || type == .refuse {
            #expect(try FrameHeader(bytes, isFirst: true).type == type)
        } else {
            #expect(throws: FormatError.value(what: "type of the first frame", UInt64(type.rawValue))) {
                try FrameHeader(bytes, isFirst: true)
            }
        }
    }

    @Test func typesAreNumberedWithoutGaps() {
        #expect(MessageType.all.count == 15)
        #expect(MessageType(rawValue: 0) == nil)
        #expect(MessageType(rawValue: 16) == nil)
        #expect(Samples.each.map(\.type) == MessageType.all)
    }

    @Test func largestContentFitsItsFrame() {
        // Fields before the bytes: 24 of a piece, 9 of entries, 22 of a block.
        #expect(24 + Limits.maxBlockBytes <= MessageType.segmentPart.maxPayloadBytes)
        #expect(9 + Int(Limits.maxSegmentRawBytes) <= MessageType.syncEntries.maxPayloadBytes)
        #expect(22 + Limits.maxChunkBytes <= MessageType.block.maxPayloadBytes)
        // 9 + 9 + 3 + 16 bytes a request.
        #expect(3 + Limits.maxWantBlocks * 37 <= MessageType.want.maxPayloadBytes)
        #expect(5 + Refusal.maxTextBytes <= MessageType.refuse.maxPayloadBytes)
    }
}
