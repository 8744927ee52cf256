import WALCatalog
import WALFormat
import WALSystem

/// Where objects are on disk while the catalog is already at the end of a batch: at their new name, in `staging/`, or at
/// their old name. The inode says which, so no record is kept of how far publishing came.
final class DiskTree {
    let root: Directory
    let staging: Directory
    let catalog: CatalogTransaction
    var oldPlaces: [ObjectID: [Place]]
    /// Inodes of objects that the catalog has dropped already.
    private let oldIdentities: [ObjectID: FileIdentity]
    private var handles: [ObjectID: Directory] = [:]
    private static let capacity = 400

    init(
        root: Directory, staging: Directory, catalog: CatalogTransaction, oldPlaces: [ObjectID: [Place]],
        oldIdentities: [ObjectID: FileIdentity] = [:]
    ) {
        self.root = root
        self.staging = staging
        self.catalog = catalog
        self.oldPlaces = oldPlaces
        self.oldIdentities = oldIdentities
    }

    static func stagedName(_ object: ObjectID) -> Name {
        Name(trusted: Array("o\(object)".utf8))
    }

    func oldPlace(of object: ObjectID) -> Place? {
        oldPlaces[object]?.first
    }

    func remember(_ object: ObjectID, _ directory: Directory) {
        if handles.count >= Self.capacity { handles.removeAll(keepingCapacity: true) }
        handles[object] = directory
    }

    /// The directory, wherever it is; nil when it is nowhere.
    func directory(_ object: ObjectID) throws -> Directory? {
        if object == .root { return root }
        if let handle = handles[object] { return handle }
        // A tree may be deeper than a stack, so climb first, then open on the way down.
        var chain = [object]
        while let top = chain.last, handles[top] == nil, chain.count <= Limits.maxDepth {
            guard let place = try places(of: top).first, place.parent != .root, !chain.contains(place.parent) else {
                break
            }
            chain.append(place.parent)
        }
        var found: Directory?
        for step in chain.reversed() {
            found = try openOne(step)
        }
        return found
    }

    private func openOne(_ object: ObjectID) throws -> Directory? {
        if let handle = handles[object] { return handle }
        guard let identity = try catalog.identity(of: object) ?? oldIdentities[object] else { return nil }
        for (parent, name) in try candidates(object) {
            let handle: Directory
            do throws(SystemError) {
                handle = try parent.openDirectory(name)
            } catch {
                if error.isNotFound || error.isSymlinkOrEscape { continue }
                throw error
            }
            guard try identity == .unknown || handle.status().identity == identity else { continue }
            remember(object, handle)
            return handle
        }
        return nil
    }

    private func places(of object: ObjectID) throws -> [Place] {
        let now = try catalog.places(of: object)
        return now + (oldPlaces[object] ?? []).filter { !now.contains($0) }
    }

    /// Every place where the object may be, with parents that are open already or easily opened.
    private func candidates(_ object: ObjectID) throws -> [(Directory, Name)] {
        var found: [(Directory, Name)] = [(staging, Self.stagedName(object))]
        for place in try places(of: object) {
            guard let parent = place.parent == .root ? root : try parentHandle(place.parent) else { continue }
            found.append((parent, place.name))
        }
        return found
    }

    private var opening: Set<ObjectID> = []

    private func parentHandle(_ object: ObjectID) throws -> Directory? {
        if let handle = handles[object] { return handle }
        // Old and new places of two directories can point at each other; one of the two is always real.
        guard opening.insert(object).inserted else { return nil }
        defer { opening.remove(object) }
        return try openOne(object)
    }

    /// A file or symlink with this inode: in staging, at a name of the catalog, or at an old name.
    func locate(_ object: ObjectID, identity: FileIdentity) throws -> (directory: Directory, name: Name)? {
        for (parent, name) in try [(staging, Self.stagedName(object))] + openPlaces(object) {
            do throws(SystemError) {
                if try parent.status(of: name).identity == identity { return (parent, name) }
            } catch {
                if !error.isNotFound { throw error }
            }
        }
        return nil
    }

    private func openPlaces(_ object: ObjectID) throws -> [(Directory, Name)] {
        var found: [(Directory, Name)] = []
        for place in try places(of: object) {
            if let parent = try directory(place.parent) { found.append((parent, place.name)) }
        }
        return found
    }
}
