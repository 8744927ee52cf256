import WALCatalog
import WALFormat
import WALSystem

/// Copies objects of a tree, with the directories that they stand in, to a folder of the quarantine: by reference where the
/// file system can, and holes as holes.
struct QuarantineCopy {
    private let catalog: CatalogTransaction
    private let handles: TreeHandles
    private let folder: Directory
    private var made: [ObjectID: Directory] = [:]

    init(catalog: CatalogTransaction, root: Directory, into folder: Directory) {
        self.catalog = catalog
        self.folder = folder
        handles = TreeHandles(root: root)
    }

    /// Returns the paths of what was there to be copied, escaped.
    mutating func copy(_ objects: [ObjectID]) throws -> [String] {
        var paths: [String] = []
        for object in objects {
            guard let row = try catalog.object(object) else { continue }
            let places = try catalog.places(of: object, limit: Self.maxNames)
            guard let first = places.first, try copy(row, first) else { continue }
            for place in places {
                paths.append(PathText.joined((try catalog.path(of: place.parent) ?? []) + [place.name]))
                guard place != first else { continue }
                try directory(first.parent).link(first.name, to: directory(place.parent), place.name)
            }
        }
        return paths.sorted()
    }

    private mutating func copy(_ row: ObjectRow, _ place: Place) throws -> Bool {
        guard let source = try handles.directory(place.parent, catalog) else { return false }
        do {
            switch row.kind {
            case .directory:
                _ = try directory(row.id)
                return true
            case .symlink:
                try directory(place.parent).makeSymlink(place.name, target: try source.readLink(place.name))
            case .file:
                let target = try directory(place.parent)
                let from = try source.openFile(place.name)
                let to = try target.createFile(place.name)
                let status = try from.status()
                try to.truncate(to: status.size)
                if try !to.cloneAll(from: from) {
                    _ = try to.copyRange(from: from, sourceOffset: 0, to: 0, length: status.size)
                }
                try to.close()
                try from.close()
            case .fifo, .characterDevice, .blockDevice:
                try directory(place.parent).makeNode(place.name, row.kind, source.status(of: place.name).device)
            }
            try dress(place, as: source.status(of: place.name), source.attributes(of: place.name).attributes)
            return true
        } catch let error as SystemError {
            // Gone since the look at it.
            guard error.isNotFound else { throw error }
            return false
        }
    }

    /// As it stood in the tree: owner first, for a change of it takes setuid away.
    private mutating func dress(_ place: Place, as status: FileStatus, _ attributes: Attributes) throws {
        let folder = try directory(place.parent)
        let isPrivileged = ProcessFacts.isPrivileged
        if isPrivileged { try folder.setOwner(place.name, uid: status.uid, gid: status.gid) }
        if status.kind != .symlink { try folder.setMode(place.name, status.mode) }
        _ = try AttributeTarget(folder, place.name).set(attributes, isNew: true, isPrivileged: isPrivileged)
        try folder.setModificationTime(place.name, status.mtime)
    }

    /// Of one object; the rest of its names stays with it in the tree.
    private static let maxNames = 1000

    private mutating func directory(_ object: ObjectID) throws -> Directory {
        if let known = made[object] { return known }
        let parent: Directory
        let name: Name
        if object == .root {
            parent = folder
            name = Name("files")
        } else {
            guard let place = try catalog.places(of: object, limit: 1).first else { return try directory(.root) }
            parent = try directory(place.parent)
            name = place.name
        }
        do throws(SystemError) {
            try parent.makeDirectory(name, permissions: 0o700)
        } catch {
            guard error.isExisting else { throw error }
        }
        let opened = try parent.openDirectory(name)
        made[object] = opened
        return opened
    }
}
