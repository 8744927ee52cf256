import WALCatalog
import WALFormat
import WALSystem

/// Where objects are on disk while the catalog is already at the end of a batch: at their new name, in `staging/`, or at
/// their old name. The inode says which, so no record is kept of how far publishing came.
final class DiskTree {
    let root: Directory
    let staging: Directory
    let catalog: CatalogTransaction
    private let oldPlaces: OldPlaces
    private var handles: [ObjectID: Directory] = [:]
    private static let capacity = ProcessFacts.openDirectories

    init(
        root: Directory, staging: Directory, catalog: CatalogTransaction, oldPlaces: OldPlaces = OldPlaces()
    ) {
        self.root = root
        self.staging = staging
        self.catalog = catalog
        self.oldPlaces = oldPlaces
    }

    /// Names in `staging/`: a letter that says what it is, and the object's number.
    enum Role: UInt8 {
        /// A version that is being written. It outlives an interruption: what it holds need not be fetched again.
        case unfinished = 0x6E  // n
        /// A version of the batch at hand, not published yet.
        case staged = 0x73  // s
        /// What lives on over the batch without being seen: it lacks blocks, or has no name.
        case waiting = 0x6F  // o
        /// A link on its way to its name.
        case link = 0x6C  // l
    }

    static func name(_ role: Role, _ object: ObjectID) -> Name {
        Name(trusted: [role.rawValue] + Array("\(object)".utf8))
    }

    static func parse(_ name: Name) -> (role: Role, object: ObjectID)? {
        guard let first = name.bytes.first, let role = Role(rawValue: first),
            let object = ObjectID(String(decoding: name.bytes.dropFirst(), as: UTF8.self))
        else { return nil }
        return (role, object)
    }

    func oldPlace(of object: ObjectID) -> Place? {
        oldPlaces.places[object]?.first
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
        var seen: Set<ObjectID> = [object]
        while let top = chain.last, handles[top] == nil, chain.count <= Limits.maxDepth {
            guard let place = try places(of: top).first, place.parent != .root, seen.insert(place.parent).inserted
            else { break }
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
        guard let identity = try catalog.identity(of: object) ?? oldPlaces.identities[object] else { return nil }
        let now = try catalog.places(of: object)
        for place in now {
            if let found = try open(place, identity) { return remembered(object, found) }
        }
        for (parent, name) in hidden(object) {
            if let found = try open(parent, name, identity) { return remembered(object, found) }
        }
        for place in oldPlaces.places[object] ?? [] where !now.contains(place) {
            if let found = try open(place, identity) { return remembered(object, found) }
        }
        return nil
    }

    private func remembered(_ object: ObjectID, _ directory: Directory) -> Directory {
        remember(object, directory)
        return directory
    }

    private func open(_ place: Place, _ identity: FileIdentity) throws -> Directory? {
        guard let parent = place.parent == .root ? root : try parentHandle(place.parent) else { return nil }
        return try open(parent, place.name, identity)
    }

    private func open(_ parent: Directory, _ name: Name, _ identity: FileIdentity) throws(SystemError) -> Directory? {
        do throws(SystemError) {
            let handle = try parent.openDirectory(name)
            if identity == .unknown { return handle }
            return try handle.status().identity == identity ? handle : nil
        } catch {
            if error.isNotFound || error.isSymlinkOrEscape { return nil }
            throw error
        }
    }

    private func places(of object: ObjectID) throws -> [Place] {
        let now = try catalog.places(of: object)
        return now + (oldPlaces.places[object] ?? []).filter { !now.contains($0) }
    }

    private func hidden(_ object: ObjectID) -> [(Directory, Name)] {
        [(staging, Self.name(.staged, object)), (staging, Self.name(.waiting, object))]
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
        for (parent, name) in hidden(object) where try isThere(parent, name, identity) { return (parent, name) }
        return try find(object, in: try catalog.places(of: object, limit: Self.fewPlaces), identity)
            ?? find(object, in: oldPlaces.places[object]?.prefix(Self.fewPlaces) ?? [], identity)
            ?? find(object, in: try catalog.places(of: object), identity)
            ?? find(object, in: oldPlaces.places[object] ?? [], identity)
    }

    /// Looked at first: an object with thousands of names is nearly always at one of these.
    static let fewPlaces = 4

    private func find(
        _ object: ObjectID, in places: some Sequence<Place>, _ identity: FileIdentity
    ) throws -> (directory: Directory, name: Name)? {
        for place in places {
            guard let parent = try directory(place.parent) else { continue }
            if try isThere(parent, place.name, identity) { return (parent, place.name) }
        }
        return nil
    }

    private func isThere(_ parent: Directory, _ name: Name, _ identity: FileIdentity) throws(SystemError) -> Bool {
        do throws(SystemError) {
            return try parent.status(of: name).identity == identity
        } catch {
            if error.isNotFound { return false }
            throw error
        }
    }
}

extension Directory {
    /// Opens a file of the replica, whatever its mode forbids its owner; that is set again when the file is done.
    func openOwnFileForWriting(_ name: Name) throws(SystemError) -> File {
        do {
            return try openFileForWriting(name)
        } catch {
            guard error.isDenied else { throw error }
            try setMode(name, 0o600)
            return try openFileForWriting(name)
        }
    }
}
