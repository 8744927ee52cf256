import Testing
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit

/// Block tables of large files are kept in rows of their own.
@Suite(.hangLimit) struct BlockRowTests {
    private let folder: CatalogFolder
    private let catalog: Catalog

    init() throws {
        folder = try CatalogFolder()
        catalog = try Catalog(path: folder.path + "/catalog.sqlite")
    }

    private static func row(_ blocks: [ContentBlock]) -> ObjectRow {
        var table = BlockTable()
        for block in blocks { table.append(block) }
        return ObjectRow(
            id: 7, kind: .file,
            metadata: Metadata(mode: 0o644, uid: 1, gid: 2, mtime: Timestamp(seconds: 5, nanoseconds: 6)),
            size: blocks.reduce(0) { $0 + UInt64($1.length) }, content: table.digest, blocks: table)
    }

    /// Blocks come, go and change anywhere; the table grows long, becomes short again, and none.
    @Test func whatWasPutComesBack() throws {
        var random = SeededRandom()
        random.announce()
        var blocks: [ContentBlock] = []
        func block() -> ContentBlock {
            ContentBlock(
                length: UInt32(random.int(in: 1...Limits.maxChunkBytes)),
                digest: Digest(high: random.next(), low: random.next()))
        }
        for count in [0, 100, 3_000, 2_900, 150, 5_000, 204, 205, 0, 1_000] {
            while blocks.count < count { blocks.append(block()) }
            while blocks.count > count { blocks.remove(at: random.int(in: 0..<blocks.count)) }
            for _ in 0..<20 {
                if !blocks.isEmpty {
                    switch random.int(in: 0..<4) {
                    case 0: blocks[random.int(in: 0..<blocks.count)] = block()
                    case 1: blocks.remove(at: random.int(in: 0..<blocks.count))
                    case 2: blocks.insert(block(), at: random.int(in: 0...blocks.count))
                    default: blocks.swapAt(0, random.int(in: 0..<blocks.count))
                    }
                }
                let row = Self.row(blocks)
                try catalog.write { try $0.put(row) }
                let found = try catalog.read { try $0.object(7) }
                #expect(found == row, "\(blocks.count) blocks; \(random.reproduce)")
                #expect(try catalog.read { try $0.recomputedDigest() } == catalog.state().treeDigest)
            }
            // Nothing of a dropped object is found by the next one of that number.
            if random.once(in: 2) { try catalog.write { try $0.drop(7) } }
        }
    }

    /// What a small change of a large file costs: written are the pages of one part, not of the table.
    @Test func aChangedBlockWritesLittle() throws {
        // A change at the end of a part, one in fifty, moves that, and then all behind it is written.
        var random = SeededRandom(seed: 1)
        var blocks = (0..<20_000).map { _ in
            ContentBlock(length: 60_000, digest: Digest(high: random.next(), low: random.next()))
        }
        try catalog.write { try $0.put(Self.row(blocks)) }
        try catalog.close()
        let again = try Catalog(path: folder.path + "/catalog.sqlite")
        blocks[10_000].digest = Digest(high: random.next(), low: 0xFF)
        blocks.remove(at: 15_000)
        try again.write { try $0.put(Self.row(blocks)) }
        // The last reader or writer that closes takes the file away, so it is looked at before.
        let written = try Directory.open(path: folder.path).status(of: Name("catalog.sqlite-wal")).size
        #expect(written < 120_000, "of a table of 400,000 bytes; \(random.reproduce)")
        #expect(try again.read { try $0.object(7) } == Self.row(blocks))
        try again.close()
    }
}
