import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// What a name means now, and what it meant before.
extension Reconciler {
    /// False when it could not be seen in one piece: it is to be looked at again.
    func look(_ glance: Glance) throws -> Bool {
        let place = glance.place
        // A directory that was dropped took its names with it.
        guard try catalog.identity(of: place.parent) != nil else { return true }
        guard let directory = try open(place.parent) else {
            // Moved: then its new name is looked at soon, and this one is found through it. Unreadable: reported.
            if try !isDenied(place.parent) { unlocated.append(glance) }
            return true
        }
        let known = try catalog.lookup(place)
        if glance.content, let known { written.insert(known) }
        var status: FileStatus
        do throws(SystemError) {
            status = try self.status(of: place.name, in: directory)
        } catch {
            guard error.isNotFound else { return try !isAgain(glance, after: error, Unread()) }
            setSpecial(place, false)
            try removed(place)
            return true
        }
        if try takeExcluded(glance, status) { return true }
        guard let kind = status.kind, settings.capturesDevices || !kind.isDevice else {
            setSpecial(place, true)
            try removed(place)
            return true
        }
        setSpecial(place, false)
        if kind == .directory, status.identity == stateIdentity { return true }
        setImmutable(status)
        // Something is mounted here. What it covers is not gone, so it is kept as it was known.
        guard !isBoundary(status) else {
            try report(place, Self.boundaryText)
            return true
        }
        let here = try known.flatMap { try catalog.object($0) }
        if let here, here.kind == kind, here.identity == status.identity {
            if let isDone = try addAttributes(to: &status, glance, directory, known: here) { return isDone }
            return try same(here, glance, status, directory)
        }
        if let known = try catalog.find(status.identity), let row = try catalog.object(known), row.kind == kind {
            if let isDone = try addAttributes(to: &status, glance, directory, known: row) { return isDone }
            return try moved(row, glance, status, directory)
        }
        let isUnknown = here?.kind == kind && here?.identity == .unknown
        if let isDone = try addAttributes(to: &status, glance, directory, known: isUnknown ? here : nil) {
            return isDone
        }
        if let here, isUnknown { return try same(here, glance, status, directory) }
        return try appeared(glance, kind, status, directory, before: here)
    }

    /// Where another file system begins, or, mounted a second time, another part of this one.
    func isBoundary(_ status: FileStatus) -> Bool {
        status.dev != rootStatus.dev || status.isMountRoot
    }

    static let boundaryText = "is a mount point: what is there is left out, what it covers is kept"

    /// Once more where it fails: it may be the new name of something that would be taken for gone.
    private func status(of name: Name, in directory: Directory) throws(SystemError) -> FileStatus {
        do throws(SystemError) { return try directory.status(of: name) } catch {
            guard !error.isNotFound else { throw error }
            return try directory.status(of: name)
        }
    }

    /// Extended attributes, which change only with the change time. What cannot be read stays as it was known, and unless
    /// nobody may read it, it is looked at again.
    ///
    /// - Returns: nil; without them, what ``look(_:)`` is to return. Nobody is there any more, which the next event tells, or
    ///   it is new, and somebody might get at it on a replica whom its access control list keeps out.
    func addAttributes(
        to status: inout FileStatus, _ glance: Glance, _ directory: Directory, known: ObjectRow?
    ) throws -> Bool? {
        if let known, known.stamp == status.ctime.clampedNanoseconds, known.identity == status.identity,
            !known.metadata.attributes.mayBePart
        {
            status.attributes = known.metadata.attributes
            return nil
        }
        do throws(SystemError) {
            try addAttributes(to: &status) { () throws(SystemError) in
                try directory.attributes(of: glance.place.name)
            }
        } catch {
            if error.isNotFound { return true }
            let isAgain = try isAgain(glance, after: error, Unread(content: known == nil))
            guard let known else { return error.isDenied ? nil : !isAgain }
            status.attributes = known.metadata.attributes
            if isAgain { retries.append(glance) }
        }
        return nil
    }

    func addAttributes(
        to status: inout FileStatus, _ read: () throws(SystemError) -> FoundAttributes
    ) throws(SystemError) {
        do throws(SystemError) {
            let found = try read()
            status.attributes = found.attributes
            setOverloaded(status.ino, found.isTooLarge)
            if !unsure.isEmpty { unsure.remove(status.ino) }
        } catch {
            if !error.isDenied { unsure.insert(status.ino) }
            throw error
        }
    }

    /// All of it was read.
    func settle(_ place: Place, _ status: FileStatus) {
        if !unsure.contains(status.ino) { clearProblem(place) }
    }

    /// Each is counted once, however often it is looked at.
    func setSpecial(_ place: Place, _ isSpecial: Bool) {
        if isSpecial {
            special.insert(place)
        } else if special.isEmpty || special.remove(place) == nil {
            return
        }
        progress.skippedSpecial.store(UInt64(special.count), ordering: .relaxed)
    }

