import WALCatalog
import WALFormat
import WALSystem

/// What the filter excludes is as if it were not there: looked at from the outside only, to know what it is.
extension Reconciler {
    /// The path of a directory as the filter sees it; nil for one that is nowhere now, because the other half of its move
    /// is still to come.
    func pathForFilter(of object: ObjectID) throws -> [UInt8]? {
        guard filter.looksAtPaths, object != .root else { return [] }
        if let filterPath, filterPath.directory == object { return filterPath.path }
        guard let path = try catalog.path(of: object) else { return nil }
        let bytes = Filter.prefix(of: path)
        filterPath = (object, bytes)
        return bytes
    }

    /// True when the name is excluded, and is dealt with.
    func takeExcluded(_ glance: Glance, _ status: FileStatus) throws -> Bool {
        guard !filter.isEmpty else { return false }
        guard let path = try pathForFilter(of: glance.place.parent) else {
            needsScan = true
            return true
        }
        guard filter.excludes(glance.place.name, in: path, isDirectory: status.kind == .directory) else { return false }
        setSpecial(glance.place, false)
        try removed(glance.place)
        // A name of something that has an included name, too: no event speaks of that one.
        if status.kind != .directory, status.linkCount > 1, let object = try catalog.find(status.identity) {
            if glance.content { written.insert(object) }
            followUps += try catalog.places(of: object)
        }
        return true
    }

    /// A directory has another path, and so has all below it.
    func moved(directory: ObjectID) {
        filterPath = nil
        if filter.looksAtPaths, !isScan { needsScan = true }
    }
}
