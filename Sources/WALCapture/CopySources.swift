import WALCatalog
import WALFormat

/// Finds what known files hold of a file's content, while that is read from front to back: its own last version, what
/// stood under its name before, and, by the catalog's index, any other file of the tree.
///
/// What goes on where the block before it was found is taken from there, so that a file which is like another one becomes
/// a few long copies, and nothing is looked up for it.
struct CopySources {
    struct Location {
        var source: ContentSource
        /// Bytes from the start of the source.
        var offset: UInt64
    }

    /// Block tables in memory at a time. More of them would help only content that was put together from many files in
    /// small pieces; there, each change from one to the next costs a look into the catalog.
    private static let maxTables = 4

    /// nil where only the files that were named are to be copied from.
    private let catalog: CatalogTransaction?
    private let object: ObjectID
    /// The one that was used last, first.
    private var sources: [Source] = []

    init(of object: ObjectID, old: ObjectRow?, before: ObjectRow?, catalog: CatalogTransaction?) {
        self.catalog = catalog
        self.object = object
        for row in [old, before].compactMap({ $0 }) where row.kind == .file && row.blocks.count > 0 {
            sources.append(Source(row))
        }
    }

    var isEmpty: Bool { sources.isEmpty }

    /// `offset` is where the block stands in the new content.
    mutating func find(_ block: ContentBlock, at offset: UInt64) throws -> Location? {
        // What stays where it was need not be written again by a replica, whoever else holds it.
        if let own = sources.firstIndex(where: { $0.content.object == object }),
            let found = sources[own].find(block, at: offset)
        {
            return use(own, found)
        }
        for index in sources.indices {
            if let found = sources[index].findNext(block) { return use(index, found) }
        }
        for index in sources.indices {
            if let found = sources[index].find(block) { return use(index, found) }
        }
        return try load(block)
    }

    /// Whether the object's last version had a block there, of whatever length, after ``find(_:at:)`` was asked for the
    /// same place.
    func hadBlock(at offset: UInt64) -> Bool {
        sources.first { $0.content.object == object }?.hasBlock(at: offset) ?? false
    }

    private mutating func use(_ index: Int, _ offset: UInt64) -> Location {
        if index > 0 { sources.insert(sources.remove(at: index), at: 0) }
        return Location(source: sources[0].content, offset: offset)
    }

    private mutating func load(_ block: ContentBlock) throws -> Location? {
        guard let catalog else { return nil }
        for candidate in try catalog.files(holding: block) {
            guard !sources.contains(where: { $0.content.object == candidate }),
                let row = try catalog.object(candidate), row.kind == .file
            else { continue }
            var source = Source(row)
            guard let found = source.findFirst(block) else { continue }
            if sources.count >= Self.maxTables, let last = sources.lastIndex(where: { $0.content.object != object }) {
                sources.remove(at: last)
            }
            sources.append(source)
            return use(sources.count - 1, found)
        }
        return nil
    }
}

/// One file that may be copied from.
private struct Source {
    let content: ContentSource
    private let blocks: BlockTable
    private let offsets: BlockOffsets
    /// Blocks by a part of their digests: the first where there are several. Made when it is needed for the first time.
    private var numbers: [UInt64: UInt32]?
    /// The block behind the last one that was found.
    private var next = 0
    /// The first block that does not begin before what was asked for last by its place.
    private var here = 0

    /// As many blocks behind the last hit are looked at before the whole: a change replaces or takes out a few.
    private static let window = 16

    init(_ row: ObjectRow) {
        content = ContentSource(object: row.id, content: row.content)
        blocks = row.blocks
        offsets = BlockOffsets(row.blocks)
    }

    /// The block at just this place. Places are asked for in ascending order.
    mutating func find(_ block: ContentBlock, at offset: UInt64) -> UInt64? {
        while here < blocks.count, offsets[here] < offset { here += 1 }
        guard here < blocks.count, offsets[here] == offset, blocks[here] == block else { return nil }
        return found(here)
    }

    func hasBlock(at offset: UInt64) -> Bool {
        here < blocks.count && offsets[here] == offset && !blocks[here].isHole
    }

    mutating func findNext(_ block: ContentBlock) -> UInt64? {
        for number in next..<min(next + Self.window, blocks.count) where blocks[number] == block {
            return found(number)
        }
        return nil
    }

    /// Without a table for further questions, of which there may be none: a file that is like this one just goes on.
    mutating func findFirst(_ block: ContentBlock) -> UInt64? {
        for number in 0..<blocks.count where blocks[number] == block { return found(number) }
        return nil
    }

    mutating func find(_ block: ContentBlock) -> UInt64? {
        if numbers == nil { numbers = makeNumbers() }
        guard let number = numbers?[block.digest.low].map(Int.init), blocks[number] == block else { return nil }
        return found(number)
    }

    private mutating func found(_ number: Int) -> UInt64 {
        next = number + 1
        return offsets[number]
    }

    private func makeNumbers() -> [UInt64: UInt32] {
        var numbers: [UInt64: UInt32] = [:]
        numbers.reserveCapacity(blocks.count)
        for number in 0..<blocks.count {
            let block = blocks[number]
            if !block.isHole, numbers[block.digest.low] == nil { numbers[block.digest.low] = UInt32(number) }
        }
        return numbers
    }
}
