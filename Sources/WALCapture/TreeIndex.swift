import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// Describes a tree that nobody has a catalog of: one that another tool seeded, or a first sync that was cut off. Objects
/// get local numbers, which a reconcile replaces by the sender's.
package struct TreeIndex {
    private let progress: CaptureProgress
    private let reader: ContentReader

    package init(progress: CaptureProgress) {
        self.progress = progress
        reader = ContentReader(progress: progress)
    }

    /// Fills the empty catalog from `root`. Everything is read: only content tells what content is. Sockets are
    /// left out, and so is `.wal` at the root. A mount is refused: what is not the primary's is going to be removed.
    package func fill(_ catalog: CatalogTransaction, root: Directory) throws {
        var status = try root.status()
        status.attributes = try root.attributes().attributes
        try catalog.insert(
            ObjectRow(id: .root, kind: .directory, metadata: status.metadata, identity: status.identity))
        let device = status.dev
        var next = ObjectID.firstLocal
        var waiting: [(ObjectID, Directory)] = [(.root, root)]
        while let (parent, directory) = waiting.popLast() {
            try progress.checkCancelled()
            for entry in try directory.entries() {
                if parent == .root, entry.name == Reconciler.reservedName { continue }
                var status = try directory.status(of: entry.name)
                status.attributes = try directory.attributes(of: entry.name).attributes
                progress.namesSeen.add(1, ordering: .relaxed)
                guard let kind = status.kind else { continue }
                guard !status.isMountRoot, status.dev == device else {
                    throw CaptureError.mountPoint(describe(directory, entry.name))
                }
                if kind != .directory, status.linkCount > 1, let twin = try catalog.find(status.identity) {
                    try catalog.bind(Place(parent: parent, name: entry.name), to: twin)
                    continue
                }
                let row = try self.row(next, kind, status, directory, entry.name)
                try catalog.insert(row)
                try catalog.bind(Place(parent: parent, name: entry.name), to: next)
                // A handle for each directory that waits: as many as a level has siblings, not as the tree has.
                if kind == .directory { waiting.append((next, try directory.openDirectory(entry.name))) }
                next += 1
            }
        }
    }

    private func describe(_ directory: Directory, _ name: Name) -> String {
        PathText.escaped((directory.currentPath ?? []) + [0x2F] + name.bytes)
    }

    private func row(
        _ id: ObjectID, _ kind: Kind, _ status: FileStatus, _ directory: Directory, _ name: Name
    ) throws -> ObjectRow {
        var row: ObjectRow
        switch kind {
        case .directory: row = ObjectRow(id: id, kind: .directory, metadata: status.metadata)
        case .symlink: row = .symlink(id: id, metadata: status.metadata, target: try directory.readLink(name))
        case .fifo: row = .node(kind, id: id, metadata: status.metadata, nil)
        case .characterDevice, .blockDevice: row = .node(kind, id: id, metadata: status.metadata, status.device)
        case .file:
            let file = try directory.openFile(name)
            let table: BlockTable
            do {
                table = try reader.table(of: file, status: status)
            } catch is FormatError {
                throw CaptureError.tooLarge(describe(directory, name))
            }
            try file.close()
            progress.filesRead.add(1, ordering: .relaxed)
            progress.bytesRead.add(status.size, ordering: .relaxed)
            row = ObjectRow(
                id: id, kind: .file, metadata: status.metadata, size: table.size, content: table.digest,
                blocks: table)
        }
        row.identity = status.identity
        return row
    }
}
