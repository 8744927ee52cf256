import WALFormat
import WALLog
import WALNode
import WALTestKit
import WALWire

/// A primary: what `PrimaryNode`, `LogSink`, `SenderRole`, `Electorate` and `Herald` do, as far as it is about the log,
/// its acknowledgements and epochs.
final class Primary {
    unowned let node: Node
    let writer: LogWriter
    let epoch: UInt64
    let history: HistoryID
    let syncReplicas: Int
    private let beganAt: Position
    private(set) var registry: [String: Entry] = [:]
    private var senders: [Sender] = []
    /// Clients that wait until so many replicas have something.
    private var waiting: [(position: Position, count: Int)] = []
    /// Captures nothing until that time, unless it is fenced before.
    private var drainedUntil: UInt64?
    private var drained: [(Position) -> Void] = []
    private var isCapturing = false

    struct Entry {
        var address: String
        var durable: UInt64
        var groupTag: UInt64 = 0
        var sender: Sender?
        var lastContact: UInt64
    }

    private var world: World { node.world }
    private var disk: Disk { node.disk }
    private var isOver: Bool { node.primary !== self }

    init(_ node: Node, isStart: Bool) throws {
        self.node = node
        epoch = node.file.epoch
        history = node.history
        var opened: LogWriter?
        try node.perform { opened = try node.openLog() }
        let writer = opened!
        self.writer = writer
        // What was promised to clients is promised on.
        syncReplicas = max(node.world.options.syncReplicas, Int(node.file.votersNeeded ?? 0))
        try Self.catchUp(node, writer)
        if node.file.isAppointed == true, writer.end.epoch < epoch { try Self.beginEpoch(node, writer) }
        beganAt = writer.end
        node.say("leads epoch \(epoch) from \(beganAt.short)")
        try node.world.checks.began(node, epoch: epoch, at: writer.durableEnd)
        if isStart { askWhetherDeposed() } else { serve() }
    }

    /// The log is first and the catalog second, so after a crash the catalog may be behind. It is never ahead.
    static func catchUp(_ node: Node, _ writer: LogWriter) throws {
        var catalog = node.disk.catalog
        guard try writer.view.holds(catalog.position) else {
            throw SimulationFailure(
                "\(node.name): its tree is at \(catalog.position.short), its log at \(writer.end.short)")
        }
        var cursor = try writer.view.cursor(after: catalog.position.seq)
        while let location = try cursor.next() {
            try catalog.tree.apply(try location.read())
            catalog.position = location.position
        }
        catalog.whole = catalog.position
        node.disk.catalog = catalog
    }

    private static func beginEpoch(_ node: Node, _ writer: LogWriter) throws {
        guard node.world.mutation != .epochBeginsSilently else { return }
        try node.update { $0.noteStart(after: writer.end) }
        let context = SegmentContext(
            history: node.history, epoch: node.file.epoch, previous: writer.end, captureTime: Int64(node.world.now),
            treeDigest: node.disk.catalog.tree.digest, lastObject: Tree.lastObject, flags: [])
        let segment = Segment(ChangeWriter(), context: context, compression: .none)
        node.world.checks.made(segment, by: node)
        try node.perform {
            try writer.append(segment)
            try writer.sync()
        }
        node.disk.catalog.position = writer.end
        node.disk.catalog.whole = writer.end
        node.disk.checkpoint()
    }

    func stop() throws {
        waiting = []
        for sender in senders { try sender.end.close() }
    }

    private func serve() {
        // Somebody asks whether what was there already is safe.
        ask(for: writer.end)
        captureSoon()
        visitSoon()
        checkpointSoon()
    }

    // MARK: Capture

    private func captureSoon() {
        node.after(.milliseconds(world.random.int(in: 1...world.options.slowestWriteMilliseconds))) { [self] in
            if !isOver { try capture() }
        }
    }

    private func capture() throws {
        guard drainedUntil == nil else { return }
        guard world.mayWrite else { return captureSoon() }
        isCapturing = true
        var tree = disk.catalog.tree
        let changes = try tree.change(&world.random, stamp: world.nextStamp())
        let context = SegmentContext(
            history: history, epoch: epoch, previous: writer.end, captureTime: Int64(world.now),
            treeDigest: tree.digest, lastObject: Tree.lastObject, flags: [])
        let segment = Segment(changes, context: context, compression: .none)
        world.checks.made(segment, by: node)
        try prune(adding: UInt64(segment.bytes.count))
        try node.perform { try writer.append(segment) }
        node.after(UInt64(world.random.int(in: 50_000...(world.options.slowestSyncMilliseconds * 1_000_000)))) {
            [self] in
            try node.perform { try writer.sync() }
            disk.catalog.tree = tree
            disk.catalog.position = segment.position
            disk.catalog.whole = segment.position
            try world.checks.logged(node)
            ask(for: segment.position)
            try pump()
            try answer()
            isCapturing = false
            captureSoon()
            tellDrained()
        }
    }

