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
        /// Of these, what no known file holds.
        var newBytes: UInt64
    }

    /// Writes the entry of file `object` to `changes`. `known` is asked for content that may be repeated in the file. Of
    /// new content, `maxInlineBytes` go into the entry.
    ///
    /// `longer`: the size of the last version, where the file has become shorter. What a cut leaves of a block is a new
    /// block, and nobody here has the old bytes to see that it is that; a replica has. So it is left to be fetched, and
    /// who holds it need not ask.
    func write(
        _ file: borrowing File, status: FileStatus, object: ObjectID, known: consuming CopySources,
        maxInlineBytes: Int, longer: UInt64?, to changes: inout ChangeWriter
    ) throws -> Result {
        var known = known
        changes.beginFile(object, status.metadata)
        // A whole new file that is too large is not put into the log in part either.
        var isNew = known.isEmpty && status.size > UInt64(maxInlineBytes)
        var inlineLeft = maxInlineBytes
        var table = BlockTable()
        var offset: UInt64 = 0
        var newBytes: UInt64 = 0
        // All so far is where it was: then the end was cut off, and is not likely to be anything else.
        var isKept = true
        var run = CopyRun()
        let size = try reader.read(file, status: status) { piece in
            switch piece {
            case .hole(let length):
                run.flush(to: &changes)
                changes.hole(length)
                table.appendHole(length)
                offset += length
            case .data(let bytes, let block):
                table.append(block)
                let found = try known.find(block, at: offset)
                let mayBeHeld =
                    longer != nil && isKept && Self.mayBeCut(block, at: offset, of: status.size)
                    && known.hadBlock(at: offset)
                isKept = isKept && found?.source.object == object && found?.offset == offset
                offset += UInt64(block.length)
                if let found {
                    isNew = false
                    run.append(found, UInt64(block.length), to: &changes)
                    return
                }
                run.flush(to: &changes)
                newBytes += UInt64(block.length)
                if !isNew, !mayBeHeld, bytes.count <= inlineLeft {
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
        return Result(table: table, digest: digest, size: size, newBytes: newBytes)
    }
}

extension ContentCapture {
    /// Less is better sent than looked for.
    private static let minCutBytes = 4096

    /// A file that begins with a new block was written anew.
    private static func mayBeCut(_ block: ContentBlock, at offset: UInt64, of size: UInt64) -> Bool {
        offset > 0 && offset + UInt64(block.length) == size && block.length >= minCutBytes
    }
}

/// Adjacent blocks of one source, written as one extent.
private struct CopyRun {
    private var place: CopySources.Location?
    private var length: UInt64 = 0

    mutating func append(_ next: CopySources.Location, _ more: UInt64, to changes: inout ChangeWriter) {
        if let place, next.source == place.source, next.offset == place.offset + length {
            length += more
            return
        }
        flush(to: &changes)
        place = next
        length = more
    }

    mutating func flush(to changes: inout ChangeWriter) {
        if let place { changes.copy(from: place.source, offset: place.offset, length: length) }
        place = nil
    }
}
