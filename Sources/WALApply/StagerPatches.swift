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
        let taken = try patch.isHeld ? take(patch, &body, task, fold) : takeAside(patch, task, fold)
        guard let whole = taken else { return false }
        let file = try place.directory.openFile(place.name)
        let trimmed = try whole.trimmed(to: file, body)
        if try trimmed.aside != nil || !stageClone(task, trimmed, body, of: file, fold) {
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

    /// The patch with what it awaits as parts, whose bytes are appended to `body`; nil when some are not to be had.
    private func take(_ patch: Patch, _ body: inout [UInt8], _ task: Fold.Task, _ fold: Fold) throws -> Patch? {
        var parts: [Patch.Part] = []
        for loan in patch.loans {
            guard let file = try openLender(loan, fold) else { return nil }
            let bytes = try file.read(count: loan.count, at: loan.from)
            try file.close()
            guard bytes.count == loan.count else { return nil }
            parts.append(Patch.Part(offset: loan.offset, range: body.count..<body.count + bytes.count))
            body += bytes
        }
        let isWhole = try fetch(patch.fetches, of: task.row.id) { offset, bytes in
            parts.append(Patch.Part(offset: offset, range: body.count..<body.count + bytes.count))
            body += bytes
        }
        return isWhole ? patch.completed(parts: parts.sorted { $0.offset < $1.offset }) : nil
    }

    /// The patch with what it awaits in a file of its own, so that a file that grows is not copied into each next version.
    /// A transfer that was cut goes on with what came before. nil when some of it is not to be had, and where the file
    /// system makes copies without copying: a new file is built then, and takes over what was begun.
    private func takeAside(_ patch: Patch, _ task: Fold.Task, _ fold: Fold) throws -> Patch? {
        guard try !canClone() else { return nil }
        let unfinished = DiskTree.name(.unfinished, task.row.id)
        let file = try createOrContinue(unfinished)
        try file.truncate(to: patch.size)
        for loan in patch.loans {
            guard let source = try openLender(loan, fold) else { return nil }
            let copied = try file.copyRange(
                from: source, sourceOffset: loan.from, to: loan.offset, length: UInt64(loan.count))
            try source.close()
            written.copied(copied)
            guard copied == loan.count else { return nil }
        }
        let wanted = try patch.fetches.filter { try !holds(file, $0.offset, $0.block) }
        let isWhole = try fetch(wanted, of: task.row.id) { offset, bytes in
            try file.write(bytes, at: offset)
            written.wrote(bytes.count)
            try writeback.wrote(bytes.count)
        }
        try file.close()
        guard isWhole else { return nil }
        let name = temporaryName()
        try staging.rename(unfinished, to: staging, name)
        asides.append(name)
        let ranges =
            (patch.loans.map { $0.offset..<$0.offset + UInt64($0.count) }
            + patch.fetches.map { $0.offset..<$0.offset + UInt64($0.block.length) })
            .sorted { $0.lowerBound < $1.lowerBound }
        return patch.completed(parts: [], aside: Patch.Aside(name: name, ranges: ranges))
    }

    private func openLender(_ loan: Patch.Loan, _ fold: Fold) throws -> File? {
        guard try fold.missingBlocks(of: loan.source).isEmpty else { return nil }
        return try openSource(loan.source, fold)
    }

    /// False when nobody has some of them any more.
    private func fetch(
        _ wanted: [Patch.Fetch], of object: ObjectID, take: (UInt64, UnsafeRawBufferPointer) throws -> Void
    ) throws -> Bool {
        guard !wanted.isEmpty else { return true }
        guard let blocks else { throw ApplyError.interrupted }
        var isWhole = true
        try blocks.fetch(wanted.map { BlockRequest(object: object, offset: $0.offset, block: $0.block) }) {
            request, bytes in
            if let bytes { try take(request.offset, bytes) } else { isWhole = false }
        }
        return isWhole
    }

    private func canClone() throws -> Bool {
        if let clones { return clones }
        let names = [temporaryName(), temporaryName()]
        defer { for name in names { try? staging.unlink(name) } }
        let source = try staging.createFile(names[0])
        let target = try staging.createFile(names[1])
        let can = try target.cloneAll(from: source)
        clones = can
        return can
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
