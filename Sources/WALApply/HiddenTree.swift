import WALCatalog
import WALFormat
import WALSystem

/// The first sync of an empty replica builds the tree in `staging/incoming`, where nobody sees it and files go straight
/// to their names, and shows it at its end.
extension Applier {
    package var hasHiddenTree: Bool {
        get throws { (try? staging.status(of: Self.incoming))?.kind == .directory }
    }

    /// Opens the hidden root, a new one where there is none. From here on changes go there.
    package func hide() throws {
        do throws(SystemError) {
            try staging.makeDirectory(Self.incoming)
        } catch {
            guard error.isExisting else { throw error }
        }
        root = try staging.openDirectory(Self.incoming)
        isHidden = true
    }

    /// Forgets a first sync that was cut off, with what it had written.
    package func discardHidden() throws {
        try staging.removeTree(Self.incoming)
        try catalog.write { try $0.removeEverything() }
    }

    /// A part of a first sync: nothing of it needs to outlive a crash, for what is found then is read again.
    package func applyHidden(_ sets: [ChangeSet], blocks: any BlockSource) throws {
        do { try build(sets, blocks) } catch {
            if Self.isNoSpace(error) { isShort = true }
            throw error
        }
    }

    private func build(_ sets: [ChangeSet], _ blocks: any BlockSource) throws {
        let bodies = sets.map(\.body)
        try catalog.write { transaction in
            if try transaction.object(.root) == nil {
                let status = try root.status()
                try transaction.insert(
                    ObjectRow(id: .root, kind: .directory, metadata: status.metadata, identity: status.identity))
            }
            var fold = try Fold(transaction)
            let stager = makeStager(fold, bodies: bodies, blocks: blocks)
            for (index, set) in sets.enumerated() {
                for change in set.changes {
                    try fold.apply(change, set: index, body: set.body, seq: set.position.seq) { fold, object in
                        try stager.stageEarly(object, &fold)
                    }
                }
                try fold.end(at: set.position)
            }
            try stager.stageAll(&fold)
            try link(fold, stager.disk)
        }
    }

    /// Gives objects their other names.
    private func link(_ fold: Fold, _ disk: DiskTree) throws {
        for object in fold.linked {
            guard let row = try fold.catalog.object(object), try !fold.catalog.isPending(object),
                let first = try disk.locate(object, identity: row.identity)
            else { continue }
            for place in try fold.catalog.places(of: object) {
                guard let parent = try disk.directory(place.parent) else { continue }
                do throws(SystemError) {
                    if try parent.status(of: place.name).identity == row.identity { continue }
                    try parent.removeTree(place.name)
                } catch {
                    guard error.isNotFound else { throw error }
                }
                try first.directory.link(first.name, to: parent, place.name)
            }
        }
    }

    /// The catalog is at `position`, which must be what `treeDigest` says: makes all of it durable and shows it at `live`.
    package func show(at live: Directory, position: Position, treeDigest: Digest, lastObject: ObjectID) throws {
        try catalog.write(durably: true) { transaction in
            guard transaction.state.treeDigest == treeDigest else {
                throw ApplyError.diverged(
                    seq: position.seq, expected: treeDigest, actual: transaction.state.treeDigest)
            }
            try stampDirectories(transaction)
            transaction.state.position = position
            transaction.state.lastObject = lastObject
            transaction.state.mustReconcile = false
            transaction.state.isComplete = try transaction.pendingObjects().isEmpty
            try syncStaged()
        }
        try finishShowing(at: live)
    }

    /// The last step of ``show(at:position:treeDigest:lastObject:)``, also after a crash in the midst of it.
    package func finishShowing(at live: Directory) throws {
        let hidden = try staging.openDirectory(Self.incoming)
        for entry in try hidden.entries() {
            // A directory that gets another parent is written to, and somebody who is not root needs the right to.
            let mode = try hidden.status(of: entry.name).mode
            let isClosed = entry.type == DirectoryEntry.directoryType && !metadata.isPrivileged && mode & 0o200 == 0
            if isClosed { try hidden.setMode(entry.name, mode | 0o200) }
            do throws(SystemError) {
                try hidden.rename(entry.name, to: live, entry.name, noReplace: true)
            } catch {
                guard error.isExisting else { throw error }
                try quarantine.keep(live, entry.name, path: entry.name.description)
                try hidden.rename(entry.name, to: live, entry.name, noReplace: true)
            }
            if isClosed { try live.setMode(entry.name, mode) }
        }
        try catalog.write(durably: true) { transaction in
            guard let row = try transaction.object(.root) else { return }
            try transaction.setLocal(.root, identity: try live.status().identity, stamp: 0)
            try metadata.set(row.metadata, of: live)
        }
        try staging.removeDirectory(Self.incoming)
        root = live
        isHidden = false
    }

    private func stampDirectories(_ transaction: CatalogTransaction) throws {
        let disk = DiskTree(root: root, staging: staging, catalog: transaction)
        try transaction.forEachObject { row in
            guard row.kind == .directory, row.id != .root, let directory = try disk.directory(row.id) else { return }
            try metadata.set(row.metadata, of: directory)
        }
    }
}
