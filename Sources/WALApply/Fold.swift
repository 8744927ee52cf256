import WALCatalog
import WALFormat
import WALSystem

/// Where objects stood on disk before a batch, for those whose names it changes. Shared by all who look for them.
final class OldPlaces {
    var places: [ObjectID: [Place]] = [:]
    /// Inodes of what the catalog does not have any more.
    var identities: [ObjectID: FileIdentity] = [:]
}

/// What a batch of segments comes to: the catalog is brought to its end, and this says what of the tree must follow.
struct Fold {
    /// A name that a batch changes, and what stood there on disk before it.
    struct Touched {
        var place: Place
        /// nil: the name was free.
        var before: Occupant?
    }

    /// How to find an object on disk as it is at some point of the batch.
    struct Known {
        var identity: FileIdentity
        var kind: Kind
        /// What the catalog had of it, to see whether somebody edited it; nil for what this batch wrote itself.
        var checked: Occupant?
    }

    /// A new version of a file or symlink that is to be written.
    struct Task {
        var row: ObjectRow
        var content: FileContent?
        /// Index of the change set whose body the data ranges point into.
        var set: Int
        /// The version before it on disk; nil for a new object.
        var before: ObjectRow?
    }

    var touched: [Place: Touched] = [:]
    let oldPlaces = OldPlaces()
    /// Tasks are done in the order of their entries, so that each finds what it copies from as it was then: an object
    /// that has a task is written before another one may copy from it, and after those that copy from what it was.
    private(set) var tasks: [ObjectID: Task] = [:]
    private var taskOrder: [(object: ObjectID, number: Int)] = []
    private var numbers: [ObjectID: Int] = [:]
    /// Objects with a task that copies from the key.
    private var readers: [ObjectID: [ObjectID]] = [:]
    var newDirectories: Set<ObjectID> = []
    /// Objects that stay as they are but for their metadata.
    var metadata: Set<ObjectID> = []
    /// Directories whose times must be set again, because their entries changed or they were moved.
    var restamped: Set<ObjectID> = []
    /// What the batch dropped: others may have been told to copy from it.
    private(set) var dropped: [ObjectID: Known] = [:]
    /// What those of them lacked that lacked blocks.
    private var droppedMissing: [ObjectID: [MissingBlock]] = [:]
    /// Objects that got a second name.
    private(set) var linked: Set<ObjectID> = []
    private var before: [ObjectID: ObjectRow] = [:]
    /// Of clients, in this segment.
    private var requests: [RequestID] = []
    private let hasStale: Bool

    let catalog: CatalogTransaction

    init(_ catalog: CatalogTransaction) throws {
        self.catalog = catalog
        hasStale = try catalog.hasStale()
    }

    /// Applies one entry to the catalog. `stage` must write the tasks of ``takeTasks(before:)`` for an object that a copy
    /// reads from.
    mutating func apply(
        _ change: Change, set: Int, body: [UInt8], seq: UInt64, stage: (inout Fold, ObjectID) throws -> Void
    ) throws {
        switch change {
        // What it excludes goes by entries of its own.
        case .filter(let filter): try catalog.setFilter(filter)
        case .request(let id): requests.append(id)
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
            if try catalog.hasName(object) { linked.insert(object) }
            // Moving a directory may take a mode that it does not have.
            if tasks[object] == nil, !newDirectories.contains(object), try catalog.object(object)?.kind == .directory {
                restamped.insert(object)
            }
            try catalog.bind(place, to: object)
        case .unbind(let parent, let name):
            let place = Place(parent: parent, name: name)
            try touch(place)
            try catalog.unbind(place)
        case .drop(let object):
            guard object != .root else { throw ApplyError.mismatch(seq: seq, "the root is dropped") }
            if let known = try known(object) {
                dropped[object] = known
                oldPlaces.identities[object] = known.identity
            }
            _ = try remember(object)
            try rememberPlaces(object)
            try catalog.drop(object)
            if try catalog.isPending(object) {
                droppedMissing[object] = try catalog.missingBlocks(of: object)
                try catalog.setMissing([], of: object)
            }
            tasks[object] = nil
            metadata.remove(object)
            newDirectories.remove(object)
        }
    }

    /// All changes of a segment are in the catalog: notes what asked for them.
    mutating func end(at position: Position) throws {
        for request in requests { try catalog.note(request, at: position) }
        requests.removeAll()
    }

