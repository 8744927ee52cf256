import WALFormat
import WALSystem

/// Blocks that files still lack, what is seen in their places meanwhile, and the batch that is being published.
extension CatalogTransaction {
    package func missingBlocks(of object: ObjectID) throws -> [MissingBlock] {
        let statement = try self.statement(
            "SELECT offset, length, digest FROM missing WHERE object = ? ORDER BY offset")
        defer { statement.reset() }
        statement.bind(1, object)
        var blocks: [MissingBlock] = []
        while try statement.step() {
            let block = ContentBlock(
                length: UInt32(truncatingIfNeeded: statement.int(1)), digest: try statement.digest(2))
            blocks.append(MissingBlock(object: object, offset: statement.unsigned(0), block: block))
        }
        return blocks
    }

    /// Numbers of the files that lack blocks.
    package func pendingObjects() throws -> [ObjectID] {
        let statement = try self.statement("SELECT DISTINCT object FROM missing ORDER BY object")
        defer { statement.reset() }
        var objects: [ObjectID] = []
        while try statement.step() { objects.append(statement.unsigned(0)) }
        return objects
    }

    package func isPending(_ object: ObjectID) throws -> Bool {
        let statement = try self.statement("SELECT 1 FROM missing WHERE object = ? LIMIT 1")
        defer { statement.reset() }
        statement.bind(1, object)
        return try statement.step()
    }

    package func setMissing(_ blocks: [MissingBlock], of object: ObjectID) throws {
        let delete = try statement("DELETE FROM missing WHERE object = ?")
        delete.bind(1, object)
        try delete.run()
        let insert = try statement("INSERT INTO missing (object, offset, length, digest) VALUES (?, ?, ?, ?)")
        for missing in blocks {
            insert.bind(1, object)
            insert.bind(2, missing.offset)
            insert.bind(3, UInt64(missing.block.length))
            insert.bind(4, missing.block.digest)
            try insert.run()
        }
    }

    /// What is still seen at the name of a file that lacks blocks: the version before it. nil when nothing is.
    package func stale(at place: Place) throws -> Occupant? {
        let statement = try self.statement(
            "SELECT object, kind, ino, birth, mtime, mtime_ns, size FROM stale WHERE parent = ? AND name = ?")
        defer { statement.reset() }
        statement.bind(1, place.parent)
        return try place.name.bytes.withUnsafeBytes { bytes in
            statement.bind(2, bytes)
            guard try statement.step() else { return nil }
            guard let kind = Kind(rawValue: UInt8(truncatingIfNeeded: statement.int(1))) else {
                throw CatalogError.damaged("kind of what is stale")
            }
            return Occupant(
                object: statement.unsigned(0), kind: kind,
                identity: FileIdentity(ino: statement.unsigned(2), birthNanos: statement.int(3)),
                mtime: Timestamp(
                    seconds: statement.int(4), nanoseconds: UInt32(truncatingIfNeeded: statement.int(5))),
                size: statement.unsigned(6))
        }
    }

    /// Notes what is still seen at a name, or with nil that it is what the catalog says.
    package func setStale(_ occupant: Occupant?, at place: Place) throws {
        guard let occupant else {
            let delete = try statement("DELETE FROM stale WHERE parent = ? AND name = ?")
            delete.bind(1, place.parent)
            try place.name.bytes.withUnsafeBytes { bytes in
                delete.bind(2, bytes)
                try delete.run()
            }
            return
        }
        let insert = try statement("INSERT OR REPLACE INTO stale VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
        insert.bind(1, place.parent)
        insert.bind(3, occupant.object)
        insert.bind(4, Int64(occupant.kind.rawValue))
        insert.bind(5, occupant.identity.ino)
        insert.bind(6, occupant.identity.birthNanos)
        insert.bind(7, occupant.mtime.seconds)
        insert.bind(8, Int64(occupant.mtime.nanoseconds))
        insert.bind(9, occupant.size)
        try place.name.bytes.withUnsafeBytes { bytes in
            insert.bind(2, bytes)
            try insert.run()
        }
    }

    /// What files still lack will not come: what is in the tree instead is what there is.
    package func forgetPending() throws {
        try statement("DELETE FROM missing").run()
        try statement("DELETE FROM stale").run()
        state.isComplete = !state.mustReconcile
    }

    package func hasStale() throws -> Bool {
        let statement = try self.statement("SELECT 1 FROM stale LIMIT 1")
        defer { statement.reset() }
        return try statement.step()
    }

    // MARK: Publishing in progress

    /// What was about to be published when the transaction was committed; empty when nothing was.
    package func journal() throws -> [UInt8] {
        let statement = try self.statement("SELECT ops FROM journal WHERE one = 1")
        defer { statement.reset() }
        return try statement.step() ? statement.bytes(0) : []
    }

    package func setJournal(_ ops: [UInt8]) throws {
        let statement = try self.statement("INSERT OR REPLACE INTO journal VALUES (1, ?)")
        statement.bindCopy(1, ops)
        try statement.run()
    }
}
