import WALFormat

/// What is replicated of the tree: one filter a catalog.
extension CatalogTransaction {
    package func filter() throws -> Filter {
        let statement = try self.statement("SELECT rules FROM filter WHERE one = 1")
        defer { statement.reset() }
        guard try statement.step() else { return .none }
        do { return try Filter(text: statement.bytes(0)) } catch { throw CatalogError.damaged("\(error)") }
    }

    /// What it excludes, and is there, is left to the caller.
    package func setFilter(_ filter: Filter) throws {
        state.treeDigest &-= TreeDigest.part(ofFilter: try self.filter())
        let statement = try self.statement("INSERT OR REPLACE INTO filter VALUES (1, ?)")
        statement.bindCopy(1, filter.text)
        try statement.run()
        state.treeDigest &+= TreeDigest.part(ofFilter: filter)
    }

    /// Forgets local objects, of a tree that was taken over, that `filter` excludes: they are nobody's but their owner's.
    package func forgetExcluded(by filter: Filter) throws {
        let filter = filter.matcher
        guard !filter.isEmpty else { return }
        var waiting: [(object: ObjectID, path: [UInt8])] = [(.root, [])]
        while let (parent, path) = waiting.popLast() {
            for child in try children(of: parent) {
                if filter.excludes(child.name, in: path, isDirectory: child.kind == .directory) {
                    try unbind(Place(parent: parent, name: child.name))
                    try dropUnnamed(child.object)
                } else if child.kind == .directory {
                    waiting.append((child.object, filter.looksAtPaths ? path + child.name.bytes + [0x2F] : []))
                }
            }
        }
    }
}
