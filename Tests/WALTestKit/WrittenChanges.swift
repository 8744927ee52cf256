import WALFormat

extension ChangeWriter {
    /// Writes what was read; `body` is where the ranges of data point to.
    package mutating func append(_ change: Change, body: [UInt8]) {
        switch change {
        case .put(let object, let metadata, .directory): directory(object, metadata)
        case .put(let object, let metadata, .symlink(let target)): symlink(object, metadata, target: target)
        case .put(let object, let metadata, .fifo): fifo(object, metadata)
        case .put(let object, let metadata, .device(let kind, let number)): device(object, kind, metadata, number)
        case .put(let object, let metadata, .file(let content)):
            beginFile(object, metadata)
            for extent in content.extents {
                switch extent {
                case .data(let range): body.withUnsafeBytes { data(UnsafeRawBufferPointer(rebasing: $0[range])) }
                case .hole(let length): hole(length)
                case .copy(let source, let offset, let length):
                    copy(from: content.sources[source], offset: offset, length: length)
                case .fetch(let block): fetch(block)
                }
            }
            endFile(size: content.size, digest: content.digest)
        case .metadata(let object, let metadata): self.metadata(object, metadata)
        case .bind(let parent, let name, let object): bind(parent: parent, name, object)
        case .unbind(let parent, let name): unbind(parent: parent, name)
        case .drop(let object): drop(object)
        case .filter(let filter): self.filter(filter)
        case .request(let id): request(id)
        }
    }
}

/// All entries of a raw body.
package func entries(of body: [UInt8], count: UInt32) throws(FormatError) -> [Change] {
    try body.withBytes { bytes throws(FormatError) in
        var reader = ChangeReader(bytes, entryCount: count)
        var changes: [Change] = []
        while let change = try reader.next() { changes.append(change) }
        return changes
    }
}
