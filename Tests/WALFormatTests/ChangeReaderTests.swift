import Testing
import WALFormat
import WALTestKit

@Suite struct ChangeReaderTests {
    @Test func entriesComeBack() throws {
        var random = SeededRandom()
        for _ in 0..<200 {
            let written = RandomEntries(random.int(in: 0...40), &random)
            let read = try entries(of: written.writer.body.bytes, count: written.writer.entryCount)
            #expect(firstDifference(read, written.changes) == nil, "\(random.reproduce)")
        }
    }

    /// Bytes and entries are one to one: what was read is written again byte by byte.
    @Test func formIsCanonical() throws {
        var random = SeededRandom()
        for _ in 0..<100 {
            let written = RandomEntries(20, &random)
            let body = written.writer.body.bytes
            var again = ChangeWriter()
            for change in try entries(of: body, count: 20) { again.append(change, body: body) }
            #expect(firstDifference(again.body.bytes, body) == nil, "\(random.reproduce)")
        }
    }

    @Test func anyShorterBodyIsTruncated() throws {
        var random = SeededRandom()
        let written = RandomEntries(12, &random)
        let body = written.writer.body.bytes
        for length in 0..<min(body.count, 4000) {
            #expect {
                try entries(of: Array(body[..<length]), count: 12)
            } throws: { error in
                switch error as? FormatError {
                // A length that no longer fits what remains is refused before the bytes are looked for.
                case .truncated(what: "entries", _, _), .limit("sources of a file", _, _): true
                default: false
                }
            }
        }
    }

    @Test func countsMustAgree() {
        #expect(throws: FormatError.trailing(what: "entries", bytes: 2)) { try entries(of: [5, 1, 5, 2], count: 1) }
        #expect(throws: FormatError.truncated(what: "entries", needed: 1, available: 0)) {
            try entries(of: [5, 1], count: 2)
        }
        #expect(throws: FormatError.trailing(what: "entries", bytes: 1)) { try entries(of: [5], count: 0) }
        #expect(throws: FormatError.truncated(what: "entries", needed: 1, available: 0)) {
            try entries(of: [], count: .max)
        }
    }

    @Test func nilComesAgainAfterTheEnd() throws {
        try [UInt8]([5, 1]).withBytes { bytes throws(FormatError) in
            var reader = ChangeReader(bytes, entryCount: 1)
            #expect(try reader.next() == .drop(1))
            #expect(try reader.next() == nil)
            #expect(try reader.next() == nil)
        }
    }

    /// Any source may be named as often as there are copies, none that is not listed.
    @Test func sourcesAreBoundedByWhatRemains() {
        var writer = ByteWriter()
        writer.raw([1, 2, 1, 0, 0, 0, 0, 0])
        writer.varint(UInt64.max)
        writer.raw([UInt8](repeating: 0, count: 170))
        #expect(throws: FormatError.limit("sources of a file", value: .max, limit: 10)) {
            try entries(of: writer.bytes, count: 1)
        }
    }

    /// A hole of 2^62 bytes would be a table of 2^32 blocks; many smaller ones come to the same.
    @Test func holesAreBoundedByTheTableTheyMake() {
        let most = UInt64(Limits.maxContentBlocks) * UInt64(Limits.maxHoleBytes)
        #expect(throws: Never.self) { try entries(of: holes([most]), count: 1) }
        #expect(
            throws: FormatError.limit(
                "blocks of a file", value: UInt64(Limits.maxContentBlocks) + 1, limit: UInt64(Limits.maxContentBlocks))
        ) { try entries(of: holes([most, 1]), count: 1) }
        #expect(throws: FormatError.self) { try entries(of: holes([1 << 62]), count: 1) }
    }

    @Test func sumOfExtentsStaysInSixtyThreeBits() {
        #expect(throws: FormatError.value(what: "length of an extent", .max)) {
            try entries(of: holes([.max]), count: 1)
        }
    }

    @Test func fileWithTheMostExtentsIsRead() throws {
        let most = Limits.maxExtents
        #expect(throws: Never.self) { try entries(of: holes([UInt64](repeating: 1, count: most)), count: 1) }
        #expect(throws: FormatError.limit("extents of a file", value: UInt64(most) + 1, limit: UInt64(most))) {
            try entries(of: holes([UInt64](repeating: 1, count: most + 1)), count: 1)
        }
    }

    /// One file of nothing but holes.
    private func holes(_ lengths: [UInt64]) -> [UInt8] {
        var writer = ChangeWriter()
        writer.beginFile(2, Metadata(mode: 0, uid: 0, gid: 0, mtime: .zero), sources: [])
        var size: UInt64 = 0
        for length in lengths {
            writer.hole(length)
            size &+= length
        }
        writer.endFile(size: size, digest: .zero)
        return writer.body.bytes
    }
}
