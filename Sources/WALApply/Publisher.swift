import WALCatalog
import WALFormat
import WALSystem

/// Brings the tree to what the catalog says by renames, links and unlinks of what is staged. Every step looks first at
/// what stands there, by inode, so that publishing the same journal again after a crash only does what is left.
///
/// A name that a file has before and after the batch is never without one: what leaves it is linked elsewhere first, and
/// what comes to it is renamed over it.
struct Publisher {
    private let journal: Journal
    private let catalog: CatalogTransaction
    private let disk: DiskTree
    private let quarantine: Quarantine
    private let metadata: MetadataWriter
    private let written: WrittenBytes
    /// Called before each step that changes something.
    private let fault: (() throws -> Void)?
    private let before: [Place: Occupant]
    private var doomedDirectories: [(object: ObjectID, parent: Directory, place: Place, depth: Int)] = []
    private var opened: Set<ObjectID> = []
    /// Objects that are nowhere on disk, because somebody removed or edited them: to be healed.
    private(set) var drifted: Set<ObjectID> = []
    /// Files whose patch was damaged on the disk: they are where they should be, and as they were before it.
    private(set) var unpatched: Set<ObjectID> = []

    init(
        journal: Journal, catalog: CatalogTransaction, root: Directory, staging: Directory, quarantine: Quarantine,
        metadata: MetadataWriter, written: WrittenBytes, fault: (() throws -> Void)?
    ) {
        self.journal = journal
        self.catalog = catalog
        self.quarantine = quarantine
        self.metadata = metadata
        self.written = written
        self.fault = fault
        var before: [Place: Occupant] = [:]
        let oldPlaces = OldPlaces()
        for (object, identity) in journal.dropped { oldPlaces.identities[object] = identity }
        for entry in journal.touched {
            guard let occupant = entry.before else { continue }
            before[entry.place] = occupant
            oldPlaces.places[occupant.object, default: []].append(entry.place)
            oldPlaces.identities[occupant.object] = occupant.identity
        }
        self.before = before
        disk = DiskTree(root: root, staging: staging, catalog: catalog, oldPlaces: oldPlaces)
    }

    mutating func publish() throws {
        for entry in journal.touched { try vacate(entry) }
        try removeDirectories()
        for entry in journal.touched { try occupy(entry.place) }
        for (object, patch) in journal.patches { try apply(patch, to: object) }
        for object in journal.metadata { try setMetadata(object) }
        for object in journal.restamped { try stamp(object) }
    }

    private func status(_ directory: Directory, _ name: Name) throws -> FileStatus? {
        do throws(SystemError) {
            return try directory.status(of: name)
        } catch {
            if error.isNotFound { return nil }
            throw error
        }
    }

    /// The directory, with the right to change its names: root has that anyhow, and the mode is set again at the end.
    private mutating func directory(_ object: ObjectID) throws -> Directory? {
        guard let found = try disk.directory(object) else { return nil }
        if !metadata.isPrivileged, opened.insert(object).inserted {
            let mode = try found.status().mode
            if mode & 0o300 != 0o300 { try found.setMode(mode | 0o300) }
        }
        return found
    }

    /// A directory that gets another parent is written to, rename(2); its mode is set again at the end.
    private func loosen(_ kind: Kind, _ parent: Directory, _ name: Name) throws {
        if kind == .directory, !metadata.isPrivileged, let mode = try status(parent, name)?.mode, mode & 0o200 == 0 {
            try parent.setMode(name, mode | 0o200)
        }
    }

    /// False for what is not visible yet: it lacks blocks.
    private func isShown(_ object: ObjectID, _ kind: Kind) throws -> Bool {
        try kind != .file || !catalog.isPending(object)
    }

    // MARK: What leaves