    var isDrained: Bool { drainedUntil != nil && !isCapturing }

    /// Captures nothing more until somebody takes over. If nobody does, it goes on by itself a minute after it was asked
    /// last.
    func drain(_ done: @escaping (Position) -> Void) throws {
        drainedUntil = world.now + .seconds(60)
        drained.append(done)
        tellDrained()
        node.after(.seconds(60)) { [self] in
            if let until = drainedUntil, world.now >= until { try undrain() }
        }
    }

    private func tellDrained() {
        guard isDrained else { return }
        let asked = drained
        drained = []
        for done in asked { done(writer.durableEnd) }
    }

    /// The role begins anew.
    func undrain() throws {
        guard drainedUntil != nil, !isOver else { return }
        drainedUntil = nil
        node.say("is not drained any more")
        try node.endRole()
    }

    /// A client waits for it, or not: of what nobody waits for it hears only that it was logged.
    private func ask(for position: Position) {
        let count = max(syncReplicas, world.random.int(in: 0...2))
        if count > 0, position.seq > 0 { waiting.append((position, count)) }
    }

    private func prune(adding bytes: UInt64) throws {
        let keeping = world.mutation == .prunesUnapplied ? .max : disk.durableCatalog.position.seq
        let verdict = Retention.prunableThrough(
            files: writer.view.files, slots: registry.values.map(\.durable), now: Int64(world.now),
            policy: world.options.retention, adding: bytes, keeping: keeping)
        if let through = verdict.through { try node.perform { try writer.prune(through: through) } }
    }

    /// The catalog becomes durable now and then.
    private func checkpointSoon() {
        node.after(.milliseconds(world.random.int(in: 1...3000))) { [self] in
            guard !isOver else { return }
            disk.checkpoint()
            checkpointSoon()
        }
    }

    private func pump() throws {
        for sender in senders { try sender.pump() }
    }

    // MARK: Who acknowledges

    /// As it is told to the replicas.
    var group: Group {
        Group(
            leader: node.address, syncReplicas: neededSoon,
            members: members.map { Group.Member(name: $0.name, address: $0.address) }, epochs: node.file.epochs ?? [])
    }

    private var members: [NodeFile.Member] {
        (node.file.members ?? []).map { member in
            NodeFile.Member(name: member.name, address: registry[member.name]?.address ?? member.address)
        }.sorted { $0.name < $1.name }
    }

    /// Those that are to be told of: one at a time.
    private var newcomers: [NodeFile.Member] {
        let known = Set((node.file.members ?? []).map(\.name))
        let new = registry.filter { $0.value.sender != nil && !known.contains($0.key) }.sorted { $0.key < $1.key }
            .map { NodeFile.Member(name: $0.key, address: $0.value.address) }
        return world.mutation == .addsManyAtOnce ? new : Array(new.prefix(1))
    }

    private var neededSoon: UInt32 {
        let wanted = UInt32(world.options.syncReplicas)
        let known = node.file.votersNeeded ?? 0
        guard wanted > known else { return wanted }
        return count(of: node.file.voters ?? []) { $0.durable >= beganAt.seq } >= Int(wanted) ? wanted : known
    }

    private func count(of names: [String], _ isMet: (Entry) -> Bool) -> Int {
        names.count { registry[$0].map(isMet) ?? false }
    }

    /// Puts the group in force that the replicas were told of, where enough have noted it, and tells of the next.
    private func groupNoted() throws {
        while try settle() {}
    }

    /// The group in force is the one that was told, and no other was.
    var isSettled: Bool { Set((node.file.members ?? []).map(\.name)) == Set(node.file.voters ?? []) }

    private func settle() throws -> Bool {
        let file = node.file
        let names = members.map(\.name)
        let voters = file.voters ?? []
        if Set(names) == Set(voters), neededSoon == file.votersNeeded ?? 0 {
            let next = (members + newcomers).sorted { $0.name < $1.name }
            guard next != file.members ?? [] else { return false }
            try node.update { $0.members = next }
            return true
        }
        let quorum = Quorum(replicas: voters.count, needed: Int(file.votersNeeded ?? 0))
        guard count(of: voters, { $0.groupTag == group.tag }) >= quorum.notes else { return false }
        let (members, needed) = (members, neededSoon)
        try node.update { file in
            file.members = members
            file.voters = names
            file.votersNeeded = needed
        }
        node.say("counts \(names.joined(separator: ", ")), of whom \(needed) must have what is safe")
        return true
    }

