import WALFormat
import WALLog
import WALNode
import WALTestKit
import WALWire

/// A replica: what `ReplicaNode`, `ReceiverRole`, `LogWorker` and `ApplyWorker` do, as far as it is about the log, its
/// acknowledgements and epochs.
final class Replica {
    unowned let node: Node
    private(set) var writer: LogWriter
    private var link: Receiver?
    /// What a lost connection still has to do when all that came over it is in the log.
    private var barriers: [() throws -> Void] = []
    private var queue: [[UInt8]] = []
    private var isLogging = false
    private var isApplying = false
    private var session: Session?
    private var isDraining = false
    private var drained: ((Bool) throws -> Void)?
    private(set) var isEmpty: Bool
    private(set) var needsSync: Bool
    private(set) var isDiverged = false
    private(set) var durable: Position
    private(set) var primaryEpoch: UInt64 = 0
    private var groupTag: UInt64 = 0
    fileprivate var partial: [UInt8] = []
    // Whom to dial.
    private var preferred: Int?
    private var turn = 0
    private var redirects = 0
    private var pauseMilliseconds = 100
    private var dial = 0

    private struct Session {
        var link: Receiver
        var begin: SyncBegin
        var tree = Tree()
    }

    private var world: World { node.world }
    private var disk: Disk { node.disk }
    var isLinked: Bool { link != nil }
    var isWhole: Bool { !isEmpty && !needsSync && session == nil && !isDiverged }

    init(_ node: Node) throws {
        self.node = node
        let position = node.disk.catalog.position
        var opened: LogWriter?
        try node.perform {
            let writer = try node.openLog()
            // A reconcile moves the catalog first and the log after it; a crash in between is finished here.
            if position.seq > 0, try !writer.view.holds(position) { try writer.reset(to: position) }
            opened = writer
        }
        writer = opened!
        durable = writer.durableEnd
        isEmpty = position.seq == 0
        needsSync = position.seq > 0 && node.disk.catalog.mustReconcile
        node.after(.milliseconds(node.world.random.int(in: 1...200))) { [self] in dialNow() }
        applySoon()
    }

    func stop() throws {
        let left = link
        link = nil
        try left?.end.close()
    }

    var ack: Ack {
        let end = world.mutation == .acknowledgesBeforeSync ? writer.end : durable
        return Ack(
            received: end.seq, durable: end.seq, applied: disk.catalog.whole.seq, consumedBytes: 0,
            isSyncing: needsSync || session != nil, clock: Int64(world.now), groupTag: groupTag)
    }

    // MARK: The connection

    func appoint(_ address: String) {
        preferred = world.place(of: address)
        redirects = 0
        turn = 0
    }

    /// Dials at once, where it waits before it dials again.
    func hurry() {
        guard link == nil else { return }
        dial += 1
        pauseMilliseconds = 100
        dialNow()
    }

    private func dialNow() {
        guard link == nil, !isDraining else { return dialLater() }
        var list = (0..<world.nodes.count).filter { $0 != node.place }
        if let appointed = node.file.upstream.flatMap({ world.place(of: $0) }), appointed != node.place {
            list.insert(appointed, at: 0)
        }
        let place: Int
        if let preferred {
            place = preferred
            self.preferred = nil
        } else {
            place = list[turn % list.count]
            turn += 1
        }
        guard place != node.place else { return dialLater() }
        let number = dial
        let connected = { [self] (ends: (Connection.End, Connection.End)?) throws in
            guard let ends else { return dial == number ? dialLater() : () }
            guard dial == number, link == nil, !isDraining, node.replica === self else { return try ends.0.close() }
            try begin(ends.0)
            try world.nodes[place].accept(ends.1)
        }
        world.network.connect(from: node, to: world.nodes[place]) { [self] ends in
            if node.replica === self { try connected(ends) } else { try ends?.0.close() }
        }
    }

    private func dialLater() {
        let pause = pauseMilliseconds
        pauseMilliseconds = min(2 * pause, 5000)
        dial += 1
        let number = dial
        node.after(.milliseconds(world.random.int(in: pause / 2...pause))) { [self] in
            if dial == number { dialNow() }
        }
    }

    private func begin(_ end: Connection.End) throws {
        var flags: Hello.Flags = .primaryOnly
        if isEmpty { flags.insert(.empty) }
        if needsSync { flags.insert(.needsSync) }
        let hello = Hello(
            role: .receiver, flags: flags, node: node.name, history: node.history,
            promisedEpoch: world.mutation == .epochUnchecked ? 0 : node.file.promisedEpoch, position: durable,
            partialBytes: UInt64(partial.count), address: node.address)
        let receiver = Receiver(self, end, hello)
        link = receiver
        end.begin(receiver)
        receiver.send(.hello(hello))
    }

    /// Returns when all that came over the connection to the primary is in the log.
    func leaveLink(_ done: @escaping () throws -> Void) throws {
        guard let left = link else { return try whenLogged(done) }
        try left.end.close()
        try whenLogged(done)
    }

    private func whenLogged(_ done: @escaping () throws -> Void) throws {
        let done = node.still(done)
        guard queue.isEmpty, !isLogging, !isMidSync else { return barriers.append(done) }
        try done()
    }