    func setImmutable(_ status: FileStatus) {
        if status.isImmutable {
            immutable.insert(status.ino)
        } else if immutable.isEmpty || immutable.remove(status.ino) == nil {
            return
        }
        progress.immutable.store(UInt64(immutable.count), ordering: .relaxed)
    }

    /// Their attributes are read again by each scan, see ``Attributes/mayBePart``: else nothing would tell of them after a restart.
    func setOverloaded(_ ino: UInt64, _ isOverloaded: Bool) {
        if isOverloaded {
            overloaded.insert(ino)
        } else if overloaded.isEmpty || overloaded.remove(ino) == nil {
            return
        }
        progress.overloaded.store(UInt64(overloaded.count), ordering: .relaxed)
    }

    /// What is counted goes with the object, and with the directory that it was in.
    func forget(_ object: ObjectID, _ identity: FileIdentity) throws {
        if immutable.remove(identity.ino) != nil {
            progress.immutable.store(UInt64(immutable.count), ordering: .relaxed)
        }
        if overloaded.remove(identity.ino) != nil {
            progress.overloaded.store(UInt64(overloaded.count), ordering: .relaxed)
        }
        guard try !special.isEmpty && catalog.occupant(object)?.kind == .directory else { return }
        for place in special where place.parent == object { setSpecial(place, false) }
    }

    private func isDenied(_ object: ObjectID) throws -> Bool {
        do {
            _ = try handles.directory(object, catalog)
            return false
        } catch is SystemError {
            return true
        }
    }

    func removed(_ place: Place) throws {
        clearProblem(place)
        guard let object = try catalog.lookup(place) else { return }
        try catalog.unbind(place)
        nameCounts[object]? -= 1
        changes.unbind(parent: place.parent, place.name)
        try lostName(object, place)
    }

    func bind(_ place: Place, _ object: ObjectID) throws {
        let old = try catalog.lookup(place)
        try catalog.bind(place, to: object)
        if let old { nameCounts[old]? -= 1 }
        nameCounts[object]? += 1
        changes.bind(parent: place.parent, place.name, object)
        if let old, old != object { try lostName(old, place) }
    }

    private func lostName(_ object: ObjectID, _ place: Place) throws {
        orphans[object] = place
        // It may have been written to by that name before, and then no event speaks of the others. One of them tells.
        if written.contains(object) { followUps += try catalog.places(of: object, limit: 1) }
    }

    /// As many names are looked at again for each rename of one of them.
    private static let fewNames = 64

    /// A known object under a name that is new to it: moved here, or linked.
    private func moved(
        _ row: ObjectRow, _ glance: Glance, _ status: FileStatus, _ directory: Directory
    ) throws -> Bool {
        if row.kind == .directory {
            for other in try catalog.places(of: row.id) where other != glance.place {
                // A directory has one name, so it is not there any more, whether or not that can be seen now.
                try removed(other)
                followUps.append(other)
            }
            movedDirectories.insert(row.id)
            moved(directory: row.id)
            if let opened = try? directory.openDirectory(glance.place.name),
                (try? opened.status())?.identity == row.identity
            {
                handles.remember(row.id, opened)
            }
        } else {
            // With one more than it has links, a name that is known is gone: this is a rename, and both its halves go
            // into one segment. Of an object with thousands of names, a new one must not lead to a look at all of them.
            let count = try nameCounts[row.id] ?? catalog.nameCount(of: row.id)
            nameCounts[row.id] = count
            // Of a large group once a batch: what is renamed after that look has an event of its own.
            if count >= Int(status.linkCount), count <= Self.fewNames || followed.insert(row.id).inserted {
                followUps += try catalog.places(of: row.id).filter { $0 != glance.place }
            }
        }
        try bind(glance.place, row.id)
        return try same(row, glance, status, directory)
    }

