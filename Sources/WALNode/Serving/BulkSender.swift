import Logging
import NIOCore
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// Makes what one replica alone needs: the listing of the tree, with or without content, and the blocks that it asks for.
/// One thread a connection, started at the first job, so that reading files never holds up the log of anybody.
final class BulkSender: Sendable {
    private enum Job: Sendable {
        case sync(withContent: Bool)
        case answer([BlockRequest])
    }

    private struct Credit: Sendable {
        /// Bytes on the connection, of the log too, that the receiver has not worked on.
        var inFlight: UInt64 = 0
        /// Handed to the event loop and not counted there yet.
        var handed: UInt64 = 0
        var isStopped = false
    }

    private let node: any LogSource
    private let connection: Connection
    private let logger: Logger
    /// More than a receiver within its window can ask for: a frame that is not full is asked only while little is under
    /// way. The event loop puts, and it must not wait: the acknowledgements that make room come through it.
    private let jobs = BoundedQueue<Job>(maxCount: 1024, maxCost: 2 * Limits.maxWantBlocks)
    private let credit = Monitor(Credit())
    /// On the event loop, with the bytes of what is written; returns what is in flight with them.
    private let sent: @Sendable (Int) -> UInt64

    /// The peer is another host: the network is the slow part, and compression may pay. A tunnel looks like this host, so who
    /// has one says so.
    private var compresses: Bool {
        (!connection.isLoopback || node.compressesLoopback) && node.compression != .none
    }

    init(
        node: any LogSource, connection: Connection, logger: Logger, sent: @escaping @Sendable (Int) -> UInt64
    ) {
        self.node = node
        self.connection = connection
        self.logger = logger
        self.sent = sent
        do {
            _ = try WorkerThread.start(name: "bulk") { [self] in run() }
        } catch {
            connection.closeFromOutside(reason: "\(error)")
        }
    }

    func sync(withContent: Bool) {
        put(.sync(withContent: withContent), cost: 1)
    }

    func answer(_ requests: [BlockRequest]) {
        put(.answer(requests), cost: requests.count)
    }

    private func put(_ job: Job, cost: Int) {
        if !jobs.putIfRoom(job, cost: cost) { connection.closeFromOutside(reason: "too many requests") }
    }

    func inFlight(_ bytes: UInt64) {
        credit.update { $0.inFlight = bytes }
    }

    func stop() {
        credit.update { $0.isStopped = true }
        jobs.cancel()
    }

    private struct Stopped: Error {}

    private func run() {
        while let job = jobs.take() {
            do {
                switch job {
                case .sync(let withContent): try sendTree(withContent: withContent)
                case .answer(let requests): try sendBlocks(requests)
                }
            } catch is Stopped {
                return
            } catch {
                logger.error("cannot serve the replica: \(error)")
                connection.closeFromOutside(reason: "\(error)")
                return
            }
        }
    }

    /// Waits for room in the window, then writes.
    /// `raw`: what the bytes are before compression.
    private func send(_ message: Message, bytes: Int, raw: UInt32 = 0) throws {
        let mayGoOn: Bool? = credit.wait { credit in
            if credit.isStopped { return false }
            guard credit.inFlight + credit.handed < UInt64(Limits.sendWindowBytes) else { return nil }
            credit.handed += UInt64(bytes)
            return true
        }
        guard mayGoOn == true else { throw Stopped() }
        let frame = message.frame(epoch: node.epoch)
        let connection = connection
        let sent = sent
        let credit = credit
        connection.eventLoop.execute {
            let inFlight = sent(bytes)
            credit.withLock { credit in
                credit.handed -= UInt64(bytes)
                credit.inFlight = inFlight
            }
            connection.traffic.sentRaw(UInt64(raw))
            connection.write(frame)
        }
    }

    // MARK: The tree

    private func sendTree(withContent: Bool) throws {
        while node.signal.ready.wait(timeoutNanoseconds: 1_000_000_000, until: { $0 ? true : nil }) == nil {
            if credit.withLock({ $0.isStopped }) { throw Stopped() }
        }
        while try !node.servesTree {
            if credit.wait(timeoutNanoseconds: 100_000_000, until: { $0.isStopped ? true : nil }) == true {
                throw Stopped()
            }
        }
        // The network takes as long as it likes, so nothing of the catalog may be held meanwhile.
        try node.catalog.copy(in: node.host.folder.path + "/staging").read { catalog in
            let state = catalog.state
            guard state.isWholeTree else {
                throw NodeError(.failed, "the tree is about to be put right; connect again")
            }
            let begin = SyncBegin(
                position: state.position, treeDigest: state.treeDigest, lastObject: state.lastObject,
                objectCount: state.objectCount, contentBytes: state.contentBytes)
            try send(.syncBegin(begin), bytes: 0)
            var walk = try TreeWalk(catalog: catalog, root: node.root, withContent: withContent)
            defer { walk.finish() }
            while let batch = try walk.next() {
                try sendEntries(batch.entries)
                // Content too large for an entry follows the entries that need it, in their order.
                for row in batch.large { try sendBlocks(row.blockRequests, catalog) }
            }
            try send(.syncEnd, bytes: 0)
        }
    }

