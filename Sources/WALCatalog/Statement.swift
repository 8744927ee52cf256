import GRDB
import GRDBSQLite
import WALFormat

/// A statement of GRDB's cache with SQLite's own binding: two to three times as fast as rows and arguments that GRDB
/// boxes, and these are the paths that a million files take.
struct SQLStatement {
    let handle: OpaquePointer
    private let connection: OpaquePointer

    init(_ database: Database, _ sql: String) throws {
        handle = try database.cachedStatement(sql: sql).sqliteStatement
        guard let connection = database.sqliteConnection else { throw CatalogError.database("connection is closed") }
        self.connection = connection
    }

    func bind(_ index: Int32, _ value: UInt64) {
        sqlite3_bind_int64(handle, index, Int64(bitPattern: value))
    }

    func bind(_ index: Int32, _ value: Int64) {
        sqlite3_bind_int64(handle, index, value)
    }

    /// The bytes must not change before the statement is reset: they are not copied.
    func bind(_ index: Int32, _ value: UnsafeRawBufferPointer) {
        if let base = value.baseAddress {
            sqlite3_bind_blob(handle, index, base, Int32(value.count), nil)
        } else {
            sqlite3_bind_zeroblob(handle, index, 0)
        }
    }

    func bindCopy(_ index: Int32, _ value: [UInt8]) {
        let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        _ = value.withUnsafeBytes { bytes in
            if let base = bytes.baseAddress, !bytes.isEmpty {
                return sqlite3_bind_blob(handle, index, base, Int32(bytes.count), transient)
            } else {
                return sqlite3_bind_zeroblob(handle, index, 0)
            }
        }
    }

    func bind(_ index: Int32, _ digest: Digest) {
        bindCopy(index, digest.bytes)
    }

    /// True when there is a row to read.
    func step() throws -> Bool {
        let code = sqlite3_step(handle)
        switch code {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        default:
            let text = String(cString: sqlite3_errmsg(connection))
            sqlite3_reset(handle)
            let path = sqlite3_db_filename(connection, "main").map { String(cString: $0) } ?? ""
            throw CatalogError(code: code, path: path, text)
        }
    }

    func run() throws {
        defer { reset() }
        _ = try step()
    }

    func reset() {
        sqlite3_reset(handle)
    }

    func int(_ column: Int32) -> Int64 {
        sqlite3_column_int64(handle, column)
    }

    func unsigned(_ column: Int32) -> UInt64 {
        UInt64(bitPattern: sqlite3_column_int64(handle, column))
    }

    /// Valid until the next step or reset.
    func blob(_ column: Int32) -> UnsafeRawBufferPointer {
        let count = Int(sqlite3_column_bytes(handle, column))
        return UnsafeRawBufferPointer(start: sqlite3_column_blob(handle, column), count: count)
    }

    func bytes(_ column: Int32) -> [UInt8] {
        Array(blob(column))
    }

    func digest(_ column: Int32) throws -> Digest {
        guard let digest = Digest(bytes: blob(column)) else { throw CatalogError.damaged("length of a digest") }
        return digest
    }
}
