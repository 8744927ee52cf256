import Testing
import WALFormat
import WALTestKit

@Suite struct PositionTests {
    private let chain = "00112233445566778899aabbccddeeff"

    @Test func exactForm() throws {
        let position = Position(epoch: 3, seq: 41, chain: try Digest(text: chain))
        #expect(position.description == "3:41:\(chain)")
        #expect(position.short == "3:41")
    }

    @Test func textComesBack() throws {
        var random = SeededRandom()
        for _ in 0..<1000 {
            let position = Position(
                epoch: random.anyUInt64(), seq: random.anyUInt64(),
                chain: Digest(high: random.anyUInt64(), low: random.anyUInt64()))
            let exact = try PositionText(position.description)
            #expect(exact.epoch == position.epoch && exact.seq == position.seq, "\(random.reproduce)")
            #expect(exact.chain == position.chain, "\(random.reproduce)")
            let short = try PositionText(position.short)
            #expect(short.epoch == position.epoch && short.seq == position.seq, "\(random.reproduce)")
            #expect(short.chain == nil, "\(random.reproduce)")
        }
    }

    @Test(arguments: [
        "", ":", "::", "1", "1:", ":1", "1:2:", "1:2:3", "1:2:00112233445566778899aabbccddeeff:", "-1:2", "+1:2",
        "1:+2", " 1:2", "1:2 ", "1: 2", "0x1:2", "1:18446744073709551616", "1:2:00112233445566778899aabbccddeef",
        "1:2:+0112233445566778899aabbccddeeff", "1:2:00112233445566778899aabbccddeegg", "\u{661}:2", "1:2\u{301}:3",
        "1,2", "a:b",
    ])
    func malformedTextIsRefused(text: String) {
        #expect(throws: FormatError.self) { try PositionText(text) }
    }

    @Test func longTextIsCutInTheError() {
        #expect(
            throws: FormatError.text(what: "position EPOCH:SEQ or EPOCH:SEQ:CHAIN", String(repeating: "9", count: 120))
        ) {
            try PositionText(String(repeating: "9", count: 100_000))
        }
    }

    @Test func startIsBeforeEverything() {
        #expect(Position.start.description == "0:0:00000000000000000000000000000000")
        #expect(HistoryID.none.description == "00000000000000000000000000000000")
    }
}
