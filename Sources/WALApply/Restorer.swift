import WALCatalog
import WALFormat
import WALSystem

/// Makes again what somebody took away from a replica or wrote to: at once where the catalog holds all of it
/// (directories, symlinks, special and empty files), else as a file that lacks its blocks, to be fetched. So it makes those
/// files whose patch was damaged.
struct Restorer {
    private let catalog: CatalogTransaction
    private let disk: DiskTree
    private let quarantine: Quarantine
    private let metadata: MetadataWriter
    /// Their content is not what the catalog says, whatever their times tell.
    private let unpatched: Set<ObjectID>
    /// Files that have to be fetched.
    private(set) var lost: Set<ObjectID> = []
    private var restamped: Set<ObjectID> = []
    private var seen: Set<ObjectID> = []

    init(
        catalog: CatalogTransaction, disk: DiskTree, quarantine: Quarantine, metadata: MetadataWriter,
        unpatched: Set<ObjectID>
    ) {
        self.catalog = catalog
        self.disk = disk
        self.quarantine = quarantine
        self.metadata = metadata
        self.unpatched = unpatched
    }

    mutating func restore(_ objects: Set<ObjectID>) throws {
        var waiting = objects.union(unpatched).sorted()
        while let object = waiting.popLast() {
            // What stands above comes first.
            if let place = try catalog.places(of: object).first, place.parent != .root, !seen.contains(place.parent),
                try disk.directory(place.parent) == nil
            {
                waiting += [object, place.parent]
                seen.insert(object)
                continue
            }
            seen.insert(object)
            guard object != .root, let row = try catalog.object(object), try catalog.hasName(object) else { continue }
            switch row.kind {
            case .directory: waiting += try directory(row)
            case .symlink, .fifo, .characterDevice, .blockDevice: try node(row)
            case .file: try file(row)
            }
        }
        for object in restamped {
            guard let row = try catalog.object(object), let directory = try disk.directory(object) else { continue }
            try metadata.set(row.metadata, of: directory)
        }
    }

    /// Returns what is to be looked at then: everything that was in it is gone too.
    private mutating func directory(_ row: ObjectRow) throws -> [ObjectID] {
        guard try disk.directory(row.id) == nil, let (parent, place) = try freePlaces(of: row.id).first else {
            return []
        }
        quarantine.report(path(of: place))
        try parent.makeDirectory(place.name, permissions: 0o700)
        let handle = try parent.openDirectory(place.name)
        try catalog.setLocal(row.id, identity: try handle.status().identity, stamp: ObjectRow.neverSeen)
        disk.remember(row.id, handle)
        restamped.insert(row.id)
        return try catalog.children(of: row.id).map(\.object)
    }

    private mutating func node(_ row: ObjectRow) throws {
        if let found = try disk.locate(row.id, identity: row.identity) {
            try putThere(row, found)
            return
        }
        let staged = DiskTree.name(.staged, row.id)
        let identity = try Stager.makeNode(row, disk.staging, staged, metadata)
        try publish(row, identity, staged)
    }

    private mutating func file(_ row: ObjectRow) throws {
        if try catalog.isPending(row.id) { return }
        if !unpatched.contains(row.id), let found = try disk.locate(row.id, identity: row.identity),
            try found.directory === disk.staging || !Occupant(row).isEdited(found.directory.status(of: found.name))
        {
            try putThere(row, found)
            return
        }
        let missing = missingBlocks(of: row)
        if missing.isEmpty {
            let staged = DiskTree.name(.staged, row.id)
            try disk.staging.removeTree(staged)
            let file = try disk.staging.createFile(staged)
            try file.truncate(to: row.size)
            let identity = try metadata.finish(file, row.metadata)
            try publish(row, identity, staged)
            return
        }
        for (_, place) in try freePlaces(of: row.id) { quarantine.report(path(of: place)) }
        lost.insert(row.id)
        try catalog.setMissing(missing, of: row.id)
        try catalog.setLocal(row.id, identity: .unknown, stamp: ObjectRow.neverSeen)
    }

    private func missingBlocks(of row: ObjectRow) -> [MissingBlock] {
        var missing: [MissingBlock] = []
        var offset: UInt64 = 0
        for index in 0..<row.blocks.count {
            let block = row.blocks[index]
            if !block.isHole { missing.append(MissingBlock(object: row.id, offset: offset, block: block)) }
            offset += UInt64(block.length)
        }
        return missing
    }

    private mutating func publish(_ row: ObjectRow, _ identity: FileIdentity, _ staged: Name) throws {
        try catalog.setLocal(row.id, identity: identity, stamp: ObjectRow.neverSeen)
        var row = row
        row.identity = identity
        if let place = try catalog.places(of: row.id).first { quarantine.report(path(of: place)) }
        try putThere(row, (disk.staging, staged))
    }

    /// Gives an object that is somewhere all names that it should have.
    private mutating func putThere(_ row: ObjectRow, _ found: (directory: Directory, name: Name)) throws {
        let link = DiskTree.name(.link, row.id)
        for (parent, place) in try freePlaces(of: row.id, but: row.identity) {
            try disk.staging.removeTree(link)
            try found.directory.link(found.name, to: disk.staging, link)
            try disk.staging.rename(link, to: parent, place.name)
        }
    }

    /// Where the object's names belong; what stands there and is another inode goes to quarantine.
    private mutating func freePlaces(
        of object: ObjectID, but identity: FileIdentity? = nil
    ) throws -> [(Directory, Place)] {
        var free: [(Directory, Place)] = []
        for place in try catalog.places(of: object) {
            guard let parent = try disk.directory(place.parent) else { continue }
            do throws(SystemError) {
                if try parent.status(of: place.name).identity == identity { continue }
                try quarantine.keep(parent, place.name, path: path(of: place))
            } catch {
                if !error.isNotFound { throw error }
            }
            restamped.insert(place.parent)
            free.append((parent, place))
        }
        return free
    }

    private func path(of place: Place) -> String {
        let parent = (try? catalog.path(of: place.parent)) ?? []
        return PathText.joined(parent + [place.name])
    }
}
