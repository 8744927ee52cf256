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
                case .truncated(what: "entries", _, _): true
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

    /// Any source may be named as often as there are copies, none before it was told.
    @Test(arguments: [0, 1, 2, UInt64.max])
    func sourceMustHaveBeenTold(number: UInt64) throws {
        var writer = ByteWriter()
        let digest = [UInt8](repeating: 9, count: Digest.byteCount)
        writer.raw([1, 2, 1, 0, 0, 0, 0, 0, 5, 7] + digest + [0, 1, 3])
        writer.varint(number)
        writer.raw([0, 1, 0, 2] + digest)
        guard number == 0 else {
            #expect(throws: FormatError.value(what: "source of a copy", number)) {
                try entries(of: writer.bytes, count: 1)
            }
            return
        }
        guard case .put(_, _, .file(let content)) = try entries(of: writer.bytes, count: 1)[0] else { return }
        #expect(content.sources.map(\.object) == [7])
        #expect(content.extents == [Extent](repeating: .copy(source: 0, offset: 0, length: 1), count: 2))
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
        writer.beginFile(2, Metadata(mode: 0, uid: 0, gid: 0, mtime: .zero))
        var size: UInt64 = 0
        for length in lengths {
            writer.hole(length)
            size &+= length
        }
        writer.endFile(size: size, digest: .zero)
        return writer.body.bytes
    }
}
