import Logging
import WALApply
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// Syncs: all of a tree for an empty replica, or a listing that the replica's own tree is brought to.
extension ApplyWorker {
    private static let hiddenBatchBytes = 8 << 20

    func sync(_ session: SyncSession) throws {
        var isDone = false
        defer {
            // A sync that failed is asked for again by the next connection.
            if !isDone { session.link.connection.closeFromOutside(reason: "the sync did not come to its end") }
            node.end(session)
        }
        guard case .begin(let begin)? = session.parts.take() else { throw ApplyError.interrupted }
        node.update {
            $0.phase = .syncing
            $0.syncTotalFiles = begin.objectCount
            $0.syncTotalBytes = begin.contentBytes
            $0.syncFiles = 0
            $0.syncBytes = 0
        }
        if session.way == .everything {
            try receiveEverything(session, begin)
        } else {
            try receiveListing(session, begin)
        }
        try node.resetLog(to: try catalog.state())
        node.update {
            $0.isEmpty = false
            $0.needsSync = false
        }
        try settle()
        isDone = true
        let lacking = try catalog.state().isComplete ? "" : ", but for blocks that the primary has no more"
        logger.info("tree is at \(begin.position.short)\(lacking)")
        session.finished(begin.position)
    }

    /// The next part of the listing, and the bytes that it had on the wire.
    private func nextEntries(
        _ session: SyncSession, _ begin: SyncBegin
    ) throws -> (set: ChangeSet, needsBlocks: Bool, wireBytes: Int)? {
        switch session.parts.take() {
        case .entries(let entries):
            do throws(FormatError) {
                let (set, needsBlocks) = try changeSet(entries, begin)
                return (set, needsBlocks, entries.bytes.count)
            } catch {
                throw session.link.ended("\(error)")
            }
        case .end: return nil
        case .begin, nil: throw ApplyError.interrupted
        }
    }

    private func changeSet(
        _ entries: SyncEntries, _ begin: SyncBegin
    ) throws(FormatError) -> (set: ChangeSet, needsBlocks: Bool) {
        let body = try entries.raw()
        var changes: [Change] = []
        var needsBlocks = false
        try body.withBytes { raw throws(FormatError) in
            var reader = ChangeReader(raw, entryCount: entries.count)
            while let change = try reader.next() {
                if case .put(_, _, .file(let content)) = change, !needsBlocks {
                    needsBlocks = content.extents.contains { if case .fetch = $0 { true } else { false } }
                }
                changes.append(change)
            }
        }
        let set = ChangeSet(
            changes: changes, body: body, position: begin.position, treeDigest: nil, lastObject: begin.lastObject)
        return (set, needsBlocks)
    }

    private func receiveEverything(_ session: SyncSession, _ begin: SyncBegin) throws {
        // An earlier one that could not be read again, on a full disk. What is there is sent all the same, so it must go.
        if try applier.hasHiddenTree { try applier.discardHidden() }
        try waitForRoom(begin.contentBytes)
        try applier.hide()
        let blocks = LinkBlocks(link: session.link, isUnasked: true) { [node] bytes in
            node.consume(bytes)
            node.update { $0.syncBytes += bytes }
        }
        do {
            var sets: [ChangeSet] = []
            var bytes = 0
            while let (set, needsBlocks, wireBytes) = try nextEntries(session, begin) {
                sets.append(set)
                bytes += set.body.count
                // Blocks come right behind the entries that need them.
                if needsBlocks || bytes >= Self.hiddenBatchBytes {
                    try applier.applyHidden(sets, blocks: blocks)
                    sets.removeAll()
                    bytes = 0
                }
                node.consume(UInt64(wireBytes))
                node.update {
                    $0.syncFiles += UInt64(set.changes.count / 2)
                    $0.syncBytes += UInt64(set.body.count)
                }
            }
            if !sets.isEmpty { try applier.applyHidden(sets, blocks: blocks) }
        } catch {
            try indexHidden()
            node.update { $0.needsSync = true }
            throw error
        }
        // A replica belongs to nobody before it has what that one says.
        try require(begin, try catalog.state().treeDigest)
        try node.adoptHistory(of: session.sender)
        try applier.show(
            at: node.folder.root, position: begin.position, treeDigest: begin.treeDigest,
            lastObject: begin.lastObject)
    }

    private func require(_ begin: SyncBegin, _ digest: Digest) throws {
        guard digest == begin.treeDigest else {
            throw ApplyError.diverged(seq: begin.position.seq, expected: begin.treeDigest, actual: digest)
        }
    }

    private func receiveListing(_ session: SyncSession, _ begin: SyncBegin) throws {
        let path = node.folder.path + "/catalog.next.sqlite"
        for suffix in ["", "-wal", "-shm"] {
            try? node.folder.directory.unlink(Name(trusted: Array("catalog.next.sqlite\(suffix)".utf8)))
        }
        let next = try Catalog(path: path)
        defer {
            try? next.close()
            for suffix in ["", "-wal", "-shm"] {
                try? node.folder.directory.unlink(Name(trusted: Array("catalog.next.sqlite\(suffix)".utf8)))
            }
        }
        try next.write { transaction in
            let listing = Listing(transaction, at: begin.position)
            while let (set, _, wireBytes) = try nextEntries(session, begin) {
                for change in set.changes { try listing.add(change) }
                node.consume(UInt64(wireBytes))
                node.update { $0.syncFiles += UInt64(set.changes.count / 2) }
            }
            try require(begin, transaction.state.treeDigest)
        }
        let changes = try next.read { wanted in
            let isForeign = try catalog.state().position.seq == 0
            if try isForeign || catalog.read({ try $0.hasLocalObjects() }) {
                try catalog.write { own in
                    // Of a tree that was taken over, what is not replicated stays where it is. What an earlier sync brought
                    // is the primary's, and goes with its other names.
                    if isForeign, !applier.isHidden { try own.forgetExcluded(by: try wanted.filter()) }
                    try own.renumber(by: try own.match(wanted))
                }
            }
            let requests = try wanted.requests().map(Change.request)
            return requests + (try catalog.read { own in try TreeDiff(own: own, wanted: wanted).changes() })
        }
        logger.info("reconciling", metadata: ["changes": "\(changes.count)"])
        let set = ChangeSet(
            changes: changes, body: [], position: begin.position, treeDigest: begin.treeDigest,
            lastObject: begin.lastObject)
        let blocks = LinkBlocks(link: session.link, isUnasked: false) { [node] bytes in
            node.consume(bytes)
            node.update { $0.syncBytes += bytes }
        }
        try waitForRoom(set.fetchedBytes)
        // Before the tree is at a position of it: a position without its history could go on with another.
        try node.adoptHistory(of: session.sender)
        let (position, before) = (try catalog.state().position, node.snapshot.needsSync)
        // Once the catalog is at the end of it the log is not what the tree goes on from.
        node.update { $0.needsSync = true }
        do {
            try applier.apply([set], blocks: blocks, isReconcile: true)
        } catch {
            if try catalog.state().position == position { node.update { $0.needsSync = before } }
            // What was written went straight to its names, and the catalog does not know it.
            if applier.isHidden { try indexHidden() }
            throw error
        }
        if applier.isHidden {
            try applier.show(
                at: node.folder.root, position: begin.position, treeDigest: begin.treeDigest,
                lastObject: begin.lastObject)
        }
    }
}
