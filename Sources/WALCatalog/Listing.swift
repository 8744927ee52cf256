import WALFormat
import WALSystem

/// A sender's whole tree as it is told in a sync, kept in a catalog of its own beside the replica's until the two have
/// been compared.
package struct Listing {
    private let catalog: CatalogTransaction
    private let position: Position

    /// `position` is where the sender's tree stands.
    package init(_ catalog: CatalogTransaction, at position: Position) {
        self.catalog = catalog
        self.position = position
    }

    /// Takes an entry of a listing: content is told by digests only.
    package func add(_ change: Change) throws {
        switch change {
        case .put(let object, let metadata, let body):
            try catalog.put(try row(object, metadata, body))
        case .bind(let parent, let name, let object):
            try catalog.bind(Place(parent: parent, name: name), to: object)
        case .filter(let filter): try catalog.setFilter(filter)
        // Done by then, if not just then.
        case .request(let id): try catalog.note(id, at: position)
        case .metadata, .unbind, .drop:
            throw CatalogError.mismatch("a listing says only what is there")
        }
    }

    private func row(_ object: ObjectID, _ metadata: Metadata, _ body: Body) throws -> ObjectRow {
        switch body {
        case .directory: return ObjectRow(id: object, kind: .directory, metadata: metadata)
        case .symlink(let target): return .symlink(id: object, metadata: metadata, target: target)
        case .fifo: return .node(.fifo, id: object, metadata: metadata, nil)
        case .device(let kind, let number): return .node(kind, id: object, metadata: metadata, number)
        case .file(let content):
            var table = BlockTable()
            for extent in content.extents {
                switch extent {
                case .fetch(let block): table.append(block)
                case .hole(let length): table.appendHole(length)
                case .data, .copy: throw CatalogError.mismatch("a listing holds no content")
                }
            }
            guard table.digest == content.digest else {
                throw CatalogError.mismatch("blocks of object \(object) do not have the digest that is stated")
            }
            return ObjectRow(
                id: object, kind: .file, metadata: metadata, size: content.size, content: content.digest,
                blocks: table)
        }
    }
}

extension ChangeWriter {
    /// An object of a listing.
    package mutating func list(_ row: ObjectRow) {
        switch row.kind {
        case .directory: directory(row.id, row.metadata)
        case .symlink: symlink(row.id, row.metadata, target: row.target)
        case .fifo: fifo(row.id, row.metadata)
        case .characterDevice, .blockDevice:
            device(row.id, row.kind, row.metadata, row.device ?? DeviceNumber(major: 0, minor: 0))
        case .file:
            beginFile(row.id, row.metadata)
            for index in 0..<row.blocks.count {
                let block = row.blocks[index]
                if block.isHole { hole(UInt64(block.length)) } else { fetch(block) }
            }
            endFile(size: row.size, digest: row.content)
        }
    }
}
