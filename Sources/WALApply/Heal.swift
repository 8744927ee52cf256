import WALCatalog
import WALFormat
import WALSystem

/// A place of a replica's tree that is not as it was applied.
package struct DriftedPlace: Sendable {
    package var place: Place
    /// The catalog's object there; nil for a name that the catalog does not have.
    package var object: ObjectID?
    /// Nothing is there any more.
    package var isMissing: Bool
    /// Only mode, owner or time differ, so setting them back loses nothing.
    package var isMetadataOnly: Bool

    package init(place: Place, object: ObjectID?, isMissing: Bool, isMetadataOnly: Bool) {
        self.place = place
        self.object = object
        self.isMissing = isMissing
        self.isMetadataOnly = isMetadataOnly
    }
}

extension Applier {
    /// Sets aside what somebody put into the replica and takes out of the catalog what is not there any more, so that a
    /// reconcile brings it back. True when one is needed.
    package func heal(_ drifted: [DriftedPlace]) throws -> Bool {
        try catalog.write(durably: true) { transaction in
            let disk = DiskTree(root: root, staging: staging, catalog: transaction)
            var needsSync = false
            for drift in drifted {
                if drift.isMetadataOnly {
                    try restore(drift, disk, transaction)
                    continue
                }
                let path = PathText.joined((try transaction.path(of: drift.place.parent) ?? []) + [drift.place.name])
                if !drift.isMissing, let directory = try disk.directory(drift.place.parent) {
                    try quarantine.keep(directory, drift.place.name, path: path)
                }
                if let object = drift.object {
                    needsSync = true
                    try transaction.unbind(drift.place)
                    try transaction.dropUnnamed(object)
                }
                // The directory's time has just changed.
                if let directory = try disk.directory(drift.place.parent),
                    let row = try transaction.object(drift.place.parent)
                {
                    try metadata.set(row.metadata, of: directory)
                }
            }
            if needsSync {
                transaction.state.isComplete = false
                transaction.state.mustReconcile = true
            }
            return needsSync
        }
    }

    private func restore(_ drift: DriftedPlace, _ disk: DiskTree, _ transaction: CatalogTransaction) throws {
        guard let object = drift.object, let row = try transaction.object(object) else { return }
        if row.kind == .directory {
            if let directory = try disk.directory(object) {
                try metadata.set(row.metadata, of: directory)
            }
            return
        }
        guard let directory = try disk.directory(drift.place.parent) else { return }
        try metadata.set(row.metadata, of: drift.place.name, row.kind, in: directory)
    }
}
