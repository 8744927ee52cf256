import Testing
import WALCatalog
import WALFormat
import WALSystem

/// Handles by object number, in a tree that moves under them.
@Suite struct TreeHandlesTests {
    private let folder: CatalogFolder
    private let catalog: Catalog
    private let root: Directory

    init() throws {
        folder = try CatalogFolder()
        catalog = try Catalog(path: folder.path + "/catalog.sqlite")
        root = try Directory.open(path: folder.path)
        try root.makeDirectory(Name("tree"))
    }

    /// A chain of directories d/d/d…, objects 2, 3, 4…
    private func chain(_ count: Int) throws -> Directory {
        let tree = try root.openDirectory(Name("tree"))
        var current = tree
        try catalog.write { transaction in
            let metadata = Metadata(mode: 0o755, uid: 0, gid: 0, mtime: .zero)
            for id in 2..<ObjectID(count + 2) {
                try current.makeDirectory(Name("d"))
                current = try current.openDirectory(Name("d"))
                try transaction.put(
                    ObjectRow(id: id, kind: .directory, metadata: metadata, identity: try current.status().identity))
                try transaction.bind(Place(parent: id - 1, name: Name("d")), to: id)
            }
        }
        return tree
    }

    /// Deeper than there are handles to keep.
    @Test func deepTreeIsOpenedWithFewHandles() throws {
        let tree = try chain(900)
        let handles = TreeHandles(root: tree, capacity: 10)
        try catalog.read { transaction in
            for id: ObjectID in [901, 2, 500, 901] {
                let directory = try #require(try handles.directory(id, transaction))
                #expect(try directory.status().identity == transaction.identity(of: id))
            }
        }
    }

    @Test func handleFollowsItsDirectory() throws {
        let tree = try chain(3)
        let handles = TreeHandles(root: tree)
        try catalog.read { transaction in
            let known = try #require(try handles.directory(3, transaction))
            try tree.rename(Name("d"), to: tree, Name("moved"))
            #expect(try handles.directory(3, transaction) === known)
            // One that nobody opened before is not where the catalog has it.
            let fresh = TreeHandles(root: tree)
            #expect(try fresh.directory(3, transaction) == nil)
            handles.forgetAll()
            #expect(try handles.directory(4, transaction) == nil)
        }
    }

    @Test func anotherDirectoryInItsPlaceIsNotIt() throws {
        let tree = try chain(1)
        try tree.rename(Name("d"), to: tree, Name("moved"))
        try tree.makeDirectory(Name("d"))
        #expect(try catalog.read { try TreeHandles(root: tree).directory(2, $0) == nil })
        try tree.removeDirectory(Name("d"))
        try tree.makeSymlink(Name("d"), target: Array("moved".utf8))
        #expect(try catalog.read { try TreeHandles(root: tree).directory(2, $0) == nil })
    }
}
