import Testing
import WALCatalog
import WALFormat
import WALSystem

@Suite struct CatalogFilterTests {
    private let folder: CatalogFolder
    private let catalog: Catalog

    init() throws {
        folder = try CatalogFolder()
        catalog = try Catalog(path: folder.path + "/catalog.sqlite")
    }

    private func insert(_ id: ObjectID, _ kind: Kind, _ places: [Place], _ transaction: CatalogTransaction) throws {
        let metadata = Metadata(mode: 0o644, uid: 1, gid: 2, mtime: Timestamp(seconds: 1, nanoseconds: 0))
        try transaction.insert(ObjectRow(id: id, kind: kind, metadata: metadata))
        for place in places { try transaction.bind(place, to: id) }
    }

    @Test func isKeptAndIsPartOfTheDigest() throws {
        let one = try Filter(lines: ["- a", "+ \\xe9*"])
        let two = try Filter(lines: ["- a"])
        #expect(try catalog.read { try $0.filter() } == .none)
        for filter in [one, two, one, .none, two] {
            try catalog.write { try $0.setFilter(filter) }
            #expect(try catalog.read { try $0.filter() } == filter)
            #expect(try catalog.state().treeDigest == TreeDigest.part(ofFilter: filter))
            #expect(try catalog.read { try $0.recomputedDigest() } == TreeDigest.part(ofFilter: filter))
        }
        try catalog.write { try $0.removeEverything() }
        #expect(try catalog.read { try $0.filter() } == .none)
        #expect(try catalog.state().treeDigest == .zero)
    }

    /// What it excludes is forgotten with all below it, but not what has an included name, too.
    @Test func whatIsExcludedIsForgotten() throws {
        let cache = Place(parent: .root, name: Name("cache"))
        try catalog.write { transaction in
            try insert(.root, .directory, [], transaction)
            try insert(2, .directory, [cache], transaction)
            try insert(3, .directory, [Place(parent: 2, name: Name("deep"))], transaction)
            try insert(4, .file, [Place(parent: 3, name: Name("gone"))], transaction)
            let names = [Place(parent: 3, name: Name("link")), Place(parent: .root, name: Name("kept"))]
            try insert(5, .file, names, transaction)
            try insert(6, .directory, [Place(parent: .root, name: Name("other"))], transaction)
            try insert(7, .directory, [Place(parent: 6, name: Name("cache"))], transaction)
            try transaction.forgetExcluded(by: try Filter(lines: ["- /cache/"]))
            var objects: [ObjectID] = []
            try transaction.forEachObject { objects.append($0.id) }
            #expect(objects == [.root, 5, 6, 7])
            #expect(try transaction.places(of: 5) == [Place(parent: .root, name: Name("kept"))])
            #expect(try transaction.lookup(cache) == nil)
            #expect(try transaction.recomputedDigest() == transaction.state.treeDigest)
        }
    }
}
