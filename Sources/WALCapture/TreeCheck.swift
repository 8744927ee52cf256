import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// A place where a tree is not what its catalog says.
package struct TreeDifference: Sendable, Hashable {
    package enum Kind: String, Sendable {
        case missing
        case extra
        /// Another kind of object, another inode, or another size, time or content.
        case changed
        /// Mode or owner only, or a directory's time: set back without loss.
        case metadata
    }

    package var kind: Kind
    package var place: Place
    package var path: String
    /// The catalog's object; nil for an extra name.
    package var object: ObjectID?
}

/// Compares a tree with its catalog without changing either.
package struct TreeCheck {
    package struct Result: Sendable {
        package var differences: [TreeDifference] = []
        package var names: UInt64 = 0
        package var bytes: UInt64 = 0
    }

    /// Read all content and compare it with the digests, instead of trusting sizes and times.
    private let isDeep: Bool
    /// Owners, and some attributes, cannot be set by somebody who is not root, so a difference there is none.
    private let isPrivileged: Bool
    private let progress: CaptureProgress
    private let reader = ContentReader()

    /// A primary's sockets, and its devices unless they were asked for, are not replicated and are no difference; in a
    /// replica they are foreign.
    private let ignoresSpecial: Bool

    package init(isDeep: Bool, ignoresSpecial: Bool, progress: CaptureProgress) {
        self.isDeep = isDeep
        self.ignoresSpecial = ignoresSpecial
        self.progress = progress
        isPrivileged = ProcessFacts.isPrivileged
    }

    /// Throws ``CaptureError/stopped`` when its progress is cancelled, also in the midst of a file.
    package func run(_ catalog: CatalogTransaction, root: Directory) throws -> Result {
        var result = Result()
        let handles = TreeHandles(root: root)
        let device = try root.status().dev
        let filter = try catalog.filter().matcher
        try checkRoot(root, catalog, filter, &result)
        var waiting: [ObjectID] = [.root]
        while let object = waiting.popLast() {
            try progress.checkCancelled()
            guard let directory = try handles.directory(object, catalog) else { continue }
            var entries = try directory.entries()
            entries.sort { $0.name < $1.name }
            let known = try catalog.children(of: object)
            let path = filter.looksAtPaths ? Filter.prefix(of: try catalog.path(of: object) ?? []) : []
            var next = 0
            for entry in entries {
                try progress.checkCancelled()
                if object == .root, entry.name == Reconciler.reservedName { continue }
                while next < known.count, known[next].name < entry.name {
                    try addMissing(known[next], object, catalog, &result)
                    next += 1
                }
                let isKnown = next < known.count && known[next].name == entry.name
                if !isKnown, try isExcluded(entry, in: directory, path, filter) { continue }
                result.names += 1
                progress.namesSeen.add(1, ordering: .relaxed)
                guard isKnown else {
                    if ignoresSpecial, try isSpecial(entry.name, directory, device) { continue }
                    try add(.extra, object, entry.name, nil, catalog, &result)
                    continue
                }
                let row = known[next]
                next += 1
                // A file that still lacks blocks is not in the tree yet, and is not missed.
                if row.kind == .file, try catalog.isPending(row.object) { continue }
                if ignoresSpecial, !row.kind.isDevice, try isSpecial(row.name, directory, device) { continue }
                if let kind = try difference(row, directory, catalog, &result),
                    try kind != .metadata || !isExplained(row, directory, path, filter)
                {
                    try add(kind, object, row.name, row.object, catalog, &result)
                    if kind != .metadata { continue }
                }
                if row.kind == .directory { waiting.append(row.object) }
            }
            for row in known[next...] { try addMissing(row, object, catalog, &result) }
        }
        return result
    }

    /// The root has no name; what it is, is compared as of any other directory.
    private func checkRoot(
        _ root: Directory, _ catalog: CatalogTransaction, _ filter: FilterMatcher, _ result: inout Result
    ) throws {
        guard let known = try catalog.object(.root) else { return }
        let status = try root.status()
        let isSet = isSet(known.metadata, .directory, status, try root.attributes().attributes)
        let isRestamped = !known.metadata.mtime.mayBeKept(as: status.mtime)
        guard try !isSet || isRestamped && !holdsExcluded(root, [], filter) else { return }
        try add(.metadata, .root, Name(trusted: [0x2E]), .root, catalog, &result)
    }

    /// A file that still lacks blocks is not in the tree yet, and is not missed.
    private func addMissing(
        _ row: ChildRow, _ parent: ObjectID, _ catalog: CatalogTransaction, _ result: inout Result
    ) throws {
        if row.kind == .file, try catalog.isPending(row.object) { return }
        try add(.missing, parent, row.name, row.object, catalog, &result)
    }

    private func add(
        _ kind: TreeDifference.Kind, _ parent: ObjectID, _ name: Name, _ object: ObjectID?,
        _ catalog: CatalogTransaction, _ result: inout Result
    ) throws {
        let path = PathText.joined((try catalog.path(of: parent) ?? []) + [name])
        result.differences.append(
            TreeDifference(kind: kind, place: Place(parent: parent, name: name), path: path, object: object))
    }

    /// What the filter excludes is nobody's business but its owner's.
    private func isExcluded(
        _ entry: DirectoryEntry, in directory: Directory, _ path: [UInt8], _ filter: FilterMatcher
    ) throws -> Bool {
        guard !filter.isEmpty else { return false }
        var isDirectory = entry.type == DirectoryEntry.directoryType
        if entry.type == DirectoryEntry.unknownType {
            do throws(SystemError) {
                isDirectory = try directory.status(of: entry.name).kind == .directory
            } catch {
                // Gone since it was listed.
                if error.isNotFound { return true }
                throw error
            }
        }
        return filter.excludes(entry.name, in: path, isDirectory: isDirectory)
    }

    /// A directory with another time, and nothing else, that holds something excluded: who writes that sets the time.
    private func isExplained(
        _ row: ChildRow, _ directory: Directory, _ path: [UInt8], _ filter: FilterMatcher
    ) throws -> Bool {
        guard row.kind == .directory, !filter.isEmpty else { return false }
        var status = try directory.status(of: row.name)
        status.mtime = row.metadata.mtime
        guard try isSet(row, status, directory) else { return false }
        let inner = try directory.openDirectory(row.name)
        return try holdsExcluded(inner, filter.looksAtPaths ? path + row.name.bytes + [0x2F] : [], filter)
    }

    private func holdsExcluded(_ directory: Directory, _ path: [UInt8], _ filter: FilterMatcher) throws -> Bool {
        guard !filter.isEmpty else { return false }
        return try directory.entries().contains { try isExcluded($0, in: directory, path, filter) }
    }

    private func isSpecial(_ name: Name, _ directory: Directory, _ device: UInt64) throws -> Bool {
        do throws(SystemError) {
            let status = try directory.status(of: name)
            return status.kind == nil || status.kind!.isDevice || status.dev != device || status.isMountRoot
        } catch {
            // Gone since it was listed: that is for the next look.
            if error.isNotFound { return false }
            throw error
        }
    }

    private func difference(
        _ row: ChildRow, _ directory: Directory, _ catalog: CatalogTransaction, _ result: inout Result
    ) throws -> TreeDifference.Kind? {
        let status: FileStatus
        do throws(SystemError) {
            status = try directory.status(of: row.name)
        } catch {
            if error.isNotFound { return .missing }
            throw error
        }
        guard status.kind == row.kind, row.identity == .unknown || status.identity == row.identity else {
            return .changed
        }
        let isRestamped = !row.metadata.mtime.mayBeKept(as: status.mtime)
        switch row.kind {
        case .directory: if isRestamped { return .metadata }
        case .symlink:
            result.bytes += status.size
            guard try directory.readLink(row.name) == catalog.object(row.object)?.target else { return .changed }
            if isRestamped { return .metadata }
        case .fifo: if isRestamped { return .metadata }
        case .characterDevice, .blockDevice:
            guard try status.device == catalog.object(row.object)?.device else { return .changed }
            if isRestamped { return .metadata }
        case .file:
            result.bytes += status.size
            if status.size != row.size { return .changed }
            if isDeep {
                if try !holdsContent(row, directory, catalog) { return .changed }
                if isRestamped { return .metadata }
            } else if isRestamped {
                return .changed
            }
        }
        return try isSet(row, status, directory) ? nil : .metadata
    }

    /// Owner, mode and attributes are those of the catalog, as far as this process could have set them.
    private func isSet(_ row: ChildRow, _ status: FileStatus, _ directory: Directory) throws -> Bool {
        isSet(row.metadata, row.kind, status, try directory.attributes(of: row.name).attributes)
    }

    private func isSet(_ wanted: Metadata, _ kind: Kind, _ status: FileStatus, _ attributes: Attributes) -> Bool {
        let isOwned = !isPrivileged || (status.uid == wanted.uid && status.gid == wanted.gid)
        // Not of a primary, which sets no modes.
        let least = isPrivileged || ignoresSpecial ? 0 : kind.ownersLeastMode
        let hasMode = kind == .symlink || status.mode == wanted.mode | least
        let hasAttributes =
            isPrivileged
            ? attributes == wanted.attributes : attributes.unprivileged == wanted.attributes.unprivileged
        return isOwned && hasMode && hasAttributes
    }

    /// Every block where the catalog has it; holes must read as zero.
    private func holdsContent(_ row: ChildRow, _ directory: Directory, _ catalog: CatalogTransaction) throws -> Bool {
        guard let full = try catalog.object(row.object) else { return false }
        let file = try directory.openFile(row.name)
        var offset: UInt64 = 0
        var isEqual = true
        for index in 0..<full.blocks.count where isEqual {
            try progress.checkCancelled()
            let block = full.blocks[index]
            isEqual = try block.isHole ? isZero(file, offset, block.length) : matches(file, offset, block)
            offset += UInt64(block.length)
        }
        try file.close()
        progress.bytesRead.add(offset, ordering: .relaxed)
        return isEqual
    }

    private func matches(_ file: borrowing File, _ offset: UInt64, _ block: ContentBlock) throws(SystemError) -> Bool {
        let bytes = try file.read(count: Int(block.length), at: offset)
        return bytes.count == Int(block.length) && Digest(of: bytes) == block.digest
    }

    private func isZero(_ file: borrowing File, _ start: UInt64, _ length: UInt32) throws(SystemError) -> Bool {
        let end = start + UInt64(length)
        // Where the file system knows the hole, nothing has to be read.
        var offset = start
        while offset < end {
            guard let data = try file.seekData(from: offset), data < end else { return true }
            let count = Int(min(end - data, UInt64(1) << 20))
            guard try file.read(count: count, at: data).allSatisfy({ $0 == 0 }) else { return false }
            offset = data + UInt64(count)
        }
        return true
    }
}
