import GRDB
import Glibc
import Synchronization
import WALFormat
import WALSystem

/// `catalog.sqlite`: what the tree holds as of a position. Derived from the log and the tree, so it is committed after
/// the log and repaired from it; losing it costs a scan, never data.
///
/// One thread writes. Readers get a snapshot that stays as it was while the writer goes on (SQLite's WAL mode), which is
/// what a first sync of an hour reads from.
package final class Catalog: Sendable {
    private let pool: DatabasePool
    private let indexesBlocks: Bool
    private let isReadOnly: Bool
    private let damaged: @Sendable (String) -> Void
    package let path: String
    /// How many are at work on a connection, and whether no more may come. GRDB (7.10) hands a reader that comes while the
    /// pool is being closed a connection without a database, and the process ends with a bad pointer.
    private let users = Monitor((count: 0, isClosed: false))
    private let check = Monitor(Check.none)
    private let durable = Atomic<UInt64>(0)
    /// Segments up to this one are in the catalog also after a power cut: none of them is needed to repair it. 0 until this
    /// process commits durably for the first time.
    package var durableSeq: UInt64 { durable.load(ordering: .acquiring) }

    /// Creates the database when it is not there. `path` is text because SQLite takes it so. Whoever only reads changes
    /// nothing and is in nobody's way, also where a daemon is just starting.
    ///
    /// `indexesBlocks`: files are found by the blocks that they hold. A catalog that was without is brought to that here,
    /// and one that has no use for it any more loses it.
    ///
    /// `damaged` is called, on whichever thread that is, when it turns out later that the file is not what was written.
    package init(
        path: String, readOnly: Bool = false, indexesBlocks: Bool = false,
        damaged: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(CatalogError) {
        self.path = path
        self.indexesBlocks = indexesBlocks
        isReadOnly = readOnly
        self.damaged = damaged
        let index = SharedIndex(of: path)
        try index?.requireRoom()
        do {
            var configuration = Configuration()
            configuration.readonly = readOnly
            configuration.maximumReaderCount = 16
            configuration.busyMode = .timeout(10)
            configuration.prepareDatabase { database in
                // NORMAL syncs at checkpoints only: a crash may take back the last commits, which the log repairs. Where
                // a commit must hold before something else happens, `durably` and ``CatalogTransaction/commitDurably()``
                // say so.
                try database.execute(
                    sql: """
                        PRAGMA synchronous = NORMAL;
                        PRAGMA cache_size = -32768;
                        PRAGMA temp_store = MEMORY;
                        PRAGMA journal_size_limit = 16777216;
                        """)
            }
            pool = try DatabasePool(path: path, configuration: configuration)
            try index?.reserve()
            if !readOnly {
                try Schema.migrator.migrate(pool)
                try CatalogTransaction.prepareIndex(pool, isKept: indexesBlocks)
            }
        } catch let error as DatabaseError {
            throw CatalogError(code: error.resultCode.rawValue, path: path, "\(path): \(error)")
        } catch let error as CatalogError {
            throw error
        } catch {
            throw .database("\(path): \(error)")
        }
    }

    /// Runs `body` in a transaction: committed when it returns, as if it had never been when it throws.
    package func write<T>(durably: Bool = false, _ body: (CatalogTransaction) throws -> T) throws -> T {
        try translated { try transact(durably: durably, body) }
    }

    /// A commit can meet a full disk, and a read a damaged page, too, and GRDB says that in its own words.
    private func translated<T>(_ body: () throws -> T) throws -> T {
        do {
            do {
                return try body()
            } catch let error as DatabaseError {
                throw CatalogError(code: error.resultCode.rawValue, path: path, "\(error)")
            }
        } catch let error as CatalogError {
            if case .damaged(let text) = error { damaged(text) }
            throw error
        }
    }

    private func transact<T>(durably: Bool, _ body: (CatalogTransaction) throws -> T) throws -> T {
        try enter()
        defer { leave() }
        return try pool.writeWithoutTransaction { database in
            // SQLite takes the new level for the next transaction, so it stands outside of it.
            if durably { try database.execute(sql: "PRAGMA synchronous = FULL") }
            defer { if durably { try? database.execute(sql: "PRAGMA synchronous = NORMAL") } }
            // Not in GRDB's closure for it, which must be left with the transaction that it was entered with.
            try database.beginTransaction(.immediate)
            do {
                let transaction = try CatalogTransaction(database, indexesBlocks: indexesBlocks, owner: self)
                let result = try body(transaction)
                try transaction.commit(durably: durably)
                return result
            } catch {
                // SQLite takes some back by itself.
                if database.isInsideTransaction { try? database.rollback() }
                throw error
            }
        }
    }

    func isDurable(_ seq: UInt64) {
        durable.store(seq, ordering: .releasing)
    }

    /// Runs `body` on one consistent snapshot.
    package func read<T>(_ body: (CatalogTransaction) throws -> T) throws -> T {
        try enter()
        defer { leave() }
        return try translated {
            try pool.read { database in
                try body(try CatalogTransaction(database, indexesBlocks: indexesBlocks))
            }
        }
    }

    /// A copy of what is there now, for whoever reads so long that a snapshot would keep the write-ahead file from ever
    /// being checkpointed, or takes a connection from everybody else. It has no name: it is gone with the last use.
    ///
    /// - Parameter folder: where its bytes are while it lives.
    package func copy(in folder: String) throws -> CatalogCopy {
        try enter()
        defer { leave() }
        let name = "\(folder)/\(temporaryName())"
        defer { unlink(name) }
        return try translated {
            var configuration = Configuration()
            // Exclusive, it has no shared index, for which there might be no room.
            configuration.prepareDatabase {
                try $0.execute(sql: "PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE")
            }
            let queue = try DatabaseQueue(path: name, configuration: configuration)
            try pool.backup(to: queue)
            // The copy says of itself that it has a write-ahead file, which would need the name.
            try queue.writeWithoutTransaction { try $0.execute(sql: "PRAGMA journal_mode = DELETE") }
            return CatalogCopy(queue)
        }
    }

    /// Has all rows checked, on a thread of its own: see ``requireRight()``.
    package func beginCheck() throws {
        check.update { $0 = .running }
        _ = try WorkerThread.start(name: "rows") { [self] in
            do {
                try checkRows()
                check.update { $0 = .right }
            } catch {
                check.update { $0 = .failed("\(error)") }
            }
        }
    }

    /// Waits for the check, if one runs, and throws what it found. For whoever tells others what the rows say.
    package func requireRight() throws {
        let found: Check? = check.wait { if case .running = $0 { nil } else { $0 } }
        if case .failed(let text)? = found { throw CatalogError.database(text) }
    }

    private enum Check: Sendable {
        case none, running, right
        case failed(String)
    }

    /// Reads all rows: whether they are what the digest says that was kept while they were written. Where not, it is damaged in a
    /// way that SQLite cannot see. Ends early when the catalog is closed.
    package func checkRows() throws {
        try read { transaction in
            var count = 0
            let digest = try transaction.recomputedDigest {
                count += 1
                guard count % 1024 != 0 || !users.withLock({ $0.isClosed }) else {
                    throw CatalogError.database("\(path) is closed")
                }
            }
            guard digest == transaction.state.treeDigest else {
                throw CatalogError.damaged("its rows do not have the digest that it states")
            }
        }
    }

    /// Whether all of the file is what was written: every page of it, and then ``checkRows()``.
    package func checkAll() throws {
        try read { try $0.checkPages() }
        try checkRows()
    }

    package func state() throws -> CatalogState {
        try read { $0.state }
    }

    /// Closes all connections; waits for those who are at work, and refuses who comes later. What was committed is durable
    /// then, in the file itself: whoever opens it next counts on that.
    package func close() throws {
        let wasOpen = users.withLock { users in
            defer { users.isClosed = true }
            return !users.isClosed
        }
        users.wait { $0.count == 0 ? () : nil }
        // GRDB keeps the write-ahead file as it is. With no room left to move it into the database it is as good where it is.
        if wasOpen, !isReadOnly { _ = try? pool.writeWithoutTransaction { try $0.checkpoint(.truncate) } }
        try pool.close()
    }

    private func enter() throws(CatalogError) {
        try users.withLock { users throws(CatalogError) in
            guard !users.isClosed else { throw .database("\(path) is closed") }
            users.count += 1
        }
    }

    private func leave() {
        users.update { $0.count -= 1 }
    }
}

/// See ``Catalog/copy(in:)``.
package final class CatalogCopy: Sendable {
    private let queue: DatabaseQueue

    fileprivate init(_ queue: DatabaseQueue) {
        self.queue = queue
    }

    package func read<T>(_ body: (CatalogTransaction) throws -> T) throws -> T {
        try queue.read { try body(try CatalogTransaction($0, indexesBlocks: false)) }
    }
}

enum Schema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { database in
            try database.execute(
                sql: """
                    CREATE TABLE state (
                        one INTEGER PRIMARY KEY CHECK (one = 1),
                        epoch INTEGER NOT NULL, seq INTEGER NOT NULL, chain BLOB NOT NULL,
                        digest BLOB NOT NULL, last_object INTEGER NOT NULL,
                        objects INTEGER NOT NULL, bytes INTEGER NOT NULL, complete INTEGER NOT NULL, reconcile INTEGER NOT NULL,
                        whole_epoch INTEGER NOT NULL, whole_seq INTEGER NOT NULL, whole_chain BLOB NOT NULL
                    );
                    CREATE TABLE objects (
                        id INTEGER PRIMARY KEY,
                        kind INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
                        mtime INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL,
                        ino INTEGER NOT NULL, birth INTEGER NOT NULL, stamp INTEGER NOT NULL,
                        content BLOB NOT NULL, body BLOB NOT NULL, attributes BLOB NOT NULL
                    );
                    CREATE INDEX objects_ino ON objects (ino);
                    CREATE INDEX objects_content ON objects (content) WHERE kind = 1 AND size >= 4096;
                    CREATE TABLE blocks (
                        object INTEGER NOT NULL, part INTEGER NOT NULL, entries BLOB NOT NULL,
                        PRIMARY KEY (object, part)
                    ) WITHOUT ROWID;
                    CREATE TABLE names (
                        parent INTEGER NOT NULL, name BLOB NOT NULL, object INTEGER NOT NULL,
                        PRIMARY KEY (parent, name)
                    ) WITHOUT ROWID;
                    CREATE INDEX names_object ON names (object);
                    CREATE TABLE missing (
                        object INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
                        digest BLOB NOT NULL, PRIMARY KEY (object, offset)
                    ) WITHOUT ROWID;
                    CREATE TABLE stale (
                        parent INTEGER NOT NULL, name BLOB NOT NULL, object INTEGER NOT NULL, kind INTEGER NOT NULL,
                        ino INTEGER NOT NULL, birth INTEGER NOT NULL,
                        mtime INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL,
                        PRIMARY KEY (parent, name)
                    ) WITHOUT ROWID;
                    CREATE TABLE filter (one INTEGER PRIMARY KEY CHECK (one = 1), rules BLOB NOT NULL);
                    CREATE TABLE journal (one INTEGER PRIMARY KEY CHECK (one = 1), ops BLOB NOT NULL);
                    """)
        }
        migrator.registerMigration("2") { database in
            try database.execute(
                sql: """
                    CREATE TABLE requests (
                        id BLOB PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, chain BLOB NOT NULL
                    ) WITHOUT ROWID;
                    CREATE INDEX requests_seq ON requests (seq);
                    """)
        }
        // In the order in which they were noted: what came by a sync is all of one segment.
        migrator.registerMigration("3") { database in
            try database.execute(
                sql: """
                    ALTER TABLE requests RENAME TO requests_2;
                    CREATE TABLE requests (
                        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, epoch INTEGER NOT NULL,
                        seq INTEGER NOT NULL, chain BLOB NOT NULL
                    );
                    INSERT INTO requests (id, epoch, seq, chain)
                        SELECT id, epoch, seq, chain FROM requests_2 ORDER BY seq;
                    DROP TABLE requests_2;
                    CREATE INDEX requests_seq ON requests (seq);
                    """)
        }
        return migrator
    }
}
