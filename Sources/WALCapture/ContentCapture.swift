import WALCatalog
import WALFormat
import WALSystem

/// Turns a file's content into extents: what some known content already holds becomes a copy, the rest becomes data, or
/// is left to be fetched where it is more than the log shall hold.
struct ContentCapture {
    let reader: ContentReader

    struct Result {
        var table: BlockTable
        var digest: Digest
        /// Bytes of content, as read.
        var size: UInt64
    }

    /// Writes the entry of file `object` to `changes`. `known` are objects whose content may be repeated in the file:
    /// its own last version, and what stood under its name before. Of new content, `maxInlineBytes` go into the entry.
    func write(
        _ file: borrowing File, status: FileStatus, object: ObjectID, known: [ObjectRow],
        maxInlineBytes: Int, to changes: inout ChangeWriter
    ) throws -> Result {
        let sources = known.filter { $0.kind == .file && $0.blocks.count > 0 }
        var places = KnownBlocks(sources)
        changes.beginFile(
            object, status.metadata, sources: sources.map { ContentSource(object: $0.id, content: $0.content) })
        // A whole new file that is too large is not put into the log in part either.
        var inlineLeft = sources.isEmpty && status.size > UInt64(maxInlineBytes) ? 0 : maxInlineBytes
        var table = BlockTable()
        var run = CopyRun()
        let size = try reader.read(file, status: status) { piece in
            switch piece {
            case .hole(let length):
                run.flush(to: &changes)
                changes.hole(length)
                table.appendHole(length)
            case .data(let bytes, let block):
                table.append(block)
                if let found = places.find(block) {
                    if !run.extend(found, by: UInt64(block.length)) {
                        run.flush(to: &changes)
                        run = CopyRun(source: found.source, offset: found.offset, length: UInt64(block.length))
                    }
                    return
                }
                run.flush(to: &changes)
                if bytes.count <= inlineLeft {
                    inlineLeft -= bytes.count
                    changes.data(bytes)
                } else {
                    changes.fetch(block)
                }
            }
        }
        run.flush(to: &changes)
        let digest = table.digest
        changes.endFile(size: size, digest: digest)
        return Result(table: table, digest: digest, size: size)
    }
}

/// Adjacent blocks of one source, written as one extent.
private struct CopyRun {
    var source = 0
    var offset: UInt64 = 0
    var length: UInt64 = 0

    mutating func extend(_ next: KnownBlocks.Location, by more: UInt64) -> Bool {
        guard length > 0, next.source == source, next.offset == offset + length else { return false }
        length += more
        return true
    }

    mutating func flush(to changes: inout ChangeWriter) {
        if length > 0 { changes.copy(source: source, offset: offset, length: length) }
        length = 0
    }
}

/// Where blocks stand in the sources. The index is made at the first look, and a file that goes on where it was before
/// needs none: its next block is nearly always the one behind the last hit.
private struct KnownBlocks {
    struct Location {
        var source: Int
        var offset: UInt64
    }

    private let sources: [ObjectRow]
    private var index: [ContentBlock: Location]?
    private var nextSource = 0
    private var nextBlock = 0
    private var nextOffset: UInt64 = 0

    init(_ sources: [ObjectRow]) {
        self.sources = sources
    }

    mutating func find(_ block: ContentBlock) -> Location? {
        if sources.isEmpty { return nil }
        let expected = sources[nextSource].blocks
        if nextBlock < expected.count, expected[nextBlock] == block {
            let location = Location(source: nextSource, offset: nextOffset)
            nextBlock += 1
            nextOffset += UInt64(block.length)
            return location
        }
        if index == nil { index = makeIndex() }
        return index?[block]
    }

    private func makeIndex() -> [ContentBlock: Location] {
        var index: [ContentBlock: Location] = [:]
        for (source, row) in sources.enumerated() {
            var offset: UInt64 = 0
            for number in 0..<row.blocks.count {
                let block = row.blocks[number]
                if !block.isHole, index[block] == nil { index[block] = Location(source: source, offset: offset) }
                offset += UInt64(block.length)
            }
        }
        return index
    }
}
