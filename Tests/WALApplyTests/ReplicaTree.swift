import WALApply
import WALCatalog
import WALFormat
import WALSystem
import WALTreeKit

/// A replica without a network: a directory, its catalog, and an applier that is given segments.
final class ReplicaTree {
    private let scratch: Scratch
    let path: String
    let stagingPath: String
    let quarantinePath: String
    let quarantine: Quarantine
    let written = WrittenBytes()
    private(set) var catalog: Catalog
    private(set) var applier: Applier

    /// An empty folder and an empty catalog.
    init() throws {
        scratch = try Scratch()
        path = scratch.path + "/tree"
        stagingPath = scratch.path + "/staging"
        quarantinePath = scratch.path + "/quarantine"
        for folder in [path, stagingPath, quarantinePath] { try Files.makeDirectory(folder) }
        catalog = try Catalog(path: scratch.path + "/catalog.sqlite")
        quarantine = Quarantine(directory: try Directory.open(path: quarantinePath))
        applier = Applier(
            catalog: catalog, root: try Directory.open(path: path), staging: try Directory.open(path: stagingPath),
            quarantine: quarantine, written: written)
    }

    /// Begins where a primary with an empty root began: at its baseline.
    convenience init(of primary: PrimaryTree) throws {
        try self.init()
        let root = try Directory.open(path: path)
        let first = primary.firstRoot!
        let baseline = primary.sink.segments[0]
        try catalog.write { transaction in
            var row = first
            row.identity = try root.status().identity
            try transaction.insert(row)
            transaction.state.position = baseline.position
            transaction.state.lastObject = baseline.header.lastObject
            transaction.state.isComplete = true
        }
        try root.setOwner(uid: first.metadata.uid, gid: first.metadata.gid)
        try root.setMode(first.metadata.mode)
        try root.setModificationTime(first.metadata.mtime)
    }

    var appliedSeq: UInt64 { get throws { try catalog.state().position.seq } }

    func apply(_ segments: [Segment], blocks: (any BlockSource)? = nil) throws {
        try applier.apply(try segments.map { try ChangeSet($0) }, blocks: blocks)
    }

    /// All segments of a primary that are not applied yet, in one batch.
    func follow(_ primary: PrimaryTree, blocks: (any BlockSource)? = nil) throws {
        let seq = try appliedSeq
        try apply(primary.sink.segments.filter { $0.header.seq > seq }, blocks: blocks)
    }

    /// As after a crash or a restart: nothing is left but what is on disk.
    func restart() throws {
        try catalog.close()
        catalog = try Catalog(path: scratch.path + "/catalog.sqlite")
        applier = Applier(
            catalog: catalog, root: try Directory.open(path: path), staging: try Directory.open(path: stagingPath),
            quarantine: quarantine, written: written)
    }

    /// The digest that is kept is that of the rows.
    func digestIsRight() throws -> Bool {
        try catalog.read { try $0.recomputedDigest() == $0.state.treeDigest }
    }
}
