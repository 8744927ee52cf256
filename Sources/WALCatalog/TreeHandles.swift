import WALFormat
import WALSystem

/// Handles of the tree's directories by object number. A handle follows its directory when that is renamed, so one that
/// was right stays right until the object is dropped.
package final class TreeHandles {
    package let root: Directory
    /// Handles kept open at a time, a descriptor each.
    private let capacity: Int
    private var handles: [ObjectID: Directory] = [:]

    package init(root: Directory, capacity: Int = ProcessFacts.openDirectories) {
        self.root = root
        self.capacity = capacity
    }

    /// The directory where the catalog has it; nil when it is not in the catalog or another inode stands there now.
    package func directory(_ id: ObjectID, _ catalog: CatalogTransaction) throws -> Directory? {
        if id == .root { return root }
        if let known = handles[id] { return known }
        // Upwards to the first directory with a handle, then down again: a tree may be deeper than a stack.
        var missing: [(ObjectID, Name)] = []
        var current = id
        var directory = root
        while current != .root {
            if let known = handles[current] {
                directory = known
                break
            }
            guard let place = try catalog.places(of: current).first, missing.count < Limits.maxDepth else { return nil }
            missing.append((current, place.name))
            current = place.parent
        }
        for (object, name) in missing.reversed() {
            do throws(SystemError) {
                directory = try directory.openDirectory(name)
            } catch {
                if error.isNotFound || error.isSymlinkOrEscape { return nil }
                throw error
            }
            guard try isObject(object, directory, catalog) else { return nil }
            remember(object, directory)
        }
        return directory
    }

    private func isObject(_ id: ObjectID, _ directory: Directory, _ catalog: CatalogTransaction) throws -> Bool {
        guard let known = try catalog.identity(of: id) else { return false }
        return known == .unknown ? true : try directory.status().identity == known
    }

    package func remember(_ id: ObjectID, _ directory: Directory) {
        // Evicting all at once keeps no order and costs little: a walk soon has its own directories again.
        if handles.count >= capacity { handles.removeAll(keepingCapacity: true) }
        handles[id] = directory
    }

    package func forget(_ id: ObjectID) {
        handles[id] = nil
    }

    package func forgetAll() {
        handles.removeAll()
    }
}