    /// Answers the clients whose writes are safe.
    private func answer() throws {
        let voters = world.mutation == .everybodyCounts ? Array(registry.keys) : node.file.voters ?? []
        for (position, needed) in waiting {
            guard count(of: voters, { $0.durable >= position.seq }) >= needed else { continue }
            try world.checks.acknowledged(position, by: node, replicas: needed)
        }
        waiting.removeAll { waiter in count(of: voters) { $0.durable >= waiter.position.seq } >= waiter.count }
    }

    // MARK: Replicas

    func accept(_ end: Connection.End) {
        let sender = Sender(self, end)
        senders.append(sender)
        end.begin(sender)
    }

    /// False when a living connection of the same name has spoken lately.
    fileprivate func connect(_ hello: Hello, _ sender: Sender) throws -> Bool {
        let known = registry[hello.node]
        if let known, known.sender != nil, world.now - known.lastContact < 2 * SenderMachine.heartbeatNanoseconds {
            return false
        }
        registry[hello.node] = Entry(
            address: hello.address, durable: min(known?.durable ?? 0, hello.position.seq), sender: sender,
            lastContact: world.now)
        try groupNoted()
        try pump()
        return true
    }

    fileprivate func update(_ name: String, by sender: Sender, _ body: (inout Entry) -> Void) throws {
        guard registry[name]?.sender === sender, !isOver else { return }
        body(&registry[name]!)
        registry[name]!.lastContact = world.now
        try groupNoted()
        try answer()
    }

    fileprivate func disconnect(_ name: String?, _ sender: Sender) {
        senders.removeAll { $0 === sender }
        if let name, registry[name]?.sender === sender { registry[name]!.sender = nil }
    }

    fileprivate func standing(of position: Position) throws -> SenderMachine.Standing {
        if world.mutation == .chainUnchecked, position.seq >= writer.view.base.seq,
            position.seq <= writer.view.durableEnd.seq
        {
            return .held()
        }
        return try writer.view.standing(of: position)
    }

    // MARK: The rest of the group

    private var absent: [Node] {
        let connected = Set(registry.filter { $0.value.sender != nil }.keys)
        let members = (node.file.members ?? []).filter { !connected.contains($0.name) }.map(\.address)
        let known = Set(
            members + [node.file.formerLeader].compactMap { $0 }
                + registry.filter { $0.value.sender == nil }.map(\.value.address))
        let present = Set(registry.filter { $0.value.sender != nil }.map(\.value.address))
        return world.nodes.filter { known.subtracting(present).contains($0.address) && $0 !== node }
    }

    /// One that was away may have been deposed meanwhile: whoever of the group can be reached is asked, before anything
    /// is acknowledged.
    private func askWhetherDeposed() {
        var heard: [Node.Status] = []
        for other in absent {
            world.network.ask(from: node.place, other, seconds: 2) {
                $1($0.status)
            } done: { (status: Node.Status?) in
                if let status { heard.append(status) }
            }
        }
        node.after(.seconds(2)) { [self] in
            guard !isOver else { return }
            let later = heard.filter { $0.promisedEpoch > epoch }.max { $0.promisedEpoch < $1.promisedEpoch }
            guard let later else { return serve() }
            try node.fence(later.promisedEpoch, leader: Self.leader(later))
        }
    }

    private static func leader(_ status: Node.Status) -> String? {
        status.role == .primary ? Node.address(status.place) : status.leader
    }

    private func visitSoon() {
        node.after(.seconds(2)) { [self] in
            guard !isOver else { return }
            for other in absent { visit(other) }
            visitSoon()
        }
    }

    private func visit(_ other: Node) {
        world.network.ask(from: node.place, other, seconds: 5) {
            $1($0.status)
        } done: {
            [self] (status: Node.Status?) in
            guard let status, !isOver else { return }
            if status.promisedEpoch > epoch { return try node.fence(status.promisedEpoch, leader: Self.leader(status)) }
            guard node.file.isAppointed == true, status.role != .primary || status.promisedEpoch < epoch else { return }
            let (own, epoch) = (node.address, epoch)
            world.network.ask(from: node.place, other, seconds: 5) { (other: Node, answer: @escaping (Bool?) -> Void) in
                if status.role == .replica {
                    try other.follow(own, epoch: epoch, done: answer)
                } else {
                    try other.fence(epoch, leader: own, done: answer)
                }
            } done: { (_: Bool?) in
            }
        }
    }

    fileprivate func deposed(_ epoch: UInt64) throws { try node.fence(epoch, leader: nil) }
}

/// The sender's end of one replica's connection.
final class Sender: ConnectionUser {
    private unowned let primary: Primary
    let end: Connection.End
    private var machine: SenderMachine
    private var reader = FrameReader()
    private var cursor: LogCursor?
    private var current: (location: LogLocation, offset: UInt64)?
    private var skipping: UInt64 = 0
    private var isOnHistory = false
    private var toldGroup: Group?

