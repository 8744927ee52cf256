import GRDB
import WALFormat

/// From a block to the files that hold it, so that a primary sends no content that its replicas have anywhere in their
/// trees. The table is there only in a catalog that was opened for it: a replica pays nothing for what it never asks.
///
/// It is derived from the block tables, and only by the functions that write those.
extension CatalogTransaction {
    /// Files below this are not in the index: there are too many of them, and each costs little to send again.
    package static let minIndexedBytes: UInt64 = 1 << 20

    struct IndexEntry: Hashable, Comparable {
        var key: Int64
        var object: ObjectID

        static func < (left: Self, right: Self) -> Bool { (left.key, left.object) < (right.key, right.object) }
    }

    /// Changes of the index that are kept back, so that they are written in the order of the table: its pages are met in
    /// no order otherwise, and each would be written once for every block. 16 GiB of new content, some 10 MB of memory.
    private static let maxWaiting = 1 << 18

    /// 48 bits of the digest, which is what SQLite keeps in six bytes. Two blocks with one key cost a look at a table.
    private static func key(of block: ContentBlock) -> Int64 { Int64(bitPattern: block.digest.low) >> 16 }

    /// Makes the table, or takes it away, so that it is there exactly where it `isKept`.
    static func prepareIndex(_ pool: DatabasePool, isKept: Bool) throws {
        // By the writer's connection: one that only reads would be the last to close, and leave SQLite's log behind.
        try pool.writeWithoutTransaction { database in
            guard try database.tableExists("block_index") != isKept else { return }
            try database.inTransaction(.immediate) {
                if isKept {
                    try database.execute(
                        sql: """
                            CREATE TABLE block_index (key INTEGER, object INTEGER, PRIMARY KEY (key, object))
                            WITHOUT ROWID
                            """)
                    try CatalogTransaction(database, indexesBlocks: true).makeIndex()
                } else {
                    try database.execute(sql: "DROP TABLE block_index")
                }
                return .commit
            }
        }
    }

    /// Bytes on the disk that the index takes where there is none yet, at most, and the write-ahead file while it is made: an
    /// entry is about as long as that of a block table.
    package func indexRoom() throws -> UInt64 {
        guard try !database.tableExists("block_index") else { return 0 }
        return 2 * UInt64(try Double.fetchOne(database, sql: "SELECT TOTAL(LENGTH(entries)) FROM blocks") ?? 0)
    }

    /// The index of all that the catalog holds, anew.
    func makeIndex() throws {
        guard indexesBlocks else { return }
        waitingIndex.removeAll()
        try database.execute(sql: "DELETE FROM block_index")
        try forEachObject { try reindex(from: nil, to: $0) }
        try writeIndex()
    }

    /// Brings the index from one version of an object to the next; nil where there is none.
    func reindex(from old: ObjectRow?, to new: ObjectRow?) throws {
        guard indexesBlocks, let object = old?.id ?? new?.id else { return }
        let (gone, come) = Self.difference(Self.indexed(old), Self.indexed(new))
        for key in gone { waitingIndex[IndexEntry(key: key, object: object)] = false }
        for key in come { waitingIndex[IndexEntry(key: key, object: object)] = true }
        if waitingIndex.count >= Self.maxWaiting { try writeIndex() }
    }

    private static func indexed(_ row: ObjectRow?) -> BlockTable {
        guard let row, row.kind == .file, row.size >= minIndexedBytes else { return BlockTable() }
        return row.blocks
    }

    /// Keys that only one of the two has. What both begin and end with, nearly all of a large file, is only compared.
    private static func difference(_ old: BlockTable, _ new: BlockTable) -> (gone: Set<Int64>, come: Set<Int64>) {
        if old == new { return ([], []) }
        let shorter = min(old.count, new.count)
        var head = 0
        while head < shorter, old[head] == new[head] { head += 1 }
        var tail = 0
        while tail < shorter - head, old[old.count - 1 - tail] == new[new.count - 1 - tail] { tail += 1 }
        var gone = keys(of: old, head..<old.count - tail)
        var come = keys(of: new, head..<new.count - tail)
        let both = gone.intersection(come)
        gone.subtract(both)
        come.subtract(both)
        // A file may hold a block several times.
        if !gone.isEmpty {
            gone.subtract(keys(of: new, 0..<head))
            gone.subtract(keys(of: new, new.count - tail..<new.count))
        }
        return (gone, come)
    }

    private static func keys(of table: BlockTable, _ range: Range<Int>) -> Set<Int64> {
        var keys: Set<Int64> = []
        for index in range {
            let block = table[index]
            if !block.isHole { keys.insert(key(of: block)) }
        }
        return keys
    }

    /// Writes what was kept back.
    func writeIndex() throws {
        guard !waitingIndex.isEmpty else { return }
        let insert = try statement("INSERT OR IGNORE INTO block_index (key, object) VALUES (?, ?)")
        let delete = try statement("DELETE FROM block_index WHERE key = ? AND object = ?")
        for (entry, isThere) in waitingIndex.sorted(by: { $0.key < $1.key }) {
            let statement = isThere ? insert : delete
            statement.bind(1, entry.key)
            statement.bind(2, entry.object)
            try statement.run()
        }
        waitingIndex.removeAll()
    }

    /// The index is what the tables come to, to check the one that was kept.
    package func isIndexRight() throws -> Bool {
        try writeIndex()
        var expected: Set<IndexEntry> = []
        try forEachObject { row in
            let table = Self.indexed(row)
            for key in Self.keys(of: table, 0..<table.count) {
                expected.insert(IndexEntry(key: key, object: row.id))
            }
        }
        let statement = try self.statement("SELECT key, object FROM block_index")
        defer { statement.reset() }
        var count = 0
        while try statement.step() {
            count += 1
            guard expected.contains(IndexEntry(key: statement.int(0), object: statement.unsigned(1))) else {
                return false
            }
        }
        return count == expected.count
    }

    /// Some files that hold the block, the latest objects first: what was made last is likeliest to be like what is made
    /// now. Each is to be checked against its table. None in a catalog without an index.
    package func files(holding block: ContentBlock) throws -> [ObjectID] {
        guard indexesBlocks else { return [] }
        try writeIndex()
        let statement = try self.statement(
            "SELECT object FROM block_index WHERE key = ? ORDER BY object DESC LIMIT 4")
        defer { statement.reset() }
        statement.bind(1, Self.key(of: block))
        var files: [ObjectID] = []
        while try statement.step() { files.append(statement.unsigned(0)) }
        return files
    }
}
