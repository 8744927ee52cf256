import WALFormat
import WALSystem

/// Reads a file once, from front to back, and hands out its blocks.
package final class ContentReader {
    private let buffer: UnsafeMutableRawBufferPointer
    /// Room for many blocks, so that the tail that is moved to the front is a small part of what was read.
    private static let bufferBytes = 4 << 20

    private let progress: CaptureProgress?

    /// - Parameter progress: whose cancellation ends a file of any size in its midst.
    package init(progress: CaptureProgress? = nil) {
        self.progress = progress
        buffer = .allocate(byteCount: ContentReader.bufferBytes, alignment: 4096)
    }

    deinit {
        buffer.deallocate()
    }

    package enum Piece {
        /// The bytes are valid within the call only.
        case data(UnsafeRawBufferPointer, ContentBlock)
        case hole(UInt64)
    }

    /// `file` in order, as far as `status` says that it goes: one that grows as fast as it is read must have an end.
    /// Returns the bytes that were read, holes included; fewer than that when it shrank.
    ///
    /// Throws ``FormatError/limit(_:value:limit:)`` at the first block too many. A hole costs nobody anything: one of
    /// some exbibytes has more blocks than there is memory.
    package func read(
        _ file: borrowing File, status: FileStatus, _ visit: (Piece) throws -> Void
    ) throws -> UInt64 {
        var blocks: UInt64 = 0
        return try readAll(file, status: status) { piece in
            switch piece {
            case .data: blocks += 1
            case .hole(let length): blocks += BlockTable.blocks(ofHole: length)
            }
            guard blocks <= UInt64(Limits.maxContentBlocks) else {
                throw FormatError.limit("blocks of a file", value: blocks, limit: UInt64(Limits.maxContentBlocks))
            }
            try visit(piece)
        }
    }

    private func readAll(
        _ file: borrowing File, status: FileStatus, _ visit: (Piece) throws -> Void
    ) throws -> UInt64 {
        // Asked of each file: the number of its blocks does not tell, for those of its attributes are among them.
        if try status.size == 0 || file.seekHole(from: 0) ?? 0 >= status.size {
            return try readRange(file, from: 0, to: status.size, visit)
        }
        var offset: UInt64 = 0
        while offset < status.size {
            guard let data = try file.seekData(from: offset), data < status.size else {
                // Unless it shrank.
                let end = min(try file.size(), status.size)
                guard end > offset else { return offset }
                try visit(.hole(end - offset))
                return end
            }
            if data > offset { try visit(.hole(data - offset)) }
            let end = min(try file.seekHole(from: data) ?? status.size, status.size)
            let reached = try readRange(file, from: data, to: end, visit)
            // The file shrank while it was read; the caller's second look at it says so.
            if reached < end { return reached }
            offset = end
        }
        return offset
    }

    /// Returns the offset that was reached: `end`, or less where the file ends before it.
    private func readRange(
        _ file: borrowing File, from start: UInt64, to end: UInt64, _ visit: (Piece) throws -> Void
    ) throws -> UInt64 {
        var offset = start
        var held = 0
        var isEnd = false
        while true {
            try progress?.checkCancelled()
            let room = UnsafeMutableRawBufferPointer(rebasing: buffer[held...])
            let wanted = Int(min(UInt64(room.count), end - offset))
            let count =
                wanted == 0
                ? 0 : try file.read(into: UnsafeMutableRawBufferPointer(rebasing: room[..<wanted]), at: offset)
            offset += UInt64(count)
            held += count
            isEnd = count < wanted || offset == end || wanted == 0
            var used = 0
            // Short of a whole block at the end of the buffer, the cut would depend on where the buffer ended.
            while held - used >= Chunker.maxBytes || (isEnd && held > used) {
                let rest = UnsafeRawBufferPointer(rebasing: buffer[used..<held])
                let length = Chunker.cut(rest)
                let bytes = UnsafeRawBufferPointer(rebasing: rest[..<length])
                try visit(.data(bytes, ContentBlock(length: UInt32(length), digest: Digest(of: bytes))))
                used += length
            }
            if isEnd { return offset }
            held -= used
            buffer.baseAddress!.copyMemory(from: buffer.baseAddress! + used, byteCount: held)
        }
    }

    /// The file's block table, for whoever wants to know the content and not to ship it.
    package func table(of file: borrowing File, status: FileStatus) throws -> BlockTable {
        var table = BlockTable()
        _ = try read(file, status: status) { piece in
            switch piece {
            case .data(_, let block): table.append(block)
            case .hole(let length): table.appendHole(length)
            }
        }
        return table
    }
}
