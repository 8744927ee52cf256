import WALCatalog
import WALFormat
import WALSystem

/// Large files that change in part.
extension Stager {
    /// Stages a large file as its changes only; false when it is to be written anew.
    func stagePart(_ task: Fold.Task, _ content: FileContent, _ fold: Fold) throws -> Bool {
        guard content.size >= Self.patchBytes, let before = task.before, let patch = Patch(content, of: before),
            try !fold.catalog.isPending(before.id),
            // Only the version that is in the tree can be patched, and only where nobody edited it.
            let known = try fold.known(before.id), let checked = known.checked, known.identity == before.identity,
            let place = try disk.locate(before.id, identity: known.identity), place.directory !== staging,
            try !checked.isEdited(place.directory.status(of: place.name))
        else { return false }
        var body = bodies[task.set]
        guard let whole = try takeEnd(takeLoans(patch, &body, fold), &body, task) else { return false }
        let file = try place.directory.openFile(place.name)
        let trimmed = try whole.trimmed(to: file, body)
        if try !stageClone(task, trimmed, body, of: file, fold) {
            if trimmed.size > before.size { try requireRoom(for: trimmed.size) }
            try stagePatch(task, trimmed, body)
        }
        try file.close()
        return true
    }

    /// Of a file that was cut short, the primary cannot tell whether its last block is the first bytes of one that the
    /// replica has (walship-segment(5), "fetch"). Where it is, it becomes a copy of what stays where it is.
    func keepingEnd(_ task: Fold.Task, _ fold: Fold) throws -> Fold.Task {
        guard let content = task.content, let before = task.before, content.size < before.size,
            case .fetch(let block)? = content.extents.last, try !fold.catalog.isPending(before.id),
            let file = try openSource(before.id, fold)
        else { return task }
        let offset = content.size - UInt64(block.length)
        let isHeld = try holds(file, offset, block)
        try file.close()
        guard isHeld else { return task }
        var kept = content
        let source = ContentSource(object: before.id, content: before.content)
        kept.extents[kept.extents.count - 1] = .copy(
            source: kept.sources.count, offset: offset, length: UInt64(block.length))
        kept.sources.append(source)
        var task = task
        task.content = kept
        return task
    }

    /// The patch with its loans as parts, whose bytes are appended to `body`; nil when some are not to be had here.
    private func takeLoans(_ patch: Patch, _ body: inout [UInt8], _ fold: Fold) throws -> Patch? {
        var whole = patch
        whole.loans.removeAll()
        for loan in patch.loans {
            guard try fold.missingBlocks(of: loan.source).isEmpty, let file = try openSource(loan.source, fold) else {
                return nil
            }
            let bytes = try file.read(count: loan.count, at: loan.from)
            try file.close()
            guard bytes.count == loan.count else { return nil }
            whole.parts.append(Patch.Part(offset: loan.offset, range: body.count..<body.count + bytes.count))
            body += bytes
        }
        return whole
    }

    /// The patch with its last block; nil when nobody has that any more.
    private func takeEnd(_ patch: Patch?, _ body: inout [UInt8], _ task: Fold.Task) throws -> Patch? {
        guard var whole = patch, let block = whole.end else { return patch }
        guard let blocks else { throw ApplyError.interrupted }
        let offset = whole.size - UInt64(block.length)
        whole.end = nil
        var isHere = false
        try blocks.fetch([BlockRequest(object: task.row.id, offset: offset, block: block)]) { _, bytes in
            guard let bytes else { return }
            whole.parts.append(Patch.Part(offset: offset, range: body.count..<body.count + bytes.count))
            body += bytes
            isHere = true
        }
        return isHere ? whole : nil
    }

    /// On a file system with reflinks the new version is a clone with the changed blocks written over it: as cheap as a
    /// patch, and published whole. False where there are none.
    private func stageClone(
        _ task: Fold.Task, _ patch: Patch, _ body: [UInt8], of source: borrowing File, _ fold: Fold
    ) throws -> Bool {
        let unfinished = DiskTree.name(.unfinished, task.row.id)
        let target = try Self.create(staging, unfinished)
        guard try target.cloneAll(from: source) else {
            try target.close()
            try staging.unlink(unfinished)
            return false
        }
        try target.truncate(to: patch.size)
        for part in patch.parts {
            try body.withBytes { bytes throws(SystemError) in
                try target.write(UnsafeRawBufferPointer(rebasing: bytes[part.range]), at: part.offset)
            }
            written.wrote(part.range.count)
        }
        let identity = try metadata.finish(target, task.row.metadata)
        try fold.catalog.setLocal(task.row.id, identity: identity, stamp: ObjectRow.neverSeen)
        try staging.rename(unfinished, to: staging, DiskTree.name(.staged, task.row.id))
        return true
    }

    /// No file system has a lower limit than 2 GiB.
    private static let unlimitedBytes: UInt64 = 1 << 31

    /// Throws where the file system holds no file of that size: now, while nothing is committed, for a patch must not fail
    /// when it is published.
    private func requireRoom(for size: UInt64) throws {
        guard size >= Self.unlimitedBytes else { return }
        let name = temporaryName()
        let file = try staging.createFile(name)
        defer { try? staging.unlink(name) }
        try file.truncate(to: size)
        try file.close()
    }

    private func stagePatch(_ task: Fold.Task, _ patch: Patch, _ body: [UInt8]) throws {
        let name = temporaryName()
        let file = try staging.createFile(name)
        let bytes = patch.encoded(body)
        try file.write(bytes, at: 0)
        written.wrote(bytes.count)
        try file.close()
        patches.append((task.row.id, name))
    }
}