    private func passBarriers() throws {
        guard queue.isEmpty, !isLogging, !isMidSync else { return }
        let passed = barriers
        barriers = []
        for barrier in passed { try barrier() }
    }

    fileprivate func closed(_ receiver: Receiver) throws {
        guard link === receiver else { return }
        partial = receiver.machine.kept()
        if session?.link === receiver, !isMidSync { session = nil }
        // The next hello must tell where the log ends, so all that came over this connection is worked off first.
        try whenLogged { [self] in
            guard link === receiver else { return }
            link = nil
            dialLater()
        }
    }

    fileprivate func redirected(to address: String) {
        guard let place = world.place(of: address), place != node.place else { return }
        redirects += 1
        if redirects <= 5 { preferred = place }
    }

    fileprivate func diverged() { isDiverged = true }

    fileprivate func welcomed(_ receiver: Receiver, _ welcome: Welcome, _ sender: Hello) throws {
        isDiverged = false
        let epoch = receiver.machine.epoch
        if epoch > node.file.epoch { try node.update { $0.promise(atLeast: epoch) } }
        redirects = 0
        pauseMilliseconds = 100
        preferred = world.place(of: sender.address)
        primaryEpoch = sender.promisedEpoch
        node.say("welcomed by \(sender.node) of epoch \(epoch) at \(durable.short): \(welcome.way)")
        try world.checks.welcomed(node, by: sender, epoch: epoch)
    }

    fileprivate func note(_ group: Group) throws {
        try node.update { $0.note(group) }
        groupTag = group.tag
        link?.acknowledge()
    }

    // MARK: The log

    fileprivate func enqueue(_ bytes: [UInt8]) {
        queue.append(bytes)
        logSoon()
    }

    private func logSoon() {
        guard !isLogging, !queue.isEmpty else { return }
        isLogging = true
        node.after(UInt64(world.random.int(in: 10_000...2_000_000))) { [self] in try logGroup() }
    }

    private func logGroup() throws {
        let count = world.random.int(in: 1...queue.count)
        let group = queue.prefix(count)
        queue.removeFirst(count)
        for bytes in group {
            guard let segment = try? Segment(verifying: bytes) else {
                throw SimulationFailure("a segment came damaged to \(node.name)")
            }
            guard try append(segment) else { break }
        }
        if world.mutation == .acknowledgesBeforeSync { link?.acknowledge() }
        node.after(UInt64(world.random.int(in: 50_000...(world.options.slowestSyncMilliseconds * 1_000_000)))) {
            [self] in
            try node.perform { try writer.sync() }
            try logged()
        }
    }

    /// False where it does not follow: what comes after it does not, either.
    private func append(_ segment: Segment) throws -> Bool {
        do {
            try node.perform { try writer.append(segment) }
            return true
        } catch LogError.notNext(let seq, let fault) {
            if world.mutation == .chainUnchecked, case .chain(let own, _) = fault {
                let forged = try segment.resealed(after: own)
                try node.perform { try writer.append(forged) }
                return true
            }
            node.say("got segment \(seq), which does not follow: \(fault)")
            queue = []
            node.after(0) { [self] in try link?.end.close() }
            return false
        }
    }

    private func logged() throws {
        isLogging = false
        durable = writer.durableEnd
        try world.checks.logged(node)
        link?.acknowledge()
        logSoon()
        applySoon()
        try passBarriers()
    }

    // MARK: Apply

    private func applySoon() {
        guard !isApplying else { return }
        guard !needsSync, !isEmpty, !isMidSync, disk.catalog.position.seq < durable.seq else {
            if let drained, isDraining, queue.isEmpty, !isLogging, isWhole, disk.catalog.whole.seq == durable.seq {
                self.drained = nil
                node.after(0) { try drained(true) }
            }
            return
        }
        isApplying = true
        node.after(UInt64(world.random.int(in: 100_000...(world.options.slowestApplyMilliseconds * 1_000_000)))) {
            [self] in try applyBatch()
        }
    }

    private func applyBatch() throws {
        isApplying = false
        guard !needsSync, !isMidSync else { return }
        var catalog = disk.catalog
        var left = world.random.int(in: 1...8)
        var cursor = try writer.view.cursor(after: catalog.position.seq)
        while left > 0, let location = try cursor.next() {
            let segment = try location.read()
            try catalog.tree.apply(segment)
            guard catalog.tree.digest == segment.header.treeDigest else {
                throw SimulationFailure("the tree of \(node.name) differs at segment \(segment.header.seq)")
            }
            catalog.position = location.position
            left -= 1
        }
        catalog.whole = catalog.position
        disk.catalog = catalog
        disk.checkpoint()
        link?.acknowledge()
        try prune()
        applySoon()
    }

    /// What is applied may go when it is old or the budget says so; what is not applied stays.
    private func prune() throws {
        let applied = world.mutation == .prunesUnapplied ? .max : disk.catalog.whole.seq
        let verdict = Retention.prunableThrough(
            files: writer.view.files, slots: [applied], now: Int64(world.now), policy: world.options.retention,
            keeping: applied)
        if let through = verdict.through { try node.perform { try writer.prune(through: through) } }
    }

