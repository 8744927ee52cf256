import WALCapture
import WALCatalog
import WALFormat
import WALSystem

/// The whole tree of a catalog's snapshot as entries, parents before what is in them, in pieces of a frame's size.
struct TreeWalk {
    struct Batch {
        var entries: ChangeWriter
        /// Files whose content is to follow the entries.
        var large: [ObjectRow]
    }

    /// Content up to this goes into the entry.
    private static let inlineBytes: UInt64 = 256 << 10
    private static let batchBytes = 640 << 10

    private let catalog: CatalogTransaction
    private let withContent: Bool
    private let handles: TreeHandles
    private var waiting: [ObjectID] = [.root]
    private var children: [ChildRow] = []
    private var nextChild = 0
    private var parent = ObjectID.root
    private var isBegun = false
    /// Objects with several names that were told already.
    private var told: Set<ObjectID> = []
    private let linked: Set<ObjectID>
    private let buffer: UnsafeMutableRawBufferPointer

    init(catalog: CatalogTransaction, root: Directory, withContent: Bool) throws {
        self.catalog = catalog
        self.withContent = withContent
        handles = TreeHandles(root: root)
        linked = try catalog.linkedObjects()
        buffer = .allocate(byteCount: Int(Self.inlineBytes) + 1, alignment: 8)
    }

    func finish() {
        buffer.deallocate()
    }

    mutating func next() throws -> Batch? {
        var batch = Batch(entries: ChangeWriter(), large: [])
        if !isBegun {
            isBegun = true
            let filter = try catalog.filter()
            if !filter.isEmpty { batch.entries.filter(filter) }
            // A client may ask again after this node is gone.
            for request in try catalog.requests() { batch.entries.request(request) }
            if let root = try catalog.object(.root) { batch.entries.list(root) }
        }
        while batch.entries.rawBytes < Self.batchBytes, batch.large.isEmpty {
            if nextChild == children.count {
                guard let directory = waiting.popLast() else { break }
                parent = directory
                children = try catalog.children(of: directory)
                nextChild = 0
                continue
            }
            let child = children[nextChild]
            nextChild += 1
            if !linked.contains(child.object) || told.insert(child.object).inserted {
                try tell(child, &batch)
            }
            batch.entries.bind(parent: parent, child.name, child.object)
            if child.kind == .directory { waiting.append(child.object) }
        }
        return batch.entries.isEmpty ? nil : batch
    }

    private func tell(_ child: ChildRow, _ batch: inout Batch) throws {
        guard let row = try catalog.object(child.object) else { return }
        guard withContent, row.kind == .file, row.size > 0 else {
            batch.entries.list(row)
            return
        }
        if row.size <= Self.inlineBytes, try tellContent(row, child.name, &batch) { return }
        batch.entries.list(row)
        batch.large.append(row)
    }

    /// Reads the file and writes its content into the entry; false when it is not what the catalog says any more.
    private func tellContent(_ row: ObjectRow, _ name: Name, _ batch: inout Batch) throws -> Bool {
        guard let directory = try handles.directory(parent, catalog) else { return false }
        let count: Int
        do throws(SystemError) {
            let file = try directory.openFile(name)
            count = try file.read(into: buffer, at: 0)
            try file.close()
        } catch {
            return false
        }
        guard count == Int(row.size) else { return false }
        let mark = batch.entries.mark
        batch.entries.beginFile(row.id, row.metadata)
        var offset = 0
        for index in 0..<row.blocks.count {
            let block = row.blocks[index]
            let bytes = UnsafeRawBufferPointer(rebasing: buffer[offset..<offset + Int(block.length)])
            offset += bytes.count
            if block.isHole {
                batch.entries.hole(UInt64(block.length))
            } else if Digest(of: bytes) == block.digest {
                batch.entries.data(bytes)
            } else {
                batch.entries.rollback(to: mark)
                return false
            }
        }
        batch.entries.endFile(size: row.size, digest: row.content)
        return true
    }
}

extension ObjectRow {
    /// Every block that is not a hole.
    var blockRequests: [BlockRequest] {
        var requests: [BlockRequest] = []
        var offset: UInt64 = 0
        for index in 0..<blocks.count {
            let block = blocks[index]
            if !block.isHole { requests.append(BlockRequest(object: id, offset: offset, block: block)) }
            offset += UInt64(block.length)
        }
        return requests
    }
}
