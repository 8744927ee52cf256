import WALFormat

/// The tree that entries make, in memory and without content: what a segment's tree digest is measured against.
struct TreeModel {
    struct Object: Hashable {
        var kind: Kind
        var metadata: Metadata
        var size: UInt64
        var content: Digest
        var table = BlockTable()
    }

    struct Place: Hashable {
        var parent: ObjectID
        var name: Name
    }

    private(set) var objects: [ObjectID: Object] = [:]
    private(set) var names: [Place: ObjectID] = [:]
    private(set) var filter = Filter.none

    var digest: Digest {
        var sum = TreeDigest.part(ofFilter: filter)
        for (place, object) in names {
            sum &+= place.name.bytes.withUnsafeBytes { TreeDigest.part(ofName: $0, in: place.parent, to: object) }
        }
        for (id, object) in objects {
            sum &+= TreeDigest.part(
                ofObject: id, kind: object.kind, metadata: object.metadata, size: object.size, content: object.content)
        }
        return sum
    }

    mutating func apply(_ segment: Segment) throws {
        try apply(try segment.changes(), body: try segment.rawBody())
    }

    mutating func apply(_ changes: [Change], body: [UInt8]) throws {
        for change in changes {
            switch change {
            case .put(let id, let metadata, .directory):
                objects[id] = Object(kind: .directory, metadata: metadata, size: 0, content: .zero)
            case .put(let id, let metadata, .symlink(let target)):
                objects[id] = Object(
                    kind: .symlink, metadata: metadata, size: UInt64(target.count), content: Digest(of: target))
            case .put(let id, let metadata, .fifo):
                objects[id] = Object(kind: .fifo, metadata: metadata, size: 0, content: .zero)
            case .put(let id, let metadata, .device(let kind, let number)):
                objects[id] = Object(kind: kind, metadata: metadata, size: 0, content: Digest(of: number.bytes))
            case .put(let id, let metadata, .file(let content)):
                // What a copy read may be gone when the same is applied again.
                if objects[id]?.content == content.digest {
                    objects[id]?.metadata = metadata
                    continue
                }
                let table = try table(of: content, body: body)
                guard table.digest == content.digest, table.size == content.size else { throw Mismatch(object: id) }
                objects[id] = Object(
                    kind: .file, metadata: metadata, size: content.size, content: content.digest, table: table)
            case .metadata(let id, let metadata): objects[id]?.metadata = metadata
            case .bind(let parent, let name, let id): names[Place(parent: parent, name: name)] = id
            case .unbind(let parent, let name): names[Place(parent: parent, name: name)] = nil
            case .drop(let id): objects[id] = nil
            case .filter(let filter): self.filter = filter
            case .request: break
            }
        }
    }

    struct Mismatch: Error {
        var object: ObjectID
    }

    private func table(of content: FileContent, body: [UInt8]) throws -> BlockTable {
        var table = BlockTable()
        for extent in content.extents {
            switch extent {
            case .data(let range):
                table.append(ContentBlock(length: UInt32(range.count), digest: Digest(of: Array(body[range]))))
            case .hole(let length): table.appendHole(length)
            case .fetch(let block): table.append(block)
            case .copy(let source, let offset, let length):
                let wanted = content.sources[source]
                guard let object = objects[wanted.object], object.content == wanted.content else {
                    throw Mismatch(object: wanted.object)
                }
                try object.table.copyBlocks(from: offset, length: length, to: &table)
            }
        }
        return table
    }
}

extension BlockTable {
    /// Appends the blocks of `offset..<offset + length` to `target`; both ends must stand between blocks.
    fileprivate func copyBlocks(from offset: UInt64, length: UInt64, to target: inout BlockTable) throws {
        var start: UInt64 = 0
        var copied: UInt64 = 0
        for index in 0..<count {
            let block = self[index]
            if start >= offset, start < offset + length {
                target.append(block)
                copied += UInt64(block.length)
            }
            start += UInt64(block.length)
        }
        guard copied == length else { throw TreeModel.Mismatch(object: 0) }
    }
}
