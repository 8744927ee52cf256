import WALCatalog
import WALFormat
import WALSystem

/// What a batch of segments comes to: the catalog is brought to its end, and this says what of the tree must follow.
struct Fold {
    /// A name that a batch changes, and what stood there on disk before it.
    struct Touched {
        var place: Place
        /// nil: the name was free.
        var before: Occupant?
    }

    /// What the catalog knew of an object on disk, enough to tell it from something that somebody put in its place.
    struct Occupant {
        var object: ObjectID
        var identity: FileIdentity
        var kind: Kind
        var mtime: Timestamp
        var size: UInt64
    }

    /// A new version of a file or symlink that is to be written.
    struct Task {
        var row: ObjectRow
        var content: FileContent?
        /// Index of the change set whose body the data ranges point into.
        var set: Int
        /// The version that is on disk; nil for a new object.
        var before: ObjectRow?
    }

    var touched: [Place: Touched] = [:]
    /// Where objects stood on disk before the batch, for those whose names changed.
    var oldPlaces: [ObjectID: [Place]] = [:]
    var tasks: [ObjectID: Task] = [:]
    var taskOrder: [ObjectID] = []
    var newDirectories: Set<ObjectID> = []
    /// Objects that stay as they are but for their metadata.
    var metadata: Set<ObjectID> = []
    /// Directories whose times must be set again, because their entries changed.
    var restamped: Set<ObjectID> = []
    var missing: [ObjectID: [MissingBlock]] = [:]
    private var before: [ObjectID: ObjectRow] = [:]
    /// Tasks that copy from an object, which must be written before that is dropped.
    private var readers: [ObjectID: [ObjectID]] = [:]

    let catalog: CatalogTransaction

    init(_ catalog: CatalogTransaction) {
        self.catalog = catalog
    }

    var isEmpty: Bool { touched.isEmpty && tasks.isEmpty && metadata.isEmpty && newDirectories.isEmpty }

    /// Applies one entry to the catalog. `stage` must write the pending task of an object that a copy reads from.
    mutating func apply(
        _ change: Change, set: Int, body: [UInt8], seq: UInt64, stage: (inout Fold, ObjectID) throws -> Void
    ) throws {
        switch change {
        case .put(let object, let metadata, let content):
            try put(object, metadata, content, set: set, body: body, seq: seq, stage: stage)
        case .metadata(let object, let metadata):
            guard var row = try remember(object) else {
                throw ApplyError.mismatch(seq: seq, "metadata of object \(object), which is not there")
            }
            row.metadata = metadata
            try catalog.put(row)
            if tasks[object] != nil { tasks[object]!.row.metadata = metadata } else { self.metadata.insert(object) }
        case .bind(let parent, let name, let object):
            let place = Place(parent: parent, name: name)
            try touch(place)
            try rememberPlaces(object)
            try catalog.bind(place, to: object)
        case .unbind(let parent, let name):
            let place = Place(parent: parent, name: name)
            try touch(place)
            try catalog.unbind(place)
        case .drop(let object):
            guard object != .root else { throw ApplyError.mismatch(seq: seq, "the root is dropped") }
            for reader in readers.removeValue(forKey: object) ?? [] where reader != object && tasks[reader] != nil {
                try stage(&self, reader)
            }
            _ = try remember(object)
            try rememberPlaces(object)
            try catalog.drop(object)
            try catalog.setMissing([], of: object)
            tasks[object] = nil
            metadata.remove(object)
            newDirectories.remove(object)
            missing[object] = nil
        }
    }

    private mutating func put(
        _ object: ObjectID, _ metadata: Metadata, _ body: Body, set: Int, body raw: [UInt8], seq: UInt64,
        stage: (inout Fold, ObjectID) throws -> Void
    ) throws {
        let old = try remember(object)
        guard old == nil || old!.kind == body.kind else {
            throw ApplyError.mismatch(seq: seq, "object \(object) changes its kind")
        }
        var row: ObjectRow
        switch body {
        case .directory:
            row = ObjectRow(id: object, kind: .directory, metadata: metadata)
            if old == nil { newDirectories.insert(object) } else { self.metadata.insert(object) }
        case .symlink(let target):
            row = .symlink(id: object, metadata: metadata, target: target)
        case .file(let content):
            for source in content.sources where tasks[source.object] != nil { try stage(&self, source.object) }
            row = ObjectRow(
                id: object, kind: .file, metadata: metadata, size: content.size, content: content.digest,
                blocks: try table(of: content, raw: raw, seq: seq))
        }
        row.identity = old?.identity ?? .unknown
        try catalog.put(row)
        guard row.kind != .directory else { return }
        if let old, old.content == row.content, tasks[object] == nil, row.kind == .file,
            try !catalog.isPending(object)
        {
            self.metadata.insert(object)
            return
        }
        for place in try catalog.places(of: object) { try touch(place) }
        let content: FileContent? = if case .file(let content) = body { content } else { nil }
        if tasks[object] == nil { taskOrder.append(object) }
        tasks[object] = Task(row: row, content: content, set: set, before: old)
        for source in content?.sources ?? [] { readers[source.object, default: []].append(object) }
        self.metadata.remove(object)
    }

    /// The block table that the extents come to. It must have the digest that the entry states.
    private func table(of content: FileContent, raw: [UInt8], seq: UInt64) throws -> BlockTable {
        var table = BlockTable()
        var sources: [Int: ObjectRow] = [:]
        for extent in content.extents {
            switch extent {
            case .data(let range):
                let digest = raw.withUnsafeBytes { Digest(of: UnsafeRawBufferPointer(rebasing: $0[range])) }
                table.append(ContentBlock(length: UInt32(range.count), digest: digest))
            case .hole(let length): table.appendHole(length)
            case .fetch(let block): table.append(block)
            case .copy(let index, let offset, let length):
                let source = content.sources[index]
                if sources[index] == nil { sources[index] = try catalog.object(source.object) }
                guard let row = sources[index], row.kind == .file, row.content == source.content else {
                    throw ApplyError.mismatch(seq: seq, "object \(source.object) is not what a copy expects")
                }
                guard table.append(from: row.blocks, offset: offset, length: length) else {
                    throw ApplyError.mismatch(seq: seq, "a copy from object \(source.object) is not of whole blocks")
                }
            }
            guard table.count <= Limits.maxContentBlocks else {
                throw FormatError.limit(
                    "blocks of a file", value: UInt64(table.count), limit: UInt64(Limits.maxContentBlocks))
            }
        }
        guard table.digest == content.digest else {
            throw ApplyError.mismatch(seq: seq, "content does not have the digest that its entry states")
        }
        return table
    }

    /// The object as it is now; what it was before the batch is kept at the first call.
    private mutating func remember(_ object: ObjectID) throws -> ObjectRow? {
        let row = try catalog.object(object)
        if let row, before[object] == nil { before[object] = row }
        return row
    }

    private mutating func rememberPlaces(_ object: ObjectID) throws {
        if oldPlaces[object] == nil { oldPlaces[object] = try catalog.places(of: object) }
    }

    mutating func touch(_ place: Place) throws {
        restamped.insert(place.parent)
        guard touched[place] == nil else { return }
        guard let object = try catalog.lookup(place), let now = try catalog.object(object) else {
            touched[place] = Touched(place: place, before: nil)
            return
        }
        try rememberPlaces(object)
        let row = before[object] ?? now
        let occupant = Occupant(
            object: object, identity: row.identity, kind: row.kind, mtime: row.metadata.mtime, size: row.size)
        touched[place] = Touched(place: place, before: occupant)
    }
}