    private mutating func put(
        _ object: ObjectID, _ metadata: Metadata, _ body: Body, set: Int, body raw: [UInt8], seq: UInt64,
        stage: (inout Fold, ObjectID) throws -> Void
    ) throws {
        if case .file(let content) = body {
            for source in content.sources where tasks[source.object] != nil { try stage(&self, source.object) }
        }
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
        case .fifo: row = .node(.fifo, id: object, metadata: metadata, nil)
        case .device(let kind, let number): row = .node(kind, id: object, metadata: metadata, number)
        case .file(let content):
            row = ObjectRow(
                id: object, kind: .file, metadata: metadata, size: content.size, content: content.digest,
                blocks: try table(of: content, raw: raw, seq: seq))
        }
        row.identity = old?.identity ?? .unknown
        if old == nil { try catalog.insert(row) } else { try catalog.put(row) }
        guard row.kind != .directory else { return }
        if let old, old.content == row.content, tasks[object] == nil,
            try !catalog.isPending(object)
        {
            self.metadata.insert(object)
            return
        }
        if old != nil { for place in try catalog.places(of: object) { try touch(place) } }
        let content: FileContent? = if case .file(let content) = body { content } else { nil }
        for source in content?.sources ?? [] { readers[source.object, default: []].append(object) }
        let number = taskOrder.count
        numbers[object] = number
        taskOrder.append((object, number))
        // Of a version that is passed over nothing comes to the disk: there, it is the one before it that is replaced.
        let before = tasks[object].map(\.before) ?? old
        tasks[object] = Task(row: row, content: content, set: set, before: before)
        self.metadata.remove(object)
    }

    /// A task to fetch what a file lacks.
    mutating func complete(_ row: ObjectRow) throws {
        let extents = (0..<row.blocks.count).map { index in
            let block = row.blocks[index]
            return block.isHole ? Extent.hole(UInt64(block.length)) : .fetch(block)
        }
        let content = FileContent(size: row.size, digest: row.content, sources: [], extents: extents)
        for place in try catalog.places(of: row.id) { try touch(place) }
        numbers[row.id] = taskOrder.count
        taskOrder.append((row.id, taskOrder.count))
        tasks[row.id] = Task(row: row, content: content, set: 0, before: row)
    }

    /// The task of an object and, before it, those that copy from the version that it replaces.
    mutating func takeTasks(before object: ObjectID) -> [Task] {
        var wanted: Set<ObjectID> = [object]
        var waiting = [object]
        while let next = waiting.popLast() {
            for reader in readers.removeValue(forKey: next) ?? [] where tasks[reader] != nil {
                if wanted.insert(reader).inserted { waiting.append(reader) }
            }
        }
        let ordered = wanted.sorted { numbers[$0, default: 0] < numbers[$1, default: 0] }
        return ordered.compactMap { tasks.removeValue(forKey: $0) }
    }

    /// All that are left, in order.
    mutating func takeTasks() -> [Task] {
        defer { taskOrder.removeAll() }
        return taskOrder.compactMap { entry in
            numbers[entry.object] == entry.number ? tasks.removeValue(forKey: entry.object) : nil
        }
    }

    /// The block table that the extents come to. It must have the digest that the entry states.
    private func table(of content: FileContent, raw: [UInt8], seq: UInt64) throws -> BlockTable {
        var table = BlockTable()
        var sources: [Int: (row: ObjectRow, offsets: BlockOffsets)] = [:]
        for extent in content.extents {
            switch extent {
            case .data(let range):
                let digest = raw.withUnsafeBytes { Digest(of: UnsafeRawBufferPointer(rebasing: $0[range])) }
                table.append(ContentBlock(length: UInt32(range.count), digest: digest))
            case .hole(let length): table.appendHole(length)
            case .fetch(let block): table.append(block)
            case .copy(let index, let offset, let length):
                let source = content.sources[index]
                if sources[index] == nil, let row = try catalog.object(source.object), row.kind == .file {
                    sources[index] = (row, BlockOffsets(row.blocks))
                }
                guard let (row, offsets) = sources[index], row.content == source.content else {
                    throw ApplyError.mismatch(seq: seq, "object \(source.object) is not what a copy expects")
                }
                guard table.append(from: row.blocks, offsets, offset: offset, length: length) else {
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

    /// As it was before the batch.
    func old(_ object: ObjectID) throws -> ObjectRow? {
        try before[object] ?? catalog.object(object)
    }

    /// The version before the batch, or one that was staged since; after its drop, whichever it was then.
    func known(_ object: ObjectID) throws -> Known? {
        guard let identity = try catalog.identity(of: object) else { return dropped[object] }
        if let old = before[object] {
            let checked = old.identity == identity ? Occupant(old) : nil
            return Known(identity: identity, kind: old.kind, checked: checked)
        }
        return try catalog.occupant(object).map { Known(identity: identity, kind: $0.kind, checked: $0) }
    }

    /// What the object as ``known(_:)`` has it lacks.
    func missingBlocks(of object: ObjectID) throws -> [MissingBlock] {
        try droppedMissing[object] ?? catalog.missingBlocks(of: object)
    }

    private func rememberPlaces(_ object: ObjectID) throws {
        if oldPlaces.places[object] == nil { oldPlaces.places[object] = try catalog.places(of: object) }
    }

    private mutating func touch(_ place: Place) throws {
        restamped.insert(place.parent)
        guard touched[place] == nil else { return }
        let occupant = try occupant(of: place)
        if let occupant, occupant.kind == .directory { restamped.insert(occupant.object) }
        touched[place] = Touched(place: place, before: occupant)
    }

    private func occupant(of place: Place) throws -> Occupant? {
        guard let object = try catalog.lookup(place), let now = try catalog.object(object) else { return nil }
        try rememberPlaces(object)
        // A file that lacks blocks is not there, but perhaps what it replaces is.
        if hasStale, let stale = try catalog.stale(at: place) { return stale }
        let row = before[object] ?? now
        if row.kind == .file, try catalog.isPending(object) { return nil }
        return Occupant(row)
    }
}
