import WALCatalog
import WALFormat

/// Brings a catalog forward over segments that are already in its tree: a primary whose catalog fell behind its log.
package enum Replay {
    /// Inodes of what is new stay unknown; the next scan finds them.
    package static func apply(_ set: ChangeSet, to catalog: CatalogTransaction) throws {
        var fold = try Fold(catalog)
        for change in set.changes {
            try fold.apply(change, set: 0, body: set.body, seq: set.position.seq) { _, _ in }
        }
        // When the content was captured is not in the log. It may have been written to since, and have its times set back.
        for change in set.changes {
            guard case .put(let object, _, .file) = change, let identity = try catalog.identity(of: object) else {
                continue
            }
            try catalog.setLocal(object, identity: identity, stamp: ObjectRow.toBeRead)
        }
        try fold.end(at: set.position)
        if let expected = set.treeDigest, catalog.state.treeDigest != expected {
            throw ApplyError.diverged(
                seq: set.position.seq, expected: expected, actual: catalog.state.treeDigest)
        }
        catalog.state.position = set.position
        catalog.state.lastObject = set.lastObject
        catalog.state.isComplete = true
    }
}
