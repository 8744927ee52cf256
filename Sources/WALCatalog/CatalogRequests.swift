import WALFormat

/// Which writes of clients the tree holds, so that one that is asked for again is not done again.
extension CatalogTransaction {
    /// As many are kept. A client that asks again does so within minutes.
    package static let maxRequests: UInt64 = 10_000

    /// Where the request was logged; nil when it was not, or so long ago that nobody asks again.
    package func position(of request: RequestID) throws -> Position? {
        let statement = try self.statement("SELECT epoch, seq, chain FROM requests WHERE id = ?")
        defer { statement.reset() }
        statement.bind(1, request.value)
        guard try statement.step() else { return nil }
        return Position(epoch: statement.unsigned(0), seq: statement.unsigned(1), chain: try statement.digest(2))
    }

    package func note(_ request: RequestID, at position: Position) throws {
        let statement = try self.statement(
            "INSERT OR REPLACE INTO requests (id, epoch, seq, chain) VALUES (?, ?, ?, ?)")
        statement.bind(1, request.value)
        statement.bind(2, position.epoch)
        statement.bind(3, position.seq)
        statement.bind(4, position.chain)
        try statement.run()
        let prune = try self.statement("DELETE FROM requests WHERE number <= (SELECT max(number) FROM requests) - ?")
        prune.bind(1, Self.maxRequests)
        try prune.run()
    }

    /// All that are kept, in the order in which they were noted.
    package func requests() throws -> [RequestID] {
        let statement = try self.statement("SELECT id FROM requests ORDER BY number")
        defer { statement.reset() }
        var requests: [RequestID] = []
        while try statement.step() { requests.append(RequestID(try statement.digest(0))) }
        return requests
    }

    /// What was written after `seq` is not on this history any more, so none of those requests was done.
    package func forgetRequests(after seq: UInt64) throws {
        let statement = try self.statement("DELETE FROM requests WHERE seq > ?")
        statement.bind(1, seq)
        try statement.run()
    }
}

extension CatalogTransaction {
    /// Objects whose inode nobody has looked up, parents before what is in them wherever that was so when they were made.
    package func unknownObjects() throws -> [ObjectID] {
        let statement = try self.statement("SELECT id FROM objects WHERE ino = 0 AND birth = 0 ORDER BY id")
        defer { statement.reset() }
        var objects: [ObjectID] = []
        while try statement.step() { objects.append(statement.unsigned(0)) }
        return objects
    }
}
