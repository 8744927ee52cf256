import Testing
import WALFormat
import WALTestKit

@Suite struct BlockTableTests {
    @Test func blocksComeBack() throws {
        var random = SeededRandom()
        let blocks = (0..<1000).map { _ in
            random.once(in: 4)
                ? ContentBlock(length: UInt32(random.int(in: 1...Limits.maxHoleBytes)), digest: .zero)
                : ContentBlock(
                    length: UInt32(random.int(in: 1...Limits.maxChunkBytes)),
                    digest: Digest(high: random.next(), low: random.next()))
        }
        var table = BlockTable()
        for block in blocks { table.append(block) }
        let read = try BlockTable(bytes: table.bytes)
        #expect(firstDifference(read.bytes, table.bytes) == nil, "\(random.reproduce)")
        #expect(read.count == 1000)
        #expect(firstDifference((0..<1000).map { read[$0] }, blocks) == nil, "\(random.reproduce)")
        #expect(read.size == blocks.reduce(0) { $0 + UInt64($1.length) }, "\(random.reproduce)")
        #expect(read.digest == Digest(of: table.bytes))
    }

    @Test func entryIsLengthAndDigest() throws {
        var table = BlockTable()
        table.append(
            ContentBlock(length: 0x0001_0203, digest: Digest(high: 0x1011_1213_1415_1617, low: 0x1819_1A1B_1C1D_1E1F)))
        #expect(table.bytes == [0x03, 0x02, 0x01, 0x00] + Array(0x10...0x1F))
        let block = table[0]
        #expect(BlockTable.digest(ofSingle: block) == table.digest)
    }

    @Test func emptyContent() throws {
        let table = try BlockTable(bytes: [])
        #expect(table.count == 0)
        #expect(table.size == 0)
        #expect(table.digest.description == "99aa06d3014798d86001c324468d497f")
    }

    @Test(
        arguments: [
            (1, [1]), (1 << 30, [1 << 30]), (1 << 30 + 1, [1 << 30, 1]), (3 << 30, [1 << 30, 1 << 30, 1 << 30]),
        ] as [(UInt64, [UInt32])])
    func longHoleIsSeveralBlocks(length: UInt64, parts: [UInt32]) {
        var table = BlockTable()
        table.appendHole(length)
        #expect((0..<table.count).map { table[$0].length } == parts)
        #expect((0..<table.count).allSatisfy { table[$0].isHole })
        #expect(table.size == length)
        #expect(BlockTable.blocks(ofHole: length) == UInt64(parts.count))
    }

    @Test func noHoleIsNoBlock() {
        var table = BlockTable()
        table.appendHole(0)
        #expect(table.count == 0)
    }

    @Test(arguments: [1, 19, 21, 39])
    func lengthThatIsNoMultipleIsRefused(count: Int) {
        #expect(throws: FormatError.value(what: "length of a block table", UInt64(count))) {
            try BlockTable(bytes: [UInt8](repeating: 1, count: count))
        }
    }

    @Test(
        arguments: [
            (ContentBlock(length: 0, digest: Digest(of: [])), .value(what: "length of a block", 0)),
            (ContentBlock(length: 0, digest: .zero), .value(what: "length of a block", 0)),
            (
                ContentBlock(length: 262_145, digest: Digest(of: [])),
                .limit("bytes of a block", value: 262_145, limit: 262_144)
            ),
            (
                ContentBlock(length: 1 << 30 + 1, digest: .zero),
                .limit("bytes of a block", value: 1 << 30 + 1, limit: 1 << 30)
            ),
        ] as [(ContentBlock, FormatError)])
    func blockBeyondItsLimitIsRefused(block: ContentBlock, error: FormatError) {
        var table = BlockTable()
        table.append(ContentBlock(length: 1, digest: Digest(of: [])))
        table.append(block)
        #expect(throws: error) { try BlockTable(bytes: table.bytes) }
    }

    @Test func tooManyBlocksAreRefusedUnread() {
        let count = Limits.maxContentBlocks + 1
        let bytes = [UInt8](repeating: 0, count: count * BlockTable.entryBytes)
        #expect(
            throws: FormatError.limit("blocks of a file", value: UInt64(count), limit: UInt64(Limits.maxContentBlocks))
        ) { try BlockTable(bytes: bytes) }
    }
}
