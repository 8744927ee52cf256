import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// Directories and what is listed in them.
extension Reconciler {
    /// Compares every directory's entries with the catalog. `pause` is called now and then.
    func scan(pause: () throws -> Void) throws {
        isScan = true
        special.removeAll()
        immutable.removeAll()
        overloaded.removeAll()
        watcher.forgetUnwatched()
        try directory(.root)
        unlisted.append(.root)
        try listUnlisted(pause)
    }

    func listUnlisted(_ pause: () throws -> Void) throws {
        var count = 0
        while let object = unlisted.popLast() {
            try progress.checkCancelled()
            try list(object)
            count += 1
            if count % 64 == 0 { try pause() }
        }
    }

    private func list(_ object: ObjectID) throws {
        guard let directory = try open(object) else { return }
        let entries: [DirectoryEntry]
        do {
            guard try object == .root || !isBoundary(directory.status()) else {
                try report(object, Self.boundaryText)
                return
            }
            // Watch first, then look: what comes after that raises an event.
            if try watcher.watch(object, directory) { try self.directory(object) }
            entries = try directory.entries().sorted { $0.name < $1.name }
        } catch let error as SystemError {
            return try leave(object, after: error)
        }
        try clearProblem(object)
        progress.namesSeen.add(UInt64(entries.count), ordering: .relaxed)
        let known = try catalog.children(of: object)
        let isFiltered = !filter.isEmpty
        let path = try pathForFilter(of: object) ?? []
        var next = 0
        for entry in entries {
            if object == .root, entry.name == Self.reservedName { continue }
            while next < known.count, known[next].name < entry.name {
                try removed(Place(parent: object, name: known[next].name))
                next += 1
            }
            if next < known.count, known[next].name == entry.name {
                let row = known[next]
                next += 1
                let isExcluded =
                    isFiltered && filter.excludes(row.name, in: path, isDirectory: row.kind == .directory)
                if !isExcluded, isUnchanged(row, directory) {
                    // One that was not reached before, because this one could not be read.
                    if row.kind == .directory, isScan || !watcher.isKnown(row.object) {
                        unlisted.append(row.object)
                    }
                    continue
                }
            } else if isFiltered, entry.type != DirectoryEntry.unknownType,
                filter.excludes(entry.name, in: path, isDirectory: entry.type == DirectoryEntry.directoryType)
            {
                continue
            }
            let place = Place(parent: object, name: entry.name)
            // There will be no second look before replicas take for deleted what is not found now.
            try name(Glance(place: place, content: true, since: since, isOverdue: beginsAnew))
            try emitIfFull()
        }
        while next < known.count {
            try removed(Place(parent: object, name: known[next].name))
            next += 1
        }
    }

    private func isUnchanged(_ row: ChildRow, _ directory: Directory) -> Bool {
        guard var status = try? directory.status(of: row.name), status.ctime.clampedNanoseconds == row.stamp,
            !row.metadata.attributes.mayBePart
        else { return false }
        setImmutable(status)
        // They do not change without the change time.
        status.attributes = row.metadata.attributes
        return status.kind == row.kind && status.identity == row.identity && status.metadata == row.metadata
            && (row.kind != .file || status.size == row.size)
    }

    /// The directory's own metadata.
    func directory(_ object: ObjectID) throws {
        guard let row = try catalog.object(object), row.kind == .directory else { return }
        guard let directory = try open(object) else {
            if let place = try catalog.places(of: object).first {
                unlocated.append(Glance(place: place, content: false, since: since, isOverdue: false))
            }
            return
        }
        var status: FileStatus
        do throws(SystemError) { status = try directory.status() } catch {
            return try leave(object, after: error)
        }
        setImmutable(status)
        if status.ctime.clampedNanoseconds == row.stamp, !row.metadata.attributes.mayBePart {
            status.attributes = row.metadata.attributes
        } else {
            do throws(SystemError) {
                try addAttributes(to: &status) { () throws(SystemError) in try directory.attributes() }
            } catch {
                status.attributes = row.metadata.attributes
                try lookAgain(at: object, after: error)
            }
        }
        if status.metadata != row.metadata { try update(row, status) }
    }

    func open(_ object: ObjectID) throws -> Directory? {
        do {
            return try handles.directory(object, catalog)
        } catch let error as SystemError {
            try leave(object, after: error)
            return nil
        }
    }

    func path(of object: ObjectID) throws -> String {
        PathText.joined(try catalog.path(of: object) ?? [])
    }

    func path(of place: Place) throws -> String {
        PathText.joined((try catalog.path(of: place.parent) ?? []) + [place.name])
    }
}
