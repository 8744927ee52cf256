import WALCatalog
import WALFormat
import WALSystem

/// What somebody else has done to what the batch touches: it is never taken for the replica's own, nor silently replaced.
extension Stager {
    /// Metadata of a file that somebody edited would hide the edit.
    func checkMetadata(_ fold: inout Fold) throws {
        for object in fold.metadata {
            guard let old = try fold.old(object), let place = try disk.locate(object, identity: old.identity) else {
                continue
            }
            let now = try place.directory.status(of: place.name)
            if Occupant(old).isEdited(now) {
                drifted.insert(object)
                fold.metadata.remove(object)
            } else if isRestamped(old, now) {
                restamped.insert(object)
            }
        }
    }

    /// What stands at the names that the batch changes: mode and owner are set again where somebody has changed them.
    func checkTouched(_ fold: inout Fold) throws {
        for entry in fold.touched.values {
            guard let before = entry.before, !restamped.contains(before.object),
                let old = try fold.old(before.object), old.identity == before.identity,
                let directory = try disk.directory(entry.place.parent)
            else { continue }
            let now: FileStatus
            do throws(SystemError) {
                now = try directory.status(of: entry.place.name)
            } catch {
                if error.isNotFound { continue }
                throw error
            }
            guard now.identity == old.identity, isRestamped(old, now) else { continue }
            restamped.insert(before.object)
            if try fold.catalog.identity(of: before.object) == old.identity { fold.metadata.insert(before.object) }
        }
    }

    /// Directories whose entries change, the root among them.
    func checkParents(_ fold: Fold) throws {
        for object in fold.restamped where !fold.newDirectories.contains(object) && !restamped.contains(object) {
            guard let old = try fold.old(object), let directory = try disk.directory(object) else { continue }
            let now = try directory.status()
            if object == .root || now.identity == old.identity, isRestamped(old, now) { restamped.insert(object) }
        }
    }

    private func isRestamped(_ old: ObjectRow, _ now: FileStatus) -> Bool {
        let least = metadata.isPrivileged ? 0 : old.kind.ownersLeastMode
        return old.kind != .symlink && now.mode != old.metadata.mode | least
            || metadata.isPrivileged && (now.uid != old.metadata.uid || now.gid != old.metadata.gid)
    }
}
