import WALCatalog
import WALFormat
import WALSystem

/// Brings the tree to what the catalog says by renames, links and unlinks of what is staged. Every step looks first at
/// what stands there, by inode, so that publishing the same journal again after a crash only does what is left.
struct Publisher {
    private let journal: Journal
    private let catalog: CatalogTransaction
    private let disk: DiskTree
    private let quarantine: Quarantine
    private let setsOwner: Bool
    private let before: [Place: Fold.Occupant]
    private var doomedDirectories: [(object: ObjectID, parent: Directory, name: Name, depth: Int)] = []

    init(
        journal: Journal, catalog: CatalogTransaction, root: Directory, staging: Directory, quarantine: Quarantine,
        setsOwner: Bool
    ) {
        self.journal = journal
        self.catalog = catalog
        self.quarantine = quarantine
        self.setsOwner = setsOwner
        var before: [Place: Fold.Occupant] = [:]
        var oldPlaces: [ObjectID: [Place]] = [:]
        var identities: [ObjectID: FileIdentity] = [:]
        for entry in journal.touched {
            guard let occupant = entry.before else { continue }
            before[entry.place] = occupant
            oldPlaces[occupant.object, default: []].append(entry.place)
            identities[occupant.object] = occupant.identity
        }
        self.before = before
        disk = DiskTree(
            root: root, staging: staging, catalog: catalog, oldPlaces: oldPlaces, oldIdentities: identities)
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

    // MARK: What leaves

    /// Takes away what stood at a name before, unless a rename over it will do that in one step.
    private mutating func vacate(_ entry: Fold.Touched) throws {
        guard let old = entry.before, let directory = try disk.directory(entry.place.parent),
            let now = try status(directory, entry.place.name)
        else { return }
        let next = try catalog.lookup(entry.place)
        if let next, try catalog.identity(of: next) == now.identity { return }
        guard now.identity == old.identity, !isEdited(now, old) else {
            try quarantine.keep(directory, entry.place.name, path: path(of: entry.place))
            return
        }
        if next == old.object { return }
        let nextKind = try next.flatMap { try catalog.object($0)?.kind }
        if try catalog.identity(of: old.object) == nil {
            if old.kind == .directory {
                doomedDirectories.append((old.object, directory, entry.place.name, depth(of: entry.place)))
            } else if next == nil || nextKind == .directory {
                try directory.unlink(entry.place.name)
            }
        } else {
            try move(old, from: directory, entry.place, isReplaced: next != nil && nextKind != .directory)
        }
    }

    /// An object that lives on under another name: goes there at once where nothing is in the way, else to staging.
    private func move(
        _ old: Fold.Occupant, from directory: Directory, _ place: Place, isReplaced: Bool
    ) throws {
        let current = try catalog.identity(of: old.object)
        let isSuperseded = current != old.identity
        if old.kind != .directory, try isSuperseded || isElsewhere(old, than: place) {
            // Another name keeps it, or a new version is staged: this name only has to go.
            if !isReplaced { try directory.unlink(place.name) }
            return
        }
        for target in try catalog.places(of: old.object) where target != place {
            guard let parent = try disk.directory(target.parent) else { continue }
            let occupant = try status(parent, target.name)
            guard try occupant == nil || isDying(occupant!, at: target, for: old.kind) else { continue }
            try directory.rename(place.name, to: parent, target.name)
            return
        }
        try directory.rename(place.name, to: disk.staging, DiskTree.stagedName(old.object))
    }

    private func isElsewhere(_ old: Fold.Occupant, than place: Place) throws -> Bool {
        for other in try catalog.places(of: old.object) where other != place {
            guard let parent = try disk.directory(other.parent) else { continue }
            if try status(parent, other.name)?.identity == old.identity { return true }
        }
        return false
    }

    /// What stands at a name is what the catalog had there, unedited, and nobody needs it any more.
    private func isDying(_ now: FileStatus, at place: Place, for kind: Kind) throws -> Bool {
        guard kind != .directory, let old = before[place], old.kind != .directory, now.identity == old.identity,
            !isEdited(now, old)
        else { return false }
        return try catalog.identity(of: old.object) == nil
    }

    private func isEdited(_ now: FileStatus, _ old: Fold.Occupant) -> Bool {
        old.kind == .file && (now.mtime != old.mtime || now.size != old.size)
    }

    /// Deepest first, so that a directory is empty when its turn comes; what still keeps it from being so is not ours.
    private mutating func removeDirectories() throws {
        for doomed in doomedDirectories.sorted(by: { $0.depth > $1.depth }) {
            do throws(SystemError) {
                try doomed.parent.removeDirectory(doomed.name)
            } catch {
                if error.isNotFound { continue }
                guard error.isExisting else { throw error }
                try quarantine.keep(doomed.parent, doomed.name, path: doomed.name.description)
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
    private func occupy(_ place: Place) throws {
        guard let object = try catalog.lookup(place), let row = try catalog.object(object) else { return }
        guard try row.kind != .file || !catalog.isPending(object) else { return }
        guard let directory = try disk.directory(place.parent) else {
            throw ApplyError.lost(place.parent, path: path(of: place))
        }
        if let now = try status(directory, place.name) {
            if now.identity == row.identity { return }
            if try !isReplaceable(now, at: place, by: row.kind) {
                try quarantine.keep(directory, place.name, path: path(of: place))
            }
        }
        let staged = DiskTree.stagedName(object)
        if try status(disk.staging, staged)?.identity == row.identity {
            try disk.staging.rename(staged, to: directory, place.name)
            return
        }
        guard row.kind != .directory, let other = try disk.locate(object, identity: row.identity) else {
            throw ApplyError.lost(object, path: path(of: place))
        }
        let link = Name(trusted: Array("l\(object)".utf8))
        if try status(disk.staging, link) != nil { try disk.staging.unlink(link) }
        try other.directory.link(other.name, to: disk.staging, link)
        try disk.staging.rename(link, to: directory, place.name)
    }

    private func isReplaceable(_ now: FileStatus, at place: Place, by kind: Kind) throws -> Bool {
        guard let old = before[place], now.identity == old.identity, !isEdited(now, old) else { return false }
        return kind != .directory && old.kind != .directory
    }

    private func apply(_ patch: Name, to object: ObjectID) throws {
        guard let identity = try catalog.identity(of: object), try status(disk.staging, patch) != nil else { return }
        guard let place = try disk.locate(object, identity: identity) else {
            let path = try catalog.path(of: object) ?? []
            throw ApplyError.lost(object, path: PathText.joined(path))
        }
        let bytes = try readWholeFile(in: disk.staging, patch, limit: Int(Limits.maxSegmentRawBytes))
        let file = try place.directory.openFileForWriting(place.name)
        try Patch.apply(bytes, to: file)
        try file.close()
        try setMetadata(object)
    }

    // MARK: Metadata

    private func setMetadata(_ object: ObjectID) throws {
        guard let row = try catalog.object(object) else { return }
        if row.kind == .directory {
            try stamp(object)
            return
        }
        guard let place = try disk.locate(object, identity: row.identity) else {
            if try catalog.isPending(object) { return }
            let path = try catalog.path(of: object) ?? []
            throw ApplyError.lost(object, path: PathText.joined(path))
        }
        if setsOwner { try place.directory.setOwner(place.name, uid: row.metadata.uid, gid: row.metadata.gid) }
        if row.kind != .symlink { try place.directory.setMode(place.name, row.metadata.mode) }
        try place.directory.setModificationTime(place.name, row.metadata.mtime)
    }

    /// Owner, mode and times of a directory, after everything else that happens in it.
    private func stamp(_ object: ObjectID) throws {
        guard let row = try catalog.object(object), row.kind == .directory,
            let directory = try disk.directory(object)
        else { return }
        try Self.stamp(directory, row.metadata, setsOwner: setsOwner)
    }

    static func stamp(_ directory: Directory, _ metadata: Metadata, setsOwner: Bool) throws(SystemError) {
        if setsOwner { try directory.setOwner(uid: metadata.uid, gid: metadata.gid) }
        try directory.setMode(metadata.mode)
        try directory.setModificationTime(metadata.mtime)
    }

    private func path(of place: Place) -> String {
        let parent = (try? catalog.path(of: place.parent)) ?? []
        return PathText.joined(parent + [place.name])
    }
}