    /// Takes away what stood at a name before, unless a rename over it will do that in one step.
    private mutating func vacate(_ entry: Fold.Touched) throws {
        let place = entry.place
        guard let old = entry.before, let directory = try directory(place.parent),
            let now = try status(directory, place.name)
        else { return }
        let next = try catalog.lookup(place).flatMap { try catalog.object($0) }
        if let next, next.identity == now.identity { return }
        guard now.identity == old.identity, !old.isEdited(now) else {
            try fault?()
            try quarantine.keep(directory, place.name, path: path(of: place))
            if now.identity == old.identity { drifted.insert(old.object) }
            return
        }
        if let next, next.id == old.object { return }
        // By a rename over it, which neither side of may be a directory.
        let isReplaced =
            try old.kind != .directory && next.map { try $0.kind != .directory && isShown($0.id, $0.kind) } ?? false
        if try catalog.identity(of: old.object) != nil {
            try move(old, from: directory, place, isReplaced: isReplaced)
        } else if old.kind == .directory {
            doomedDirectories.append((old.object, directory, place, depth(of: place)))
        } else if next == nil || next!.kind == .directory {
            // Under the name of a file that lacks blocks, what was there is shown on.
            try fault?()
            try directory.unlink(place.name)
        }
    }

    /// An object that lives on under another name: goes there at once where nothing is in the way, else to staging.
    private mutating func move(
        _ old: Occupant, from directory: Directory, _ place: Place, isReplaced: Bool
    ) throws {
        if old.kind != .directory, try catalog.identity(of: old.object) != old.identity || isElsewhere(old, than: place)
        {
            // Another name keeps it, or a new version is staged: this name only has to go.
            if !isReplaced {
                try fault?()
                try directory.unlink(place.name)
            }
            return
        }
        try loosen(old.kind, directory, place.name)
        for target in try catalog.places(of: old.object) where target != place {
            guard let parent = try self.directory(target.parent) else { continue }
            let occupant = try status(parent, target.name)
            if let occupant, before[target]?.isEdited(occupant) == false,
                try catalog.lookup(place).flatMap({ try catalog.identity(of: $0) }) == occupant.identity
            {
                try fault?()
                if try rename(directory, place.name, parent, target.name, exchange: true) { return }
            } else if try occupant == nil || isDying(occupant!, at: target, for: old.kind) {
                try fault?()
                if isReplaced {
                    try link(old.object, directory, place.name, parent, target.name)
                    return
                }
                if try rename(directory, place.name, parent, target.name) { return }
            }
        }
        try fault?()
        let parked = DiskTree.name(.waiting, old.object)
        if isReplaced {
            try link(old.object, directory, place.name, disk.staging, parked)
        } else {
            try directory.rename(place.name, to: disk.staging, parked)
        }
    }

    /// False when that would put a directory below itself: the one that is in its way has yet to move.
    private func rename(
        _ from: Directory, _ name: Name, _ to: Directory, _ newName: Name, exchange: Bool = false
    ) throws(SystemError) -> Bool {
        do {
            try from.rename(name, to: to, newName, exchange: exchange)
            return true
        } catch {
            guard error.code == Errno.invalid || error.code == Errno.notEmpty else { throw error }
            return false
        }
    }

    /// One more name, in place of what has it.
    private func link(
        _ object: ObjectID, _ from: Directory, _ name: Name, _ to: Directory, _ newName: Name
    ) throws(SystemError) {
        let link = DiskTree.name(.link, object)
        try disk.staging.removeTree(link)
        try from.link(name, to: disk.staging, link)
        try disk.staging.rename(link, to: to, newName)
    }

    /// Also in staging: a rename of one name of an inode to another one of it does nothing at all, rename(2).
    private func isElsewhere(_ old: Occupant, than place: Place) throws -> Bool {
        if try status(disk.staging, DiskTree.name(.waiting, old.object))?.identity == old.identity { return true }
        for limit in [DiskTree.fewPlaces, .max] {
            for other in try catalog.places(of: old.object, limit: limit) where other != place {
                guard let parent = try disk.directory(other.parent) else { continue }
                if try status(parent, other.name)?.identity == old.identity { return true }
            }
        }
        return false
    }

    /// What stands at a name is what the catalog had there, unedited, and nobody needs it any more.
    private func isDying(_ now: FileStatus, at place: Place, for kind: Kind) throws -> Bool {
        guard kind != .directory, let old = before[place], old.kind != .directory, now.identity == old.identity,
            !old.isEdited(now)
        else { return false }
        return try catalog.identity(of: old.object) == nil
    }

