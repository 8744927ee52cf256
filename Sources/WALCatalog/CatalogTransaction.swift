import GRDB
import WALFormat
import WALSystem

/// The catalog inside one transaction. Every change keeps the tree digest and the counts right in O(1).
///
/// Valid only within the closure that it was given to, on that thread.
package final class CatalogTransaction {
    let database: Database
    private var statements: [String: SQLStatement] = [:]
    private var savedState: CatalogState
    package var state: CatalogState
    let indexesBlocks: Bool
    /// Nil where nothing is written.
    private let owner: Catalog?
    /// Entries of the index that are to be put (true) or to be taken out.
    var waitingIndex: [IndexEntry: Bool] = [:]

    init(_ database: Database, indexesBlocks: Bool, owner: Catalog? = nil) throws {
        self.database = database
        self.owner = owner
        self.indexesBlocks = indexesBlocks
        let statement = try SQLStatement(
            database,
            """
            SELECT epoch, seq, chain, digest, last_object, objects, bytes, complete, reconcile,
            whole_epoch, whole_seq, whole_chain FROM state WHERE one = 1
            """
        )
        defer { statement.reset() }
        if try statement.step() {
            state = CatalogState(
                position: Position(
                    epoch: statement.unsigned(0), seq: statement.unsigned(1), chain: try statement.digest(2)),
                treeDigest: try statement.digest(3), lastObject: statement.unsigned(4),
                objectCount: statement.unsigned(5), contentBytes: statement.unsigned(6),
                isComplete: statement.int(7) != 0,
                whole: Position(
                    epoch: statement.unsigned(9), seq: statement.unsigned(10), chain: try statement.digest(11)),
                mustReconcile: statement.int(8) != 0)
        } else {
            state = .empty
        }
        savedState = state
    }

    private func saveState(always: Bool) throws {
        if state.isComplete { state.whole = state.position }
        guard always || state != savedState else { return }
        let statement = try self.statement(
            "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        statement.bind(1, state.position.epoch)
        statement.bind(2, state.position.seq)
        statement.bind(3, state.position.chain)
        statement.bind(4, state.treeDigest)
        statement.bind(5, state.lastObject)
        statement.bind(6, state.objectCount)
        statement.bind(7, state.contentBytes)
        statement.bind(8, state.isComplete ? Int64(1) : 0)
        statement.bind(9, state.mustReconcile ? Int64(1) : 0)
        statement.bind(10, state.whole.epoch)
        statement.bind(11, state.whole.seq)
        statement.bind(12, state.whole.chain)
        try statement.run()
        savedState = state
    }

    /// Commits all that was done so far, synced, and goes on in a new transaction: only what comes after can still be taken
    /// back. For whoever is about to remove what the catalog would be repaired from.
    package func commitDurably() throws {
        try commit(durably: false)
        // SQLite takes the level for the next transaction.
        try database.execute(sql: "PRAGMA synchronous = FULL")
        try database.beginTransaction(.immediate)
        try commit(durably: true)
        try database.execute(sql: "PRAGMA synchronous = NORMAL")
        try database.beginTransaction(.immediate)
    }

    func commit(durably: Bool) throws {
        try writeIndex()
        // Without a change there is nothing to sync, and what was committed before would not be synced either.
        try saveState(always: durably)
        try database.commit()
        if durably { owner?.isDurable(state.position.seq) }
    }

    func statement(_ sql: String) throws -> SQLStatement {
        if let known = statements[sql] { return known }
        let made = try SQLStatement(database, sql)
        statements[sql] = made
        return made
    }

    // MARK: Objects

    private static let columns = """
        id, kind, mode, uid, gid, mtime, mtime_ns, size, ino, birth, stamp, content, body, attributes
        """

    package func object(_ id: ObjectID) throws -> ObjectRow? {
        let statement = try self.statement("SELECT \(Self.columns) FROM objects WHERE id = ?")
        defer { statement.reset() }
        statement.bind(1, id)
        return try statement.step() ? try row(statement) : nil
    }

    private func row(_ statement: SQLStatement) throws -> ObjectRow {
        let (kind, metadata) = try shared(statement, from: 1, attributes: 13)
        let body = statement.bytes(12)
        var row = ObjectRow(
            id: statement.unsigned(0), kind: kind, metadata: metadata, size: statement.unsigned(7),
            content: try statement.digest(11),
            identity: FileIdentity(ino: statement.unsigned(8), birthNanos: statement.int(9)),
            stamp: statement.int(10))
        switch kind {
        case .file:
            if body.isEmpty, row.size > 0 {
                row.blocks = try longTable(of: row.id)
            } else {
                do { row.blocks = try BlockTable(bytes: body) } catch { throw CatalogError.damaged("\(error)") }
            }
        case .symlink, .characterDevice, .blockDevice: row.target = body
        case .directory, .fifo: break
        }
        return row
    }

    private func shared(
        _ statement: SQLStatement, from column: Int32, attributes: Int32
    ) throws -> (Kind, Metadata) {
        guard let kind = Kind(rawValue: UInt8(truncatingIfNeeded: statement.int(column))) else {
            throw CatalogError.damaged("kind of an object")
        }
        let bytes = statement.blob(attributes)
        var found = Attributes.none
        if !bytes.isEmpty {
            do { found = try Attributes(bytes: Array(bytes)) } catch { throw CatalogError.damaged("\(error)") }
        }
        return (
            kind,
            Metadata(
                mode: UInt16(truncatingIfNeeded: statement.int(column + 1)),
                uid: UInt32(truncatingIfNeeded: statement.int(column + 2)),
                gid: UInt32(truncatingIfNeeded: statement.int(column + 3)),
                mtime: Timestamp(
                    seconds: statement.int(column + 4),
                    nanoseconds: UInt32(truncatingIfNeeded: statement.int(column + 5))),
                attributes: found)
        )
    }

    /// Puts a new object or replaces the one with this number.
    package func put(_ row: ObjectRow) throws {
        let old = try object(row.id)
        if let old { try forget(old, replacedBy: row) }
        try write(row)
        try reindex(from: old, to: row)
    }

    /// Puts an object whose number is not in the catalog yet.
    package func insert(_ row: ObjectRow) throws {
        try write(row)
        try reindex(from: nil, to: row)
    }

    private func write(_ row: ObjectRow) throws {
        let statement = try self.statement(
            "INSERT OR REPLACE INTO objects (\(Self.columns)) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        statement.bind(1, row.id)
        statement.bind(2, Int64(row.kind.rawValue))
        statement.bind(3, Int64(row.metadata.mode))
        statement.bind(4, Int64(row.metadata.uid))
        statement.bind(5, Int64(row.metadata.gid))
        statement.bind(6, row.metadata.mtime.seconds)
        statement.bind(7, Int64(row.metadata.mtime.nanoseconds))
        statement.bind(8, row.size)
        statement.bind(9, row.identity.ino)
        statement.bind(10, row.identity.birthNanos)
        statement.bind(11, row.stamp)
        statement.bind(12, row.content)
        let isLong = Self.isLong(row.blocks)
        if isLong { try putLongTable(row.blocks, of: row.id) }
        let body = row.kind == .file ? (isLong ? [] : row.blocks.bytes) : row.target
        try body.withUnsafeBytes { bytes in
            statement.bind(13, bytes)
            try row.metadata.attributes.bytes.withUnsafeBytes { attributes in
                statement.bind(14, attributes)
                try statement.run()
            }
        }
        state.treeDigest &+= row.digestPart
        state.objectCount += 1
        if row.kind == .file { state.contentBytes &+= row.size }
    }

    /// Takes the object out; its names are left to the caller.
    package func drop(_ id: ObjectID) throws {
        guard let old = try object(id) else { return }
        try forget(old, replacedBy: nil)
        try reindex(from: old, to: nil)
        let statement = try self.statement("DELETE FROM objects WHERE id = ?")
        statement.bind(1, id)
        try statement.run()
    }

    private func forget(_ old: ObjectRow, replacedBy new: ObjectRow?) throws {
        if Self.isLong(old.blocks), !(new.map { Self.isLong($0.blocks) } ?? false) { try removeLongTable(of: old.id) }
        state.treeDigest &-= old.digestPart
        state.objectCount -= 1
        if old.kind == .file { state.contentBytes &-= old.size }
    }

    /// Which inode of this tree the object is, and the change time that was seen; no part of the digest.
    package func setLocal(_ id: ObjectID, identity: FileIdentity, stamp: Int64) throws {
        let statement = try self.statement("UPDATE objects SET ino = ?, birth = ?, stamp = ? WHERE id = ?")
        statement.bind(1, identity.ino)
        statement.bind(2, identity.birthNanos)
        statement.bind(3, stamp)
        statement.bind(4, id)
        try statement.run()
    }

    package func identity(of id: ObjectID) throws -> FileIdentity? {
        let statement = try self.statement("SELECT ino, birth FROM objects WHERE id = ?")
        defer { statement.reset() }
        statement.bind(1, id)
        guard try statement.step() else { return nil }
        return FileIdentity(ino: statement.unsigned(0), birthNanos: statement.int(1))
    }

    /// How the object is seen in the tree, without its blocks.
    package func occupant(_ id: ObjectID) throws -> Occupant? {
        let statement = try self.statement(
            "SELECT kind, ino, birth, mtime, mtime_ns, size FROM objects WHERE id = ?")
        defer { statement.reset() }
        statement.bind(1, id)
        guard try statement.step() else { return nil }
        guard let kind = Kind(rawValue: UInt8(truncatingIfNeeded: statement.int(0))) else {
            throw CatalogError.damaged("kind of an object")
        }
        return Occupant(
            object: id, kind: kind,
            identity: FileIdentity(ino: statement.unsigned(1), birthNanos: statement.int(2)),
            mtime: Timestamp(seconds: statement.int(3), nanoseconds: UInt32(truncatingIfNeeded: statement.int(4))),
            size: statement.unsigned(5))
    }

    /// The object that is this inode, if the catalog knows it.
    package func find(_ identity: FileIdentity) throws -> ObjectID? {
        let statement = try self.statement("SELECT id FROM objects WHERE ino = ? AND birth = ?")
        defer { statement.reset() }
        statement.bind(1, identity.ino)
        statement.bind(2, identity.birthNanos)
        return try statement.step() ? statement.unsigned(0) : nil
    }

    /// A file of at least 4 KiB with exactly this content.
    package func find(content: Digest) throws -> ObjectID? {
        let statement = try self.statement(
            "SELECT id FROM objects WHERE content = ? AND kind = 1 AND size >= 4096 LIMIT 1")
        defer { statement.reset() }
        statement.bind(1, content)
        return try statement.step() ? statement.unsigned(0) : nil
    }

    // MARK: Names

    package func lookup(_ place: Place) throws -> ObjectID? {
        let statement = try self.statement("SELECT object FROM names WHERE parent = ? AND name = ?")
        defer { statement.reset() }
        statement.bind(1, place.parent)
        return try place.name.bytes.withUnsafeBytes { bytes in
            statement.bind(2, bytes)
            return try statement.step() ? statement.unsigned(0) : nil
        }
    }

    package func bind(_ place: Place, to object: ObjectID) throws {
        if let old = try lookup(place) {
            if old == object { return }
            state.treeDigest &-= part(place, old)
        }
        let statement = try self.statement("INSERT OR REPLACE INTO names (parent, name, object) VALUES (?, ?, ?)")
        statement.bind(1, place.parent)
        statement.bind(3, object)
        try place.name.bytes.withUnsafeBytes { bytes in
            statement.bind(2, bytes)
            try statement.run()
        }
        state.treeDigest &+= part(place, object)
    }

    package func unbind(_ place: Place) throws {
        guard let old = try lookup(place) else { return }
        let statement = try self.statement("DELETE FROM names WHERE parent = ? AND name = ?")
        statement.bind(1, place.parent)
        try place.name.bytes.withUnsafeBytes { bytes in
            statement.bind(2, bytes)
            try statement.run()
        }
        state.treeDigest &-= part(place, old)
    }

    private func part(_ place: Place, _ object: ObjectID) -> Digest {
        place.name.bytes.withUnsafeBytes { TreeDigest.part(ofName: $0, in: place.parent, to: object) }
    }

    /// All names of an object, in the order of (parent, name).
    /// The first `limit` of them: an object may have as many as its file system allows, 65,000 on ext4.
    package func places(of object: ObjectID, limit: Int = Int(Int64.max)) throws -> [Place] {
        let statement = try self.statement(
            "SELECT parent, name FROM names WHERE object = ? ORDER BY parent, name LIMIT ?")
        defer { statement.reset() }
        statement.bind(1, object)
        statement.bind(2, UInt64(limit))
        var places: [Place] = []
        while try statement.step() {
            places.append(Place(parent: statement.unsigned(0), name: Name(trusted: statement.bytes(1))))
        }
        return places
    }

    package func nameCount(of object: ObjectID) throws -> Int {
        let statement = try self.statement("SELECT count(*) FROM names WHERE object = ?")
        defer { statement.reset() }
        statement.bind(1, object)
        return try statement.step() ? Int(statement.unsigned(0)) : 0
    }

    package func hasName(_ object: ObjectID) throws -> Bool {
        let statement = try self.statement("SELECT 1 FROM names WHERE object = ? LIMIT 1")
        defer { statement.reset() }
        statement.bind(1, object)
        return try statement.step()
    }

    /// Objects that no name means, beside the root: a segment may end between a name that went and one that comes.
    package func namelessObjects() throws -> [ObjectID] {
        let statement = try self.statement(
            """
            SELECT id FROM objects WHERE id <> ? AND NOT EXISTS (SELECT 1 FROM names WHERE object = objects.id)
            ORDER BY id
            """)
        defer { statement.reset() }
        statement.bind(1, ObjectID.root)
        var objects: [ObjectID] = []
        while try statement.step() { objects.append(statement.unsigned(0)) }
        return objects
    }

    /// The entries of a directory, ordered by the bytes of their names.
    package func children(of parent: ObjectID) throws -> [ChildRow] {
        let statement = try self.statement(
            """
            SELECT n.name, n.object, o.kind, o.mode, o.uid, o.gid, o.mtime, o.mtime_ns, o.size, o.ino, o.birth, o.stamp,
                o.attributes
            FROM names n JOIN objects o ON o.id = n.object WHERE n.parent = ? ORDER BY n.name
            """)
        defer { statement.reset() }
        statement.bind(1, parent)
        var children: [ChildRow] = []
        while try statement.step() {
            let (kind, metadata) = try shared(statement, from: 2, attributes: 12)
            children.append(
                ChildRow(
                    name: Name(trusted: statement.bytes(0)), object: statement.unsigned(1), kind: kind,
                    metadata: metadata, size: statement.unsigned(8),
                    identity: FileIdentity(ino: statement.unsigned(9), birthNanos: statement.int(10)),
                    stamp: statement.int(11)))
        }
        return children
    }

    /// Components from the root to the object by its first name; nil when it has none or is not under the root.
    package func path(of object: ObjectID) throws -> [Name]? {
        var components: [Name] = []
        var current = object
        while current != .root {
            let statement = try self.statement("SELECT parent, name FROM names WHERE object = ? LIMIT 1")
            defer { statement.reset() }
            statement.bind(1, current)
            guard try statement.step(), components.count < Limits.maxDepth else { return nil }
            components.append(Name(trusted: statement.bytes(1)))
            current = statement.unsigned(0)
        }
        return components.reversed()
    }

    /// Follows components from the root; nil where one is missing.
    package func resolve(_ path: [Name]) throws -> ObjectID? {
        var current = ObjectID.root
        for name in path {
            guard let next = try lookup(Place(parent: current, name: name)) else { return nil }
            current = next
        }
        return current
    }

    package func hasDevices() throws -> Bool {
        let statement = try self.statement("SELECT 1 FROM objects WHERE kind IN (?, ?) LIMIT 1")
        defer { statement.reset() }
        statement.bind(1, UInt64(Kind.characterDevice.rawValue))
        statement.bind(2, UInt64(Kind.blockDevice.rawValue))
        return try statement.step()
    }

    package func nameCount() throws -> UInt64 {
        let statement = try self.statement("SELECT COUNT(*) FROM names")
        defer { statement.reset() }
        return try statement.step() ? statement.unsigned(0) : 0
    }

    /// Objects with more than one name.
    package func linkedObjects() throws -> Set<ObjectID> {
        let statement = try self.statement("SELECT object FROM names GROUP BY object HAVING COUNT(*) > 1")
        defer { statement.reset() }
        var objects: Set<ObjectID> = []
        while try statement.step() { objects.insert(statement.unsigned(0)) }
        return objects
    }

    // MARK: Whole tables

    /// Every object, in the order of their numbers.
    package func forEachObject(_ body: (ObjectRow) throws -> Void) throws {
        let statement = try SQLStatement(database, "SELECT \(Self.columns) FROM objects ORDER BY id")
        defer { statement.reset() }
        while try statement.step() { try body(try row(statement)) }
    }

    package func forEachName(_ body: (Place, ObjectID) throws -> Void) throws {
        let statement = try SQLStatement(database, "SELECT parent, name, object FROM names ORDER BY parent, name")
        defer { statement.reset() }
        while try statement.step() {
            let place = Place(parent: statement.unsigned(0), name: Name(trusted: statement.bytes(1)))
            try body(place, statement.unsigned(2))
        }
    }

    /// Empties the catalog: no objects, no names, the state as in a new one.
    package func removeEverything() throws {
        try database.execute(
            sql: "DELETE FROM names; DELETE FROM objects; DELETE FROM blocks; DELETE FROM missing;"
                + " DELETE FROM stale; DELETE FROM journal; DELETE FROM filter; DELETE FROM requests;")
        try makeIndex()
        state = .empty
    }

    /// The tree digest computed from all rows, to check the one that was kept.
    ///
    /// `each` is called for each row, and ends it by throwing.
    package func recomputedDigest(each: () throws -> Void = {}) throws -> Digest {
        var sum = Digest.zero
        try forEachObject {
            try each()
            sum &+= $0.digestPart
        }
        try forEachName {
            try each()
            sum &+= part($0, $1)
        }
        sum &+= TreeDigest.part(ofFilter: try filter())
        return sum
    }

    /// SQLite's own check of its pages, its indexes included.
    func checkPages() throws {
        let statement = try statement("PRAGMA integrity_check(1)")
        defer { statement.reset() }
        guard try statement.step() else { return }
        let found = String(decoding: statement.bytes(0), as: UTF8.self)
        if found != "ok" { throw CatalogError.damaged(found) }
    }
}

extension CatalogTransaction {
    /// Takes out the object if it has no name left, with all below it that has none then.
    package func dropUnnamed(_ object: ObjectID) throws {
        var waiting = [object]
        while let next = waiting.popLast() {
            guard next != .root, try !hasName(next), try identity(of: next) != nil else { continue }
            for child in try children(of: next) {
                try unbind(Place(parent: next, name: child.name))
                waiting.append(child.object)
            }
            try setMissing([], of: next)
            try drop(next)
        }
    }
}
