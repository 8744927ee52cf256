import GRDBSQLite
import WALFormat
import WALSystem

/// An object as the catalog keeps it: what is replicated of it, and how to find it in this tree.
package struct ObjectRow: Hashable, Sendable {
    package var id: ObjectID
    package var kind: Kind
    package var metadata: Metadata
    /// Bytes of a file or of a symlink's target; 0 for a directory, whose size is the file system's own affair.
    package var size: UInt64
    /// Digest of a file's block table, of a symlink's target or of a device's numbers; zero for the rest.
    package var content: Digest
    /// A file's blocks; empty otherwise.
    package var blocks: BlockTable
    /// A symlink's target, or ``DeviceNumber/bytes`` of a device; empty otherwise.
    package var target: [UInt8]
    /// Which inode of this host it is. Local, never replicated.
    package var identity: FileIdentity
    /// The inode's change time when it was captured, in nanoseconds since 1970; ``neverSeen``, ``toBeRead`` or ``toBeScanned`` where
    /// that proves nothing. Local.
    package var stamp: Int64

    /// Nobody looked at the inode since it was written: equal identity, size and modification time must do.
    package static let neverSeen: Int64 = 0
    /// It may have changed without its times showing that: the next look reads it.
    package static let toBeRead: Int64 = -1
    /// Its content may change without its times: each scan reads it, until one has found it at rest.
    package static let toBeScanned: Int64 = -2

    package init(
        id: ObjectID, kind: Kind, metadata: Metadata, size: UInt64 = 0, content: Digest = .zero,
        blocks: BlockTable = BlockTable(), target: [UInt8] = [], identity: FileIdentity = .unknown, stamp: Int64 = 0
    ) {
        self.id = id
        self.kind = kind
        self.metadata = metadata
        self.size = size
        self.content = content
        self.blocks = blocks
        self.target = target
        self.identity = identity
        self.stamp = stamp
    }

    package static func symlink(id: ObjectID, metadata: Metadata, target: [UInt8]) -> ObjectRow {
        ObjectRow(
            id: id, kind: .symlink, metadata: metadata, size: UInt64(target.count), content: Digest(of: target),
            target: target)
    }

    /// A FIFO, or with a number a device.
    package static func node(_ kind: Kind, id: ObjectID, metadata: Metadata, _ number: DeviceNumber?) -> ObjectRow {
        let bytes = number?.bytes ?? []
        return ObjectRow(
            id: id, kind: kind, metadata: metadata, content: bytes.isEmpty ? .zero : Digest(of: bytes), target: bytes)
    }

    package var device: DeviceNumber? { DeviceNumber(bytes: target) }

    package var digestPart: Digest {
        TreeDigest.part(ofObject: id, kind: kind, metadata: metadata, size: size, content: content)
    }
}

/// An entry of a directory together with what a scan compares; the block table stays in the database.
package struct ChildRow: Sendable {
    package var name: Name
    package var object: ObjectID
    package var kind: Kind
    package var metadata: Metadata
    package var size: UInt64
    package var identity: FileIdentity
    package var stamp: Int64
}

/// Where a name stands.
package struct Place: Hashable, Sendable {
    package var parent: ObjectID
    package var name: Name

    package init(parent: ObjectID, name: Name) {
        self.parent = parent
        self.name = name
    }
}

/// What is on disk at a name, and what the catalog knew of it: enough to tell it from something else in its place.
package struct Occupant: Hashable, Sendable {
    package var object: ObjectID
    package var kind: Kind
    package var identity: FileIdentity
    package var mtime: Timestamp
    package var size: UInt64

    package init(object: ObjectID, kind: Kind, identity: FileIdentity, mtime: Timestamp, size: UInt64) {
        self.object = object
        self.kind = kind
        self.identity = identity
        self.mtime = mtime
        self.size = size
    }

    package init(_ row: ObjectRow) {
        self.init(
            object: row.id, kind: row.kind, identity: row.identity, mtime: row.metadata.mtime, size: row.size)
    }

    /// A file that somebody wrote to. Times that a file system cannot keep say nothing.
    package func isEdited(_ now: FileStatus) -> Bool {
        guard kind == .file else { return false }
        return now.size != size || !mtime.mayBeKept(as: now.mtime)
    }
}

/// A block that a pending file still lacks: its sender no longer had it, so a later segment must bring it or replace it.
package struct MissingBlock: Hashable, Sendable {
    package var object: ObjectID
    /// Bytes from the start of the file.
    package var offset: UInt64
    package var block: ContentBlock

    package init(object: ObjectID, offset: UInt64, block: ContentBlock) {
        self.object = object
        self.offset = offset
        self.block = block
    }
}

/// What the catalog as a whole says.
package struct CatalogState: Hashable, Sendable {
    package var position: Position
    package var treeDigest: Digest
    /// Highest object number given in this history.
    package var lastObject: ObjectID
    package var objectCount: UInt64
    /// Sum of the sizes of all files, in bytes.
    package var contentBytes: UInt64
    /// The catalog describes the tree as of `position`. False from the start of a reconcile to its end.
    package var isComplete: Bool
    /// The last position at which it did: what a replica may say that it has applied.
    package var whole = Position.start
    /// Names were taken out because they are not in the tree any more: no segment fits before a reconcile brought them
    /// back.
    package var mustReconcile = false

    /// The names and objects are those of one position of a history, though content of some may still be to come.
    package var isWholeTree: Bool { position.seq > 0 && !mustReconcile }

    package static let empty = CatalogState(
        position: .start, treeDigest: .zero, lastObject: .root, objectCount: 0, contentBytes: 0, isComplete: false)
}

package enum CatalogError: Error, Sendable, CustomStringConvertible {
    /// SQLite's own words.
    case database(String)
    /// The disk is full; the transaction was taken back. The path of the database, and SQLite's own words.
    case full(path: String, String)
    /// Not what was written: SQLite's own words, or a row that no program of ours writes.
    case damaged(String)
    /// An entry that does not fit what the catalog holds.
    case mismatch(String)

    package var description: String {
        switch self {
        case .database(let text): "catalog.sqlite: \(text)"
        case .full(let path, let text): "cannot write '\(path)': No space left on device (\(text))"
        case .damaged(let text):
            "catalog.sqlite is damaged (\(text)); start walship or walrecv for the tree, which makes it anew"
        case .mismatch(let text): "entry does not fit the catalog: \(text)"
        }
    }
}

extension CatalogError {
    /// Of SQLite's result codes, without what they are extended by.
    init(code: Int32, path: String, _ text: String) {
        self =
            switch code & 0xFF {
            case SQLITE_FULL: .full(path: path, text)
            case SQLITE_CORRUPT, SQLITE_NOTADB: .damaged(text)
            default: .database(text)
            }
    }
}

extension FileIdentity {
    /// Of an object that is not on disk yet.
    package static let unknown = FileIdentity(ino: 0, birthNanos: 0)
}
