import WALCatalog
import WALFormat
import WALSystem

/// Changes that a primary makes in its own tree for a client, by the same steps as a replica makes those of a segment.
/// The log comes between staging and showing. What a crash leaves:
///
/// 1. stage: content is in `staging/` and durable, nothing is logged. A crash, or an error: as if nothing had been.
/// 2. log: the segment is durable, the catalog is not. A crash: the start finds the log ahead of the catalog and applies
///    the segment, ``redo(_:)``. It must not leave that to the scan, which would take the tree as it is for newer.
/// 3. commit, publish: as for a replica, finished by ``recover()``.
///
/// The journal is taken back at once, and not with the next batch as a replica does: on a primary applications change the
/// tree, and what they did since then must not be taken for something that stands in the way.
extension Applier {
    /// `prepare` writes the entries, with the catalog as it is before them and with the number of the last object brought
    /// up to date; nil when there is nothing to do. `log` makes them durable and returns their position.
    ///
    /// Throws ``ApplyError/unfinished(_:isNoSpace:)`` when that is done and something after it has failed; after any other
    /// error nothing has happened.
    package func make(
        blocks: any BlockSource, prepare: (CatalogTransaction) throws -> ChangeWriter?,
        log: (borrowing ChangeWriter, CatalogState) throws -> Position
    ) throws -> Position? {
        var written = ChangeWriter()
        var position: Position?
        do {
            try step(
                blocks: blocks,
                bodies: { catalog in
                    guard let changes = try prepare(catalog) else { throw NothingToDo() }
                    written = changes
                    return [changes.body.bytes]
                },
                staged: { fold in
                    let made = try log(written, fold.catalog.state)
                    position = made
                    fold.catalog.state.position = made
                    try fold.end(at: made)
                }
            ) { fold, stager in
                let body = written.body.bytes
                var changes: [Change] = []
                try body.withBytes { bytes throws(FormatError) in
                    var reader = ChangeReader(bytes, entryCount: written.entryCount)
                    while let change = try reader.next() { changes.append(change) }
                }
                for change in changes {
                    try fold.apply(change, set: 0, body: body, seq: fold.catalog.state.position.seq + 1) {
                        try stager.stageEarly($1, &$0)
                    }
                }
            }
            try forgetJournal()
        } catch is NothingToDo {
            return nil
        } catch {
            guard position != nil else { throw error }
            throw ApplyError.unfinished("\(error)", isNoSpace: Self.isNoSpace(error))
        }
        return position
    }

    /// Applies a segment of the log that a crash kept from the tree.
    package func redo(_ set: ChangeSet) throws {
        try catalog.write { try Self.learnIdentities($0, root: root) }
        // It was staged before it was logged, so all content is there.
        for case .put(let object, _, .file) in set.changes {
            do throws(SystemError) {
                try staging.rename(DiskTree.name(.staged, object), to: staging, DiskTree.name(.unfinished, object))
                ready.insert(object)
            } catch {
                guard error.isNotFound else { throw error }
            }
        }
        defer { ready.removeAll() }
        try apply([set], blocks: NoBlocks())
        try forgetJournal()
    }

    /// Ends what a crash left of a change: what was committed is published, and of `staging/` nothing is kept but what a
    /// segment that is to be redone may need.
    package func recoverOwn() throws {
        guard try !catalog.read({ try $0.journal() }).isEmpty else { return }
        try recover()
        try forgetJournal()
    }

    private struct NothingToDo: Error {}

    /// Entries that were replayed into the catalog leave the inodes of what is new to the next scan. What is to be changed
    /// before that is looked up here.
    private static func learnIdentities(_ catalog: CatalogTransaction, root: Directory) throws {
        let handles = TreeHandles(root: root)
        for object in try catalog.unknownObjects() {
            guard let known = try catalog.occupant(object) else { continue }
            for place in try catalog.places(of: object, limit: 4) {
                guard let directory = try handles.directory(place.parent, catalog),
                    let status = try? directory.status(of: place.name), status.kind == known.kind,
                    try catalog.find(status.identity) == nil
                else { continue }
                try catalog.setLocal(object, identity: status.identity, stamp: ObjectRow.neverSeen)
                break
            }
        }
    }
}

/// Nobody is there to be asked: what there is to be had is in `staging/`, or was of a primary that will not come back.
package final class NoBlocks: BlockSource {
    package init() {}

    package func fetch(
        _ requests: [BlockRequest], deliver: (BlockRequest, UnsafeRawBufferPointer?) throws -> Void
    ) throws {
        for request in requests { try deliver(request, nil) }
    }
}

extension Applier {
    /// A file with all of an object's content, which becomes that object.
    package func take(_ upload: Name, from folder: Directory, as object: ObjectID) throws {
        try folder.rename(upload, to: staging, DiskTree.name(.unfinished, object))
        ready.insert(object)
    }

    /// The object was not made.
    package func giveBack(_ object: ObjectID, to folder: Directory, _ upload: Name) throws {
        for role in [DiskTree.Role.unfinished, .staged] {
            do throws(SystemError) {
                return try staging.rename(DiskTree.name(role, object), to: folder, upload)
            } catch {
                guard error.isNotFound else { throw error }
            }
        }
    }

    /// A crash came before what was staged was logged: no segment asks for it any more.
    package func forgetUnmade() throws {
        let last = try catalog.state().lastObject
        for entry in try staging.entries() {
            if let (_, object) = DiskTree.parse(entry.name), object > last { try staging.removeTree(entry.name) }
        }
    }
}