    private func sendEntries(_ entries: ChangeWriter) throws {
        guard !entries.isEmpty else { return }
        let raw = entries.body.bytes
        var message = SyncEntries(
            count: entries.entryCount, codec: .none, rawBytes: UInt32(raw.count), bytes: raw)
        if compresses, let small = raw.withUnsafeBytes({ Deflate.compress($0, level: 1) }) {
            message.codec = .zlib
            message.bytes = small
        }
        try send(.syncEntries(message), bytes: message.bytes.count, raw: message.rawBytes)
    }

    // MARK: Blocks

    /// Files that are open at once.
    private static let openFiles = 64

    /// Answers in order. Whatever is not there, or not what was asked for, is gone.
    private func sendBlocks(_ requests: [BlockRequest]) throws {
        let handles = TreeHandles(root: node.root)
        var rest = requests[...]
        while !rest.isEmpty {
            var runs: [ArraySlice<BlockRequest>] = []
            while let first = rest.first, runs.count < Self.openFiles {
                let run = rest.prefix { $0.object == first.object }
                runs.append(run)
                rest = rest.dropFirst(run.count)
            }
            var files = try open(runs.map { $0[$0.startIndex].object }, handles)
            for (index, run) in runs.enumerated() { try send(run, from: files[index]) }
            files.removeAll()
        }
    }

    /// How often, and for how long, to wait for the catalog.
    private static let catalogPauses = 500
    private static let catalogPauseNanoseconds: UInt64 = 2_000_000

    /// Opened in one look at the catalog, which must not wait for the network.
    ///
    /// The log comes first and the catalog after it, so a replica may ask for what the catalog is still to hear of. To tell
    /// it then that this is gone would cost it a second question a second later.
    private func open(_ objects: [ObjectID], _ handles: TreeHandles) throws -> [OpenFile] {
        let end = node.logView.durableEnd.seq
        for pause in 0... {
            let files: [OpenFile]? = try node.catalog.read { catalog in
                if catalog.state.position.seq < end, pause < Self.catalogPauses,
                    try objects.contains(where: { try catalog.places(of: $0).isEmpty })
                {
                    return nil
                }
                return try objects.map { OpenFile(try open($0, handles, catalog)) }
            }
            if let files { return files }
            if credit.wait(timeoutNanoseconds: Self.catalogPauseNanoseconds, until: { $0.isStopped ? true : nil })
                == true
            {
                throw Stopped()
            }
        }
        return []
    }

    private func sendBlocks(_ requests: [BlockRequest], _ catalog: CatalogTransaction) throws {
        guard let first = requests.first else { return }
        try send(requests[...], from: OpenFile(try open(first.object, TreeHandles(root: node.root), catalog)))
    }

    private func send(_ run: ArraySlice<BlockRequest>, from file: OpenFile) throws {
        for request in run {
            guard let bytes = try file.read(request), bytes.count == Int(request.block.length),
                Digest(of: bytes) == request.block.digest
            else {
                try sendGone(request)
                continue
            }
            var answer = BlockAnswer(
                object: request.object, offset: request.offset, rawBytes: request.block.length, codec: .none,
                isGone: false, bytes: bytes)
            if compresses, let small = bytes.withUnsafeBytes({ Deflate.compress($0, level: 1) }) {
                answer.codec = .zlib
                answer.bytes = small
            }
            try send(.block(answer), bytes: answer.bytes.count, raw: answer.rawBytes)
        }
        try file.close()
    }

    private func sendGone(_ request: BlockRequest) throws {
        let answer = BlockAnswer(
            object: request.object, offset: request.offset, rawBytes: request.block.length, codec: .none,
            isGone: true, bytes: [])
        try send(.block(answer), bytes: 0)
    }

    private func open(_ object: ObjectID, _ handles: TreeHandles, _ catalog: CatalogTransaction) throws -> File? {
        for place in try catalog.places(of: object) {
            guard let directory = try handles.directory(place.parent, catalog) else { continue }
            do throws(SystemError) {
                guard try directory.status(of: place.name).kind == .file else { continue }
                return try directory.openFile(place.name)
            } catch {
                // Renamed, removed or not to be read: the answer is that it is gone, and the log tells the rest.
                continue
            }
        }
        return nil
    }
}

/// A file that many may be opened of before the first is read; nil where there was none.
private final class OpenFile {
    private var file: File?

    init(_ file: consuming File?) {
        self.file = file
    }

    func read(_ request: BlockRequest) throws(SystemError) -> [UInt8]? {
        try file?.read(count: Int(request.block.length), at: request.offset)
    }

    func close() throws(SystemError) {
        try file.take()?.close()
    }
}
