import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// Content: a file is read once, and what is new of it is written while it is read.
extension Reconciler {
    /// Of a file this large, the digests alone may fill a segment: it begins one.
    private static let hugeBytes: UInt64 = 8 << 30
    private static let tooLargeText = "is larger than a segment can tell; it is left out"

    /// Reads a file and writes what is new of it. False when it changed meanwhile and may be tried again.
    func file(
        _ glance: Glance, _ status: FileStatus, _ directory: Directory, _ object: ObjectID, old: ObjectRow? = nil,
        before: ObjectRow? = nil
    ) throws -> Bool {
        let file: File
        do throws(SystemError) {
            file = try directory.openFile(glance.place.name)
        } catch {
            // Gone already: its own event follows. Of anything else what was known is kept.
            guard !error.isNotFound else { return true }
            return try leave(glance, after: error, old, status)
        }
        // A write sets the times when it begins, and its bytes come after that: none that began before these times were
        // looked at may go on while the file is read, or nothing would tell of it.
        let began = Clock.monotonicNanoseconds()
        let begun: FileStatus
        var first: FileStatus
        do throws(SystemError) {
            begun = try file.status()
            try file.waitForWrites()
            first = try file.status()
        } catch {
            return try leave(glance, after: error, old, status)
        }
        let isQuiet = begun.ctime == first.ctime && begun.size == first.size
        guard first.identity == status.identity, isQuiet || glance.isOverdue else { return false }
        first.attributes = status.attributes
        if first.ctime != status.ctime {
            if let isDone = try addAttributes(to: &first, glance, directory, known: nil) { return isDone }
        }
        if first.size >= Self.hugeBytes { try emitNow() }
        let mark = changes.mark
        // One that is written all the time would be another one when a replica asks.
        let longer = old.flatMap { $0.size > first.size && !glance.isOverdue ? $0.size : nil }
        let result: ContentCapture.Result
        do {
            result = try content.write(
                file, status: first, object: object,
                known: copySources(of: object, first, old: old, before: before), maxInlineBytes: maxInlineBytes,
                longer: longer, to: &changes)
        } catch let error as SystemError {
            changes.rollback(to: mark)
            let cost = Clock.monotonicNanoseconds() - began
            readCosts[glance.place] = cost
            return try leave(glance, after: error, old, status, cost: cost)
        } catch is FormatError {
            changes.rollback(to: mark)
            try report(glance.place, Self.tooLargeText)
            return true
        }
        let second: FileStatus
        do throws(SystemError) {
            second = try file.status()
            try file.close()
        } catch {
            changes.rollback(to: mark)
            return try leave(glance, after: error, old, status)
        }
        progress.filesRead.add(1, ordering: .relaxed)
        progress.bytesRead.add(result.size, ordering: .relaxed)
        guard UInt64(changes.rawBytes) <= Limits.maxSegmentRawBytes else {
            changes.rollback(to: mark)
            try report(glance.place, Self.tooLargeText)
            return true
        }
        let isStable =
            isQuiet && second.size == result.size && second.size == first.size && second.mtime == first.mtime
            && second.ctime == first.ctime
        if !isStable { readCosts[glance.place] = Clock.monotonicNanoseconds() - began }
        if !isStable, !glance.isOverdue {
            changes.rollback(to: mark)
            return false
        }
        settle(glance.place, first)
        if !isStable {
            flags.insert(.fuzzy)
            try report(
                glance.place, "was captured while it was written; the next quiet look takes it clean")
            fuzzy.append(glance.place)
        }
        var row = ObjectRow(
            id: object, kind: .file, metadata: first.metadata, size: result.size, content: result.digest,
            blocks: result.table)
        row.stamp = isStable ? contentStamp(of: first) : ObjectRow.toBeRead
        row.identity = first.identity
        if let old, old.content == result.digest {
            changes.rollback(to: mark)
            if old.metadata != first.metadata { changes.metadata(object, first.metadata) }
        } else if result.size >= 4096, result.newBytes > 0, let twin = try catalog.find(content: result.digest) {
            changes.rollback(to: mark)
            changes.beginFile(object, first.metadata)
            changes.copy(
                from: ContentSource(object: twin, content: result.digest), offset: 0, length: result.size)
            changes.endFile(size: result.size, digest: result.digest)
        }
        try catalog.put(row)
        return true
    }

    /// It could not be read. False when it is to be tried again at once.
    private func leave(
        _ glance: Glance, after error: SystemError, _ old: ObjectRow?, _ status: FileStatus, cost: UInt64 = 0
    ) throws -> Bool {
        guard try !isAgain(glance, after: error, Unread(cost: cost)) else { return false }
        if let old { try keepContent(of: old, status) }
        return true
    }

    /// Of a file that cannot be read any more: a mode that says so is a change like any other, as long as nothing says that
    /// the content is another. It stays to be read.
    private func keepContent(of old: ObjectRow, _ status: FileStatus) throws {
        guard old.identity == status.identity, old.size == status.size, old.metadata.mtime == status.mtime,
            old.metadata != status.metadata
        else { return }
        var row = old
        row.metadata = status.metadata
        try catalog.put(row)
        changes.metadata(row.id, row.metadata)
    }

    /// As long as a page waits to be written to disk, who has it mapped writes to it without setting the file's times,
    /// mmap(2): only the write that made it dirty has set them. So times that are younger than a page waits do not say
    /// that this content is the last one. Linux begins to write after 30 s.
    private func contentStamp(of status: FileStatus) -> Int64 {
        let stamp = stamp(of: status)
        let (age, overflow) = Clock.realtimeNanoseconds().subtractingReportingOverflow(stamp)
        return stamp != ObjectRow.toBeRead && !overflow && abs(age) < Self.writebackNanoseconds
            ? ObjectRow.toBeScanned : stamp
    }

    private static let writebackNanoseconds: Int64 = 60_000_000_000

    /// Nothing is looked for in a first scan, of which nothing is sent.
    private func copySources(
        of object: ObjectID, _ status: FileStatus, old: ObjectRow?, before: ObjectRow?
    ) -> CopySources {
        if isBaseline { return CopySources(of: object, old: nil, before: nil, catalog: nil) }
        let isIndexed = status.size >= CatalogTransaction.minIndexedBytes
        return CopySources(of: object, old: old, before: before, catalog: isIndexed ? catalog : nil)
    }
}
