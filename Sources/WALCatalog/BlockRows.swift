import WALFormat

/// Where the catalog keeps block tables: a short one in the object's row, a long one in rows of its own, cut where the
/// content says so, so that a change in the midst of a large file rewrites one small row and not the whole table.
extension CatalogTransaction {
    /// Tables up to this many bytes stay in the object's row: of files up to some 10 MiB.
    private static let maxRowBytes = 4096

    static func isLong(_ table: BlockTable) -> Bool { table.bytes.count > maxRowBytes }

    /// The table of a file whose row has none.
    func longTable(of object: ObjectID) throws -> BlockTable {
        let statement = try self.statement("SELECT entries FROM blocks WHERE object = ? ORDER BY part")
        defer { statement.reset() }
        statement.bind(1, object)
        var bytes: [UInt8] = []
        while try statement.step() { bytes += statement.blob(0) }
        do { return try BlockTable(bytes: bytes) } catch { throw CatalogError.damaged("\(error)") }
    }

    /// Writes the parts that are not there yet; what is there belongs to this object's last version, or is nothing.
    func putLongTable(_ table: BlockTable, of object: ObjectID) throws {
        let select = try statement("SELECT entries FROM blocks WHERE object = ? AND part = ?")
        let insert = try statement("INSERT OR REPLACE INTO blocks (object, part, entries) VALUES (?, ?, ?)")
        let parts = Self.parts(of: table)
        try table.bytes.withUnsafeBytes { bytes in
            for (number, range) in parts.enumerated() {
                let part = UnsafeRawBufferPointer(rebasing: bytes[range])
                select.bind(1, object)
                select.bind(2, Int64(number))
                let isThere = try select.step() && select.blob(0).elementsEqual(part)
                select.reset()
                if isThere { continue }
                insert.bind(1, object)
                insert.bind(2, Int64(number))
                insert.bind(3, part)
                try insert.run()
            }
        }
        try removeLongTable(of: object, from: parts.count)
    }

    func removeLongTable(of object: ObjectID, from part: Int = 0) throws {
        let statement = try self.statement("DELETE FROM blocks WHERE object = ? AND part >= ?")
        statement.bind(1, object)
        statement.bind(2, Int64(part))
        try statement.run()
    }

    /// Ranges of the table's bytes. A part ends behind a block whose digest says so, so that blocks which come or go
    /// change the part that they are in, and mostly no other.
    private static func parts(of table: BlockTable) -> [Range<Int>] {
        let minBlocks = 32
        let maxBlocks = 512
        var parts: [Range<Int>] = []
        var start = 0
        for index in 0..<table.count {
            let count = index + 1 - start
            let isLast = index + 1 == table.count
            guard isLast || count == maxBlocks || (count >= minBlocks && table[index].digest.low & 0x7F == 0) else {
                continue
            }
            parts.append(start * BlockTable.entryBytes..<(index + 1) * BlockTable.entryBytes)
            start = index + 1
        }
        return parts
    }
}
