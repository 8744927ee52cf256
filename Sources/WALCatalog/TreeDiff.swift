import WALFormat
import WALSystem

/// What a replica must change to hold the tree that a listing tells: the one way in which whatever a log cannot bridge is
/// bridged (first sync of a seeded tree, pruned log, drift).
package struct TreeDiff {
    private let own: CatalogTransaction
    private let wanted: CatalogTransaction

    /// Both catalogs must speak of objects by the same numbers: see ``CatalogTransaction/renumber(by:)``.
    package init(own: CatalogTransaction, wanted: CatalogTransaction) {
        self.own = own
        self.wanted = wanted
    }

    /// The changes, in an order in which every copy finds its source as it was.
    package func changes() throws -> [Change] {
        var copying: [Change] = []
        var rest: [Change] = []
        try wanted.forEachObject { row in
            guard let old = try own.object(row.id) else {
                let (change, isCopy) = try creation(of: row)
                if isCopy { copying.append(change) } else { rest.append(change) }
                return
            }
            if old.kind == row.kind, old.content == row.content {
                if old.metadata != row.metadata { rest.append(.metadata(row.id, row.metadata)) }
                return
            }
            rest.append(.put(row.id, row.metadata, body(of: row, from: old)))
        }
        let filter = try wanted.filter()
        var changes = try own.filter() == filter ? [] : [Change.filter(filter)]
        changes += copying + rest
        try wanted.forEachName { place, object in
            if try own.lookup(place) != object { changes.append(.bind(parent: place.parent, place.name, object)) }
        }
        try own.forEachName { place, _ in
            if try wanted.lookup(place) == nil { changes.append(.unbind(parent: place.parent, place.name)) }
        }
        try own.forEachObject { row in
            if try wanted.identity(of: row.id) == nil { changes.append(.drop(row.id)) }
        }
        return changes
    }

    private func creation(of row: ObjectRow) throws -> (Change, isCopy: Bool) {
        var source: ObjectRow?
        if row.kind == .file {
            // The same content anywhere, or else what stands under the name now.
            if let twin = try own.find(content: row.content) { source = try own.object(twin) }
            if source == nil, let place = try wanted.places(of: row.id).first, let here = try own.lookup(place) {
                source = try own.object(here)
            }
        }
        return (.put(row.id, row.metadata, body(of: row, from: source)), source != nil)
    }

    private func body(of row: ObjectRow, from source: ObjectRow?) -> Body {
        switch row.kind {
        case .directory: return .directory
        case .symlink: return .symlink(target: row.target)
        case .fifo: return .fifo
        case .characterDevice, .blockDevice:
            return .device(row.kind, row.device ?? DeviceNumber(major: 0, minor: 0))
        case .file:
            let (sources, extents) = extents(of: row.blocks, from: source?.kind == .file ? source : nil)
            return .file(FileContent(size: row.size, digest: row.content, sources: sources, extents: extents))
        }
    }

    private func extents(of table: BlockTable, from source: ObjectRow?) -> ([ContentSource], [Extent]) {
        var places: [ContentBlock: UInt64] = [:]
        if let source {
            var offset: UInt64 = 0
            for index in 0..<source.blocks.count {
                let block = source.blocks[index]
                if !block.isHole { places[block] = offset }
                offset += UInt64(block.length)
            }
        }
        var extents: [Extent] = []
        for index in 0..<table.count {
            let block = table[index]
            let length = UInt64(block.length)
            if block.isHole {
                extents.append(.hole(length))
            } else if let offset = places[block] {
                if case .copy(_, let start, let count)? = extents.last, start + count == offset {
                    extents[extents.count - 1] = .copy(source: 0, offset: start, length: count + length)
                } else {
                    extents.append(.copy(source: 0, offset: offset, length: length))
                }
            } else {
                extents.append(.fetch(block))
            }
        }
        let usesSource = extents.contains { if case .copy = $0 { true } else { false } }
        let sources = usesSource ? source.map { [ContentSource(object: $0.id, content: $0.content)] } ?? [] : []
        return (sources, extents)
    }
}

extension CatalogTransaction {
    /// Whether some objects have numbers that only this node knows.
    package func hasLocalObjects() throws -> Bool {
        let query = try statement("SELECT 1 FROM objects WHERE id >= ? LIMIT 1")
        query.bind(1, ObjectID.firstLocal)
        defer { query.reset() }
        return try query.step()
    }

    /// Gives all objects above `limit` numbers that only this node knows: those of another history may mean others.
    package func makeLocal(above limit: ObjectID) throws {
        var next = ObjectID.firstLocal
        var ids: [ObjectID] = []
        let query = try statement("SELECT id FROM objects WHERE id > ? ORDER BY id")
        query.bind(1, limit)
        while try query.step() {
            let id = query.unsigned(0)
            if id < .firstLocal { ids.append(id) } else { next = id + 1 }
        }
        query.reset()
        var map: [ObjectID: ObjectID] = [:]
        for (index, id) in ids.enumerated() { map[id] = next + UInt64(index) }
        try renumber(by: map)
    }

    /// Which of this catalog's local numbers are which of the listing's, by path: for a tree that has no history in
    /// common with the sender.
    package func match(_ wanted: CatalogTransaction) throws -> [ObjectID: ObjectID] {
        var map: [ObjectID: ObjectID] = [:]
        var taken: Set<ObjectID> = []
        var waiting: [(own: ObjectID, wanted: ObjectID)] = [(.root, .root)]
        while let pair = waiting.popLast() {
            let there = try wanted.children(of: pair.wanted)
            var next = 0
            for child in try children(of: pair.own) {
                while next < there.count, there[next].name < child.name { next += 1 }
                guard next < there.count, there[next].name == child.name, there[next].kind == child.kind else {
                    continue
                }
                let target = there[next].object
                if child.object >= .firstLocal {
                    guard map[child.object] == nil, try identity(of: target) == nil, taken.insert(target).inserted
                    else { continue }
                    map[child.object] = target
                } else if child.object != target {
                    // Numbered by a listing before this one; it keeps its number and is compared under that.
                    continue
                }
                if child.kind == .directory { waiting.append((child.object, target)) }
            }
        }
        return map
    }

    /// Gives objects other numbers. The new ones must not be in use.
    package func renumber(by map: [ObjectID: ObjectID]) throws {
        let object = try statement("UPDATE objects SET id = ? WHERE id = ?")
        let blocks = try statement("UPDATE blocks SET object = ? WHERE object = ?")
        let name = try statement("UPDATE names SET object = ? WHERE object = ?")
        let parent = try statement("UPDATE names SET parent = ? WHERE parent = ?")
        for (old, new) in map {
            for update in [object, blocks, name, parent] {
                update.bind(1, new)
                update.bind(2, old)
                try update.run()
            }
        }
        state.treeDigest = try recomputedDigest()
        try makeIndex()
    }
}
