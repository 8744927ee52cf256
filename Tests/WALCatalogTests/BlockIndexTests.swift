import Testing
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit

/// Files are found by the blocks that they hold.
@Suite(.hangLimit) struct BlockIndexTests {
    private let folder: CatalogFolder
    private let path: String

    init() throws {
        folder = try CatalogFolder()
        path = folder.path + "/catalog.sqlite"
    }

    private static func block(_ random: inout SeededRandom, length: Int = 60_000) -> ContentBlock {
        ContentBlock(length: UInt32(length), digest: Digest(high: random.next(), low: random.next()))
    }

    private static func row(_ id: ObjectID, _ blocks: [ContentBlock]) -> ObjectRow {
        var table = BlockTable()
        for block in blocks { table.append(block) }
        return ObjectRow(
            id: id, kind: .file,
            metadata: Metadata(mode: 0o644, uid: 1, gid: 2, mtime: Timestamp(seconds: 5, nanoseconds: 6)),
            size: table.size, content: table.digest, blocks: table)
    }

    /// Blocks that several files share and that stand in one several times, files that grow into the index and shrink out
    /// of it, transactions that are taken back.
    @Test func indexIsRightAfterAnything() throws {
        struct TakenBack: Error {}
        let catalog = try Catalog(path: path, indexesBlocks: true)
        var random = SeededRandom()
        random.announce()
        let hole = ContentBlock(length: 1 << 20, digest: .zero)
        let pool = (0..<60).map { _ in Self.block(&random) }
        var files: [ObjectID: [ContentBlock]] = [:]
        for round in 0..<300 {
            var next = files
            do {
                try catalog.write { transaction in
                    for _ in 0..<random.int(in: 1...4) {
                        let id = ObjectID(random.int(in: 2...9))
                        if random.once(in: 5) {
                            try transaction.drop(id)
                            next[id] = nil
                            continue
                        }
                        // 18 of these blocks are 1 MiB.
                        var blocks = next[id] ?? []
                        for _ in 0..<random.int(in: 1...25) {
                            let at = random.int(in: 0...blocks.count)
                            switch random.int(in: 0..<6) {
                            case 0 where at < blocks.count: blocks.removeSubrange(at...)
                            case 1 where at < blocks.count: blocks.remove(at: at)
                            case 2: blocks.insert(hole, at: at)
                            case 3 where at < blocks.count: blocks[at] = pool.randomElement(using: &random)!
                            default: blocks.insert(pool.randomElement(using: &random)!, at: at)
                            }
                        }
                        try transaction.put(Self.row(id, blocks))
                        next[id] = blocks
                    }
                    if random.once(in: 6) { throw TakenBack() }
                }
                files = next
            } catch is TakenBack {}
            try catalog.write { transaction in
                #expect(try transaction.isIndexRight(), "round \(round); \(random.reproduce)")
                for block in pool {
                    let holders = files.filter { entry in
                        entry.value.contains(block) && entry.value.reduce(0) { $0 + $1.length } >= 1 << 20
                    }
                    let found = try transaction.files(holding: block)
                    #expect(
                        found == Array(holders.keys.sorted(by: >).prefix(4)), "round \(round); \(random.reproduce)")
                }
            }
        }
    }

    /// What was put in the same transaction is found too.
    @Test func indexKnowsWhatIsNotWrittenYet() throws {
        let catalog = try Catalog(path: path, indexesBlocks: true)
        var random = SeededRandom(seed: 1)
        let blocks = (0..<20).map { _ in Self.block(&random) }
        try catalog.write { transaction in
            try transaction.put(Self.row(2, blocks))
            #expect(try transaction.files(holding: blocks[7]) == [2])
            try transaction.drop(2)
            #expect(try transaction.files(holding: blocks[7]) == [])
        }
    }

    /// A replica has none; one that becomes a primary gets it, and a primary that becomes a replica is rid of it.
    @Test func indexIsWhereItIsWanted() throws {
        var random = SeededRandom(seed: 2)
        let blocks = (0..<3_000).map { _ in Self.block(&random) }
        let plain = try Catalog(path: path)
        try plain.write { transaction in
            try transaction.put(Self.row(2, blocks))
            #expect(try transaction.files(holding: blocks[1]) == [])
        }
        try plain.close()
        let without = try Directory.open(path: folder.path).status(of: Name("catalog.sqlite")).size
        let indexed = try Catalog(path: path, indexesBlocks: true)
        // No reads: with a connection that only reads, SQLite's log stays behind.
        #expect(try indexed.write { try $0.isIndexRight() })
        #expect(try indexed.write { try $0.files(holding: blocks[1]) } == [2])
        try indexed.close()
        let size = try Directory.open(path: folder.path).status(of: Name("catalog.sqlite")).size
        #expect(size > without && size < without + 3_000 * 40, "\(size) bytes, \(without) without")
        let again = try Catalog(path: path)
        try again.write { transaction in
            try transaction.put(Self.row(2, Array(blocks[..<2_000])))
            #expect(try transaction.files(holding: blocks[1]) == [])
        }
        try again.close()
        // What the table without an index had changed meanwhile is in the next one.
        let last = try Catalog(path: path, indexesBlocks: true)
        try last.write { transaction in
            #expect(try transaction.isIndexRight())
            #expect(try transaction.files(holding: blocks[2_500]) == [])
            try transaction.removeEverything()
            #expect(try transaction.files(holding: blocks[1]) == [])
            #expect(try transaction.isIndexRight())
        }
    }

    /// A small change of a large file writes the few pages where its blocks belong.
    @Test func aChangedBlockWritesLittle() throws {
        var random = SeededRandom(seed: 3)
        var blocks = (0..<20_000).map { _ in Self.block(&random) }
        let catalog = try Catalog(path: path, indexesBlocks: true)
        try catalog.write { try $0.put(Self.row(7, blocks)) }
        try catalog.close()
        let again = try Catalog(path: path, indexesBlocks: true)
        blocks[10_000] = Self.block(&random)
        blocks.remove(at: 15_000)
        try again.write { try $0.put(Self.row(7, blocks)) }
        let written = try Directory.open(path: folder.path).status(of: Name("catalog.sqlite-wal")).size
        #expect(written < 140_000, "of a table of 400,000 bytes and an index of as many")
        #expect(try again.read { try $0.isIndexRight() })
    }

    /// Objects that a listing knows by other numbers keep their tables, long ones too.
    @Test func renumberedObjectsKeepTheirBlocks() throws {
        var random = SeededRandom(seed: 4)
        let blocks = (0..<3_000).map { _ in Self.block(&random) }
        let catalog = try Catalog(path: path, indexesBlocks: true)
        let local = ObjectID.firstLocal + 5
        try catalog.write { transaction in
            try transaction.put(Self.row(local, blocks))
            try transaction.renumber(by: [local: 9])
            #expect(try transaction.object(9) == Self.row(9, blocks))
            #expect(try transaction.files(holding: blocks[5]) == [9])
            #expect(try transaction.isIndexRight())
        }
    }
}
