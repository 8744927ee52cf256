import WALCatalog
import WALFormat
import WALSystem

/// Objects without a name: whether so many may go, and how they do.
extension Reconciler {
    func hasOrphans() throws -> Bool {
        for object in orphans.keys where try object != .root && !catalog.hasName(object) { return true }
        return false
    }

    /// How many objects would go with the names that are lost now, where that are more than is believed.
    func excessDeletions() throws -> UInt64? {
        guard !isBaseline, !acceptsDeletions, !orphans.isEmpty,
            let allowed = deletions.allowance(objects: objectsBefore, now: Clock.monotonicNanoseconds())
        else { return nil }
        let gone = try lostObjects()
        return gone > allowed ? gone : nil
    }

    /// A tree that was put in the place of another does not make it less gone.
    private var objectsBefore: UInt64 { min(catalog.state.objectCount, objectsAtBegin) }

    /// Objects that are gone with their names, those below them included. What has something else in its place was
    /// replaced, as editors do and whoever restores a tree.
    private func lostObjects() throws -> UInt64 {
        var gone: UInt64 = 0
        var waiting: [ObjectID] = []
        for (object, place) in orphans where try !catalog.hasName(object) {
            if try catalog.lookup(place) == nil { gone += 1 }
            waiting.append(object)
        }
        while let object = waiting.popLast() {
            for child in try catalog.children(of: object) {
                gone += 1
                if child.kind == .directory { waiting.append(child.object) }
            }
        }
        return gone
    }

    /// A disk that was emptied or not mounted looks like a tree that was deleted; that is not believed unasked.
    private func checkDeletions() throws {
        if acceptsDeletions { deletions.accept() }
        guard let gone = try excessDeletions() else { return }
        let objects = objectsBefore
        let before = deletions.doubt(objects: objects)
        throw CaptureError.tooManyDeletions(gone: gone + (before - min(before, objects)), of: before, kept: gone)
    }

    func dropOrphans() throws {
        try checkDeletions()
        var waiting = Array(orphans.keys)
        orphans.removeAll()
        while let object = waiting.popLast() {
            guard object != .root, try !catalog.hasName(object), let identity = try catalog.identity(of: object) else {
                continue
            }
            try forget(object, identity)
            for child in try catalog.children(of: object) {
                let place = Place(parent: object, name: child.name)
                clearProblem(place)
                try catalog.unbind(place)
                nameCounts[child.object]? -= 1
                changes.unbind(parent: object, child.name)
                waiting.append(child.object)
            }
            try catalog.drop(object)
            changes.drop(object)
            handles.forget(object)
            watcher.unwatch(object)
            try emitIfFull()
        }
    }
}