    func drain(_ done: @escaping (Bool) throws -> Void) throws {
        isDraining = true
        try leaveLink { [self] in
            drained = done
            applySoon()
            node.after(.seconds(50)) { [self] in
                guard let left = drained else { return }
                drained = nil
                isDraining = false
                try left(false)
            }
        }
    }

    // MARK: Sync

    fileprivate func begin(_ begin: SyncBegin, over link: Receiver) {
        session = Session(link: link, begin: begin)
    }

    fileprivate func take(_ entries: SyncEntries) throws {
        try session?.tree.apply(entries.bytes, entryCount: entries.count)
    }

    /// All has come, and is being put into the tree: that cannot be interrupted but by a crash.
    private var isMidSync = false

    fileprivate func endSync(of receiver: Receiver) throws {
        guard let session, session.link === receiver else { return }
        guard session.tree.digest == session.begin.treeDigest else {
            throw SimulationFailure("a listing of \(session.begin.position.short) has another digest")
        }
        isMidSync = true
        let history = receiver.senderHistory
        node.after(.milliseconds(world.random.int(in: 1...200))) { [self] in
            // Before the tree is at a position of it: a position without its history could go on with another.
            try node.update { file in if file.history == nil { file.history = history.description } }
            let position = session.begin.position
            disk.catalog = Disk.Catalog(position: position, whole: position, tree: session.tree)
            disk.checkpoint()
            node.after(UInt64(world.random.int(in: 10_000...5_000_000))) { [self] in
                try node.perform { try writer.reset(to: position, history: node.history) }
                durable = position
                isEmpty = false
                needsSync = false
                self.session = nil
                isMidSync = false
                node.say("has synced to \(position.short)")
                try world.checks.logged(node)
                try receiver.syncDone(position)
                link?.acknowledge()
                applySoon()
                try passBarriers()
            }
        }
    }
}

/// The receiver's end of a connection.
final class Receiver: ConnectionUser {
    private unowned let replica: Replica
    let end: Connection.End
    private(set) var machine: ReceiverMachine
    private var reader = FrameReader()
    private(set) var senderHistory = HistoryID.none

    init(_ replica: Replica, _ end: Connection.End, _ hello: Hello) {
        self.replica = replica
        self.end = end
        machine = ReceiverMachine(own: hello, partial: replica.partial, now: replica.node.world.now)
    }

    private var now: UInt64 { replica.node.world.now }

    func send(_ message: Message) { end.send(message.frame(epoch: replica.node.file.promisedEpoch)) }

    func received(_ bytes: [UInt8]) throws {
        machine.heard(now: now)
        reader.take(bytes)
        while end.isOpen, let (message, epoch) = try reader.next() {
            try perform(machine.received(message, epoch: epoch, now: now))
        }
    }

    func tick() throws {
        let ack = try checkedAck()
        try perform(machine.tick(now: now) { ack })
    }

    func closed() throws { try replica.closed(self) }

    func acknowledge() {
        guard machine.isOpen, end.isOpen else { return }
        do { send(.ack(try checkedAck())) } catch { replica.node.world.fail(error) }
        machine.sent(now: now)
    }

    private func checkedAck() throws -> Ack {
        var ack = replica.ack
        ack.consumedBytes = machine.consumedBytes
        try replica.node.world.checks.acknowledges(replica.node, ack)
        return ack
    }

    func syncDone(_ position: Position) throws { try perform(machine.syncDone(position)) }

    private func perform(_ actions: [ReceiverMachine.Action]) throws {
        for action in actions {
            switch action {
            case .send(let message): send(message)
            case .welcomed(let welcome, let sender):
                senderHistory = sender.history
                try replica.welcomed(self, welcome, sender)
                if welcome.way == .stream { acknowledge() }
            case .segment(let bytes): replica.enqueue(bytes)
            case .syncBegin(let begin): replica.begin(begin, over: self)
            case .content(.syncEntries(let entries)): try replica.take(entries)
            case .content(.syncEnd): try replica.endSync(of: self)
            case .content: break
            case .heartbeat: break
            case .group(let group): try replica.note(group)
            case .refused(let refusal):
                replica.node.say("is refused: \(refusal.text)")
                replica.redirected(to: refusal.address)
                if refusal.code == .diverged || refusal.code == .unknownHistory { replica.diverged() }
                try end.close()
            case .close(let reason):
                replica.node.say("closes the connection to its primary: \(reason)")
                try end.close()
            }
        }
    }
}

extension Segment {
    /// The same entries after another past; see ``Mutation/chainUnchecked``.
    fileprivate func resealed(after chain: Digest) throws -> Segment {
        var tree = Tree()
        try tree.apply(self)
        let context = SegmentContext(
            history: header.history, epoch: header.epoch,
            previous: Position(epoch: header.epoch, seq: header.seq - 1, chain: chain), captureTime: header.captureTime,
            treeDigest: header.treeDigest, lastObject: header.lastObject, flags: header.flags)
        return Segment(tree.listing, context: context, compression: .none)
    }
}