    init(_ primary: Primary, _ end: Connection.End) {
        self.primary = primary
        self.end = end
        machine = SenderMachine(history: primary.history, epoch: primary.epoch, now: primary.node.world.now)
        let hello = Hello(
            role: .sender, node: primary.node.name, history: primary.history,
            promisedEpoch: primary.node.file.promisedEpoch, position: primary.writer.durableEnd,
            address: primary.node.address)
        send(.hello(hello))
    }

    private var world: World { primary.node.world }

    private func send(_ message: Message) { end.send(message.frame(epoch: primary.epoch)) }

    func received(_ bytes: [UInt8]) throws {
        machine.heard(now: world.now)
        reader.take(bytes)
        while end.isOpen, let (message, epoch) = try reader.next() { try received(message, epoch) }
    }

    private func received(_ message: Message, _ epoch: UInt64) throws {
        if case .hello(let hello) = message, machine.peer == nil {
            guard try primary.connect(hello, self) else {
                return try perform(machine.refuse(Refusal(.busy, "\(hello.node) is connected already")))
            }
            if case .held = try primary.standing(of: hello.position) { isOnHistory = true }
        }
        var failure: (any Error)?
        let actions = machine.received(message, epoch: epoch, now: world.now) { position in
            do { return try primary.standing(of: position) } catch {
                failure = error
                return .pruned
            }
        }
        if let failure { throw failure }
        try perform(actions)
        tellGroup()
        try pump()
    }

    func tick() throws {
        tellGroup()
        let beat = Heartbeat(position: primary.writer.durableEnd, captureTime: 0, clock: Int64(world.now))
        try perform(machine.tick(now: world.now) { beat })
    }

    func writable() throws { try pump() }

    func closed() throws { primary.disconnect(machine.peer?.node, self) }

    private func tellGroup() {
        guard machine.isOpen, end.isOpen, primary.group != toldGroup else { return }
        toldGroup = primary.group
        send(.group(primary.group))
    }

    private func perform(_ actions: [SenderMachine.Action]) throws {
        for action in actions {
            switch action {
            case .send(let message): send(message)
            case .stream(let seq, let skipping):
                cursor = try primary.writer.view.cursor(after: seq)
                self.skipping = skipping
                current = nil
            case .beginSync: beginSync()
            case .answer: break
            case .progress(let ack): try progress(ack)
            case .deposed(let epoch): try primary.deposed(epoch)
            case .close: try end.close()
            }
        }
    }

    private func progress(_ ack: Ack) throws {
        guard let name = machine.peer?.node else { return }
        let counts = machine.isStreaming || isOnHistory
        let durable = counts ? min(ack.durable, primary.writer.durableEnd.seq) : 0
        try primary.update(name, by: self) { entry in
            entry.durable = durable
            entry.groupTag = ack.groupTag
        }
    }

    /// The tree as it stands, at the log's end.
    private func beginSync() {
        let catalog = primary.node.disk.catalog
        let listing = catalog.tree.listing
        let begin = SyncBegin(
            position: catalog.position, treeDigest: catalog.tree.digest, lastObject: Tree.lastObject,
            objectCount: UInt64(listing.entryCount / 2), contentBytes: 0)
        send(.syncBegin(begin))
        if listing.entryCount > 0 {
            let bytes = listing.body.bytes
            send(
                .syncEntries(
                    SyncEntries(
                        count: listing.entryCount, codec: .none, rawBytes: UInt32(bytes.count), bytes: bytes)))
            machine.sent(bytes: bytes.count, now: world.now)
        }
        send(.syncEnd)
    }

    /// Sends as much of the log as window and line take.
    func pump() throws {
        guard machine.isStreaming, end.isOpen, cursor != nil else { return }
        do throws(LogError) {
            while machine.canSend, end.unsentBytes < 64 << 10 {
                if current == nil {
                    guard let next = try cursor!.next() else { break }
                    current = (next, skipping < next.length ? skipping : 0)
                    skipping = 0
                }
                try sendPiece()
            }
        } catch {
            guard case .pruned = error else { throw error }
            try end.close()
        }
    }

    private func sendPiece() throws(LogError) {
        let (location, offset) = current!
        let count = min(UInt64(world.random.int(in: 1...world.options.pieceBytes)), location.length - offset)
        let bytes = try location.readBytes(at: offset, count: Int(count))
        send(
            .segmentPart(
                SegmentPart(seq: location.header.seq, offset: offset, total: location.length, bytes: bytes)))
        machine.sent(bytes: Int(count), now: world.now)
        current = offset + count == location.length ? nil : (location, offset + count)
    }
}