    /// A known object under a known name: whether it changed.
    private func same(
        _ row: ObjectRow, _ glance: Glance, _ status: FileStatus, _ directory: Directory
    ) throws -> Bool {
        switch row.kind {
        case .directory:
            try updateIfChanged(row, status)
            // One that nobody watches may have changed inside: it could not be read before.
            if isScan || !watcher.isWatching(row.id) {
                unlisted.append(row.id)
            } else {
                settle(glance.place, status)
            }
            return true
        case .symlink:
            let target: [UInt8]
            do throws(SystemError) { target = try directory.readLink(glance.place.name) } catch {
                return try !error.isNotFound && !isAgain(glance, after: error, Unread())
            }
            if target != row.target {
                try put(.symlink(id: row.id, metadata: status.metadata, target: target), status)
                changes.symlink(row.id, status.metadata, target: target)
            } else {
                try updateIfChanged(row, status)
            }
            settle(glance.place, status)
            return true
        case .fifo:
            try updateIfChanged(row, status)
            settle(glance.place, status)
            return true
        case .characterDevice, .blockDevice:
            if row.device != status.device {
                try put(.node(row.kind, id: row.id, metadata: status.metadata, status.device), status)
                changes.device(row.id, row.kind, status.metadata, status.device)
            } else {
                try updateIfChanged(row, status)
            }
            settle(glance.place, status)
            return true
        case .file:
            // A change time alone says that something changed; only reading tells whether the content did. Times can be
            // set back, so equal times prove nothing where there was a write.
            let isSame =
                row.size == status.size && row.metadata.mtime == status.mtime && row.identity == status.identity
            if isSame, row.stamp == status.ctime.clampedNanoseconds {
                settle(glance.place, status)
                return true
            }
            let isTrusted = isScan && row.stamp == ObjectRow.neverSeen
            if isSame, row.stamp != ObjectRow.toBeRead, try isTrusted || !mayBeWritten(row, glance) {
                try update(row, status)
                return true
            }
            if row.size >= CatalogTransaction.minIndexedBytes, !takesDeferred {
                deferred.append(glance)
                return true
            }
            return try file(glance, status, directory, row.id, old: row)
        }
    }

    private func mayBeWritten(_ row: ObjectRow, _ glance: Glance) throws -> Bool {
        if glance.content || written.contains(row.id) { return true }
        let marks = contentMarks()
        if unwritten[row.id] == marks { return false }
        if try catalog.places(of: row.id).contains(where: { isContentDirty($0) }) { return true }
        unwritten[row.id] = marks
        return false
    }

    private func appeared(
        _ glance: Glance, _ kind: Kind, _ status: FileStatus, _ directory: Directory, before: ObjectRow?
    ) throws -> Bool {
        let place = glance.place
        let object = max(catalog.state.lastObject, .root) + 1
        switch kind {
        case .file:
            catalog.state.lastObject = object
            guard try file(glance, status, directory, object, before: before) else {
                catalog.state.lastObject = object - 1
                return false
            }
        case .symlink:
            let target: [UInt8]
            do throws(SystemError) { target = try directory.readLink(place.name) } catch {
                return try !error.isNotFound && !isAgain(glance, after: error, Unread())
            }
            catalog.state.lastObject = object
            try put(.symlink(id: object, metadata: status.metadata, target: target), status)
            changes.symlink(object, status.metadata, target: target)
        case .directory:
            catalog.state.lastObject = object
            try put(ObjectRow(id: object, kind: .directory, metadata: status.metadata), status)
            changes.directory(object, status.metadata)
        case .fifo:
            catalog.state.lastObject = object
            try put(.node(.fifo, id: object, metadata: status.metadata, nil), status)
            changes.fifo(object, status.metadata)
        case .characterDevice, .blockDevice:
            catalog.state.lastObject = object
            try put(.node(kind, id: object, metadata: status.metadata, status.device), status)
            changes.device(object, kind, status.metadata, status.device)
        }
        // A file that could not be opened is not there for us, and was reported.
        guard try catalog.identity(of: object) != nil else { return true }
        try bind(place, object)
        if kind == .directory {
            if let opened = try? directory.openDirectory(place.name),
                (try? opened.status())?.identity == status.identity
            {
                handles.remember(object, opened)
            }
            unlisted.append(object)
        }
        return true
    }

    // MARK: Objects

    private func put(_ row: ObjectRow, _ status: FileStatus) throws {
        var row = row
        row.identity = status.identity
        let stamp = stamp(of: status)
        // Nobody has read the file now.
        if row.stamp != ObjectRow.toBeScanned || stamp == ObjectRow.toBeRead { row.stamp = stamp }
        try catalog.put(row)
    }

    private func updateIfChanged(_ row: ObjectRow, _ status: FileStatus) throws {
        if row.metadata != status.metadata || row.identity != status.identity
            || row.stamp != status.ctime.clampedNanoseconds
        {
            try update(row, status)
        }
    }

    func update(_ row: ObjectRow, _ status: FileStatus) throws {
        var new = row
        new.metadata = status.metadata
        try put(new, status)
        if status.metadata != row.metadata { changes.metadata(row.id, status.metadata) }
    }

    /// The change time, unless a write that follows at once could leave it as it is: the clock of inodes moves in steps.
    func stamp(of status: FileStatus) -> Int64 {
        // The next look reads the attributes again, and no content for that.
        if unsure.contains(status.ino) { return status.kind == .file ? ObjectRow.toBeScanned : ObjectRow.neverSeen }
        // Ticks are at most 10 ms; file systems without nanoseconds keep 1 or 2 s.
        let step: Int64 = status.ctime.nanoseconds == 0 ? 2_000_000_000 : 20_000_000
        let changed = status.ctime.clampedNanoseconds
        let (age, overflow) = Clock.realtimeNanoseconds().subtractingReportingOverflow(changed)
        return !overflow && abs(age) < step ? ObjectRow.toBeRead : changed
    }
}