    /// Deepest first, so that a directory is empty when its turn comes; what still keeps it from being so is not ours.
    private mutating func removeDirectories() throws {
        for doomed in doomedDirectories.sorted(by: { $0.depth > $1.depth }) {
            try fault?()
            do throws(SystemError) {
                try doomed.parent.removeDirectory(doomed.place.name)
            } catch {
                if error.isNotFound { continue }
                guard error.isExisting else { throw error }
                try quarantine.keep(doomed.parent, doomed.place.name, path: path(of: doomed.place))
            }
        }
        doomedDirectories.removeAll()
    }

    private func depth(of place: Place) -> Int {
        var depth = 0
        var parent = place.parent
        while parent != .root, depth < Limits.maxDepth {
            depth += 1
            if let old = disk.oldPlace(of: parent) {
                parent = old.parent
            } else if let now = try? catalog.places(of: parent).first {
                parent = now.parent
            } else {
                break
            }
        }
        return depth
    }

    // MARK: What comes

    /// Puts the object of a name there: from staging, by a link to another name of it, or not at all while it is pending.
    private mutating func occupy(_ place: Place) throws {
        guard let object = try catalog.lookup(place), let row = try catalog.object(object),
            try isShown(object, row.kind)
        else { return }
        guard let directory = try directory(place.parent) else {
            drifted.insert(place.parent)
            return
        }
        let now = try status(directory, place.name)
        if let now, now.identity == row.identity { return }
        // Before anything leaves the name: is there something to come?
        guard let found = try disk.locate(object, identity: row.identity) else {
            drifted.insert(object)
            return
        }
        if let now, try !isReplaceable(now, at: place, by: row.kind) {
            try fault?()
            try quarantine.keep(directory, place.name, path: path(of: place))
        }
        try fault?()
        if found.directory === disk.staging {
            try loosen(row.kind, found.directory, found.name)
            try found.directory.rename(found.name, to: directory, place.name)
        } else if row.kind == .directory {
            try loosen(row.kind, found.directory, found.name)
            try found.directory.rename(found.name, to: directory, place.name)
        } else {
            try link(object, found.directory, found.name, directory, place.name)
        }
    }

    private func isReplaceable(_ now: FileStatus, at place: Place, by kind: Kind) throws -> Bool {
        guard let old = before[place], now.identity == old.identity, !old.isEdited(now) else { return false }
        return kind != .directory && old.kind != .directory
    }

    private mutating func apply(_ patch: Name, to object: ObjectID) throws {
        guard let identity = try catalog.identity(of: object), try status(disk.staging, patch) != nil else { return }
        guard let place = try disk.locate(object, identity: identity) else {
            drifted.insert(object)
            return
        }
        let bytes = try readWholeFile(in: disk.staging, patch, limit: Int(Limits.maxSegmentRawBytes) * 2)
        guard let decoded = try? Patch(decoding: bytes) else {
            unpatched.insert(object)
            return
        }
        try fault?()
        let file = try place.directory.openOwnFileForWriting(place.name)
        try decoded.apply(bytes, in: disk.staging, to: file, written)
        try file.close()
        try setMetadata(object)
    }

    // MARK: Metadata

    private mutating func setMetadata(_ object: ObjectID) throws {
        guard let row = try catalog.object(object) else { return }
        if row.kind == .directory {
            try stamp(object)
            return
        }
        guard let place = try disk.locate(object, identity: row.identity) else {
            if try isShown(object, row.kind) { drifted.insert(object) }
            return
        }
        try fault?()
        try metadata.set(row.metadata, of: place.name, row.kind, in: place.directory)
    }

    /// Owner, mode and times of a directory, after everything else that happens in it.
    private mutating func stamp(_ object: ObjectID) throws {
        guard let row = try catalog.object(object), row.kind == .directory else { return }
        guard let directory = try disk.directory(object) else {
            drifted.insert(object)
            return
        }
        try fault?()
        try metadata.set(row.metadata, of: directory)
    }

    /// For messages. What is gone from the catalog is named as it was.
    private func path(of place: Place) -> String {
        var path = [place.name]
        var parent = place.parent
        while parent != .root, path.count < Limits.maxDepth,
            let above = (try? catalog.places(of: parent).first) ?? disk.oldPlace(of: parent)
        {
            path.append(above.name)
            parent = above.parent
        }
        return PathText.joined(path.reversed())
    }
}
