import WALCatalog
import WALFormat
import WALSystem

/// The extents of a file, from the set, from other files of the replica, and from whoever serves blocks.
extension Stager {
    /// What of a file is still to be had from somewhere else.
    private struct Wanted {
        /// Without these the batch cannot go on, as long as there is somebody to ask.
        var requests: [BlockRequest] = []
        /// These the source lacked already.
        var missing: [MissingBlock] = []
    }

    /// Writes all extents. Blocks that nobody has any more are noted as missing, and the file stays unpublished: true.
    func fill(
        _ file: consuming File, _ task: Fold.Task, _ content: FileContent, _ fold: Fold
    ) throws -> Bool {
        let object = task.row.id
        let held = try file.size()
        try file.truncate(to: content.size)
        var wanted = Wanted()
        var offset: UInt64 = 0
        for extent in content.extents {
            switch extent {
            case .data(let range):
                try bodies[task.set].withBytes { bytes throws(SystemError) in
                    try file.write(UnsafeRawBufferPointer(rebasing: bytes[range]), at: offset)
                }
                written.wrote(range.count)
                offset += UInt64(range.count)
            case .hole(let length):
                if held > offset { try clear(file, offset, length) }
                offset += length
            case .copy(let source, let from, let length):
                try copy(content.sources[source].object, from, length, to: file, offset, task, fold, &wanted)
                offset += length
            case .fetch(let block):
                if try held < offset + UInt64(block.length) || !holds(file, offset, block) {
                    wanted.requests.append(BlockRequest(object: object, offset: offset, block: block))
                }
                offset += UInt64(block.length)
            }
        }
        let lacking = try fetch(wanted, into: file)
        let identity = try metadata.finish(file, task.row.metadata)
        try fold.catalog.setLocal(object, identity: identity, stamp: ObjectRow.neverSeen)
        if try !lacking.isEmpty || fold.catalog.isPending(object) {
            try fold.catalog.setMissing(lacking, of: object)
        }
        return !lacking.isEmpty
    }

    private func fetch(_ wanted: Wanted, into file: borrowing File) throws -> [MissingBlock] {
        guard let blocks else {
            if !wanted.requests.isEmpty { throw ApplyError.interrupted }
            return wanted.missing
        }
        let requests =
            wanted.requests
            + wanted.missing.map { BlockRequest(object: $0.object, offset: $0.offset, block: $0.block) }
        guard !requests.isEmpty else { return [] }
        var lacking: [MissingBlock] = []
        try fault?()
        try blocks.fetch(requests) { request, bytes in
            if let bytes {
                try file.write(bytes, at: request.offset)
                written.wrote(bytes.count)
                try writeback.wrote(bytes.count)
            } else {
                lacking.append(MissingBlock(object: request.object, offset: request.offset, block: request.block))
            }
        }
        return lacking
    }

    /// A hole is written as zeros where the file system cannot punch one.
    private func clear(_ file: borrowing File, _ offset: UInt64, _ length: UInt64) throws {
        do throws(SystemError) {
            try file.punchHole(offset: offset, length: length)
        } catch {
            guard error.isUnsupported else { throw error }
            let zeros = [UInt8](repeating: 0, count: 1 << 20)
            var done: UInt64 = 0
            while done < length {
                let part = Int(min(length - done, UInt64(zeros.count)))
                try zeros.withBytes { bytes throws(SystemError) in
                    try file.write(UnsafeRawBufferPointer(rebasing: bytes[..<part]), at: offset + done)
                }
                written.wrote(part)
                done += UInt64(part)
            }
        }
    }

    /// Zeros are held where they were written: in a file of its full size, what is still to come reads as zeros, too.
    func holds(_ file: borrowing File, _ offset: UInt64, _ block: ContentBlock) throws -> Bool {
        guard try file.isData(offset..<offset + UInt64(block.length)) else { return false }
        let bytes = try file.read(count: Int(block.length), at: offset)
        return bytes.count == Int(block.length) && Digest(of: bytes) == block.digest
    }

    /// Copies a range of another object, or of this one's last version. What that lacks, this lacks too; where it is not
    /// what the catalog knew, its blocks are asked for instead.
    private func copy(
        _ source: ObjectID, _ from: UInt64, _ length: UInt64, to file: borrowing File, _ offset: UInt64,
        _ task: Fold.Task, _ fold: Fold, _ wanted: inout Wanted
    ) throws {
        guard try copyRange(source, from, length, to: file, offset, fold) else {
            drifted.insert(source)
            var start: UInt64 = 0
            for index in 0..<task.row.blocks.count where start < offset + length {
                let block = task.row.blocks[index]
                defer { start += UInt64(block.length) }
                guard start >= offset else { continue }
                if block.isHole {
                    try clear(file, start, UInt64(block.length))
                } else {
                    wanted.requests.append(BlockRequest(object: task.row.id, offset: start, block: block))
                }
            }
            return
        }
        for missing in try fold.missingBlocks(of: source) {
            guard missing.offset >= from, missing.offset < from + length else { continue }
            wanted.missing.append(
                MissingBlock(object: task.row.id, offset: missing.offset - from + offset, block: missing.block))
        }
    }

    /// False when the source is not there, or not as it should be.
    private func copyRange(
        _ source: ObjectID, _ from: UInt64, _ length: UInt64, to file: borrowing File, _ offset: UInt64, _ fold: Fold
    ) throws -> Bool {
        guard let opened = try openSource(source, fold) else { return false }
        let copied = try file.copyRange(from: opened, sourceOffset: from, to: offset, length: length)
        try opened.close()
        written.copied(copied)
        return copied == length
    }

    /// nil when it is not there, or not as it should be.
    func openSource(_ source: ObjectID, _ fold: Fold) throws -> File? {
        guard let known = try fold.known(source), let place = try disk.locate(source, identity: known.identity) else {
            return nil
        }
        let opened = try place.directory.openFile(place.name)
        let status = try opened.status()
        guard status.identity == known.identity, known.checked?.isEdited(status) != true else {
            try opened.close()
            return nil
        }
        return opened
    }
}
