import WALFormat
import WALLog
import WALNode
import WALTestKit
import WALWire

/// A tree's process. Its roles stand for ``WALNode``'s, whose threads and sockets cannot be simulated: they drive the
/// same machines, log and epoch rules in the same order, and each step that a daemon does on a thread of its own is an
/// event here, so that anything may come in between.
final class Node {
    enum Role {
        case primary(Primary)
        case replica(Replica)
        case fenced
    }

    unowned let world: World
    let place: Int
    let disk: Disk
    private(set) var isUp = false
    /// Nothing of an earlier process happens in a later one.
    private var incarnation = 0
    private(set) var role = Role.fenced
    /// Of a fenced one: where its log ends.
    private var fencedEnd = Position.start
    /// The next role waits for the end of this one.
    private var isChanging = false

    init(world: World, place: Int, disk: Disk) {
        self.world = world
        self.place = place
        self.disk = disk
    }

    static func name(_ place: Int) -> String { "n\(place)" }
    static func address(_ place: Int) -> String { "n\(place):7420" }
    var name: String { Self.name(place) }
    var address: String { Self.address(place) }
    var file: NodeFile { disk.node }
    var primary: Primary? { if case .primary(let primary) = role, isUp, !isChanging { primary } else { nil } }
    var replica: Replica? { if case .replica(let replica) = role, isUp, !isChanging { replica } else { nil } }
    var history: HistoryID { (try? file.historyID) ?? .none }

    var log: LogWriter? {
        switch role {
        case .primary(let primary): primary.writer
        case .replica(let replica): replica.writer
        case .fenced: nil
        }
    }

    func say(_ text: @autoclosure () -> String) { world.say("\(name) \(text())") }

    func after(_ delay: UInt64, _ action: @escaping () throws -> Void) {
        let incarnation = incarnation
        world.after(delay) { [self] in
            guard isUp, self.incarnation == incarnation else { return }
            try action()
        }
    }

    /// What ends with this process, or with this role of it.
    func still(_ action: @escaping () throws -> Void) -> () throws -> Void {
        let incarnation = incarnation
        return { [self] in
            guard isUp, self.incarnation == incarnation else { return }
            try action()
        }
    }

    func update(_ body: (inout NodeFile) throws -> Void) throws {
        let before = file
        var next = file
        try body(&next)
        disk.node = next
        try world.checks.changed(self, from: before, to: next)
    }

    /// A call into the log. Where the power fails in it, nothing comes of it but what is on the disk.
    func perform(_ body: () throws -> Void) throws {
        if try disk.perform(body) { throw PowerCut(place: place) }
    }

    func openLog() throws -> LogWriter {
        try LogWriter.open(
            directory: disk.log, quarantine: disk.quarantine, history: history, emptyAt: disk.catalog.position,
            rollBytes: world.options.retention.rollBytes
        ).writer
    }

    struct PowerCut: Error {
        var place: Int
    }

    // MARK: Life

    func start() throws {
        incarnation += 1
        isUp = true
        isChanging = false
        try takeRole(isStart: true)
    }

    private func takeRole(isStart: Bool) throws {
        isChanging = false
        say("is \(file.role) of epoch \(file.epoch), has promised \(file.promisedEpoch)")
        switch file.role {
        case .primary: role = .primary(try Primary(self, isStart: isStart))
        case .replica: role = .replica(try Replica(self))
        case .fenced:
            role = .fenced
            try perform { fencedEnd = try openLog().durableEnd }
            if file.isRejoining == true { rejoinSoon() }
        }
        try world.checks.opened(self)
    }

    func crash(losesPower: Bool) throws {
        guard isUp else { return }
        say(losesPower ? "loses power" : "is killed")
        isUp = false
        role = .fenced
        world.network.crashed(place, isSilent: losesPower || world.random.once(in: 3))
        if losesPower { try disk.powerCut() } else { disk.killed() }
    }

    /// The next role is durable in `node.json`: the present one ends, as a process would, but for what it has promised.
    func endRole() throws {
        guard !isChanging else { return }
        isChanging = true
        let ending = role
        switch ending {
        case .primary(let primary): try primary.stop()
        case .replica(let replica): try replica.stop()
        case .fenced: break
        }
        incarnation += 1
        after(.milliseconds(world.random.int(in: 1...50))) { [self] in try takeRole(isStart: false) }
    }

    /// Somebody has dialled this node and says who it is.
    func accept(_ end: Connection.End) throws {
        if let primary {
            primary.accept(end)
        } else {
            end.begin(Refuser(self, end))
        }
    }

    // MARK: What it is asked by others

    struct Status {
        var place: Int
        var role: NodeFile.Role
        var epoch: UInt64
        var promisedEpoch: UInt64
        var position: Position
        var durable: UInt64
        var isWhole: Bool
        var isDiverged: Bool
        var members: [NodeFile.Member]
        var syncReplicas: UInt32
        var leader: String?
        var successor: String?
        var knownEpoch: UInt64 { max(epoch, promisedEpoch) }
    }

    var status: Status {
        var status = Status(
            place: place, role: file.role, epoch: file.epoch, promisedEpoch: file.promisedEpoch, position: .start,
            durable: 0, isWhole: false, isDiverged: false, members: file.members ?? [],
            syncReplicas: max(file.syncReplicas ?? 0, file.role == .replica ? 0 : file.votersNeeded ?? 0),
            leader: file.leader, successor: file.successor?.name)
        if let primary {
            status.position = primary.writer.durableEnd
            status.durable = status.position.seq
            status.members = primary.group.members.map { NodeFile.Member(name: $0.name, address: $0.address) }
            status.syncReplicas = UInt32(primary.syncReplicas)
        } else if let replica {
            status.position = disk.catalog.whole
            status.durable = replica.ack.durable
            status.isWhole = replica.isWhole && status.position.seq > 0
            status.isDiverged = replica.isDiverged
        } else if file.role == .fenced {
            status.position = fencedEnd
            status.durable = fencedEnd.seq
            status.isWhole = fencedEnd.seq > 0
        }
        return status
    }

    struct Promise {
        var position: Position
        var isWhole: Bool
        var status: Status
    }

    func promise(
        _ epoch: UInt64, members: [NodeFile.Member], handover: UInt64?, done: @escaping (Promise?) -> Void
    ) throws {
        guard isUp, !isChanging, file.role != .primary else { return done(nil) }
        do {
            try update { file in
                if world.mutation == .promisesTwice { file.promisedEpoch = min(file.promisedEpoch, epoch - 1) }
                let handover = world.mutation == .handsOverUnasked ? nil : handover
                try file.promise(epoch, members: members, handover: handover)
            }
        } catch is NodeError {
            return done(nil)
        }
        say("promises epoch \(epoch)")
        guard let replica else { return done(Promise(position: fencedEnd, isWhole: true, status: status)) }
        try replica.leaveLink { [self] in
            done(Promise(position: replica.writer.durableEnd, isWhole: replica.isWhole, status: status))
            say("is at \(replica.writer.durableEnd.short) as it promises epoch \(epoch)")
        }
    }

    func follow(_ address: String, epoch: UInt64, done: @escaping (Bool?) -> Void) throws {
        guard let replica else { return done(nil) }
        if file.promisedEpoch == epoch, file.upstream == address, replica.primaryEpoch == epoch, replica.isLinked {
            return done(true)
        }
        do { try update { try $0.follow(address, epoch: epoch) } } catch is NodeError { return done(nil) }
        say("follows \(address) at epoch \(epoch)")
        replica.appoint(address)
        try replica.leaveLink {
            replica.hurry()
            done(true)
        }
    }

    /// - Parameter position: Where nothing may have been written since, for `successor` is given the lead there.
    func fence(
        _ epoch: UInt64, leader: String?, at position: Position? = nil, successor: NodeFile.Member? = nil,
        done: (Bool?) -> Void
    ) throws {
        let mayGive =
            file.role == .primary || (file.role == .fenced && file.leader == nil && file.isRejoining != true)
        guard !isChanging, leader != nil || (mayGive && epoch > file.promisedEpoch) else { return done(nil) }
        if let position, world.mutation != .handsOverLate {
            if let primary, !primary.isDrained || primary.writer.durableEnd != position { return done(nil) }
            if let primary, !primary.isSettled, world.mutation != .handsOverUnsettled { return done(nil) }
            if file.role == .fenced, fencedEnd != position { return done(nil) }
        }
        try fence(epoch, leader: leader, successor: successor)
        done(true)
    }

    func fence(_ epoch: UInt64, leader: String?, successor: NodeFile.Member? = nil) throws {
        guard !isChanging else { return }
        let before = file
        var isFenced = false
        try update { isFenced = $0.fence(epoch, leader: leader, successor: successor) }
        guard isFenced, before.role == .primary else { return }
        say("is fenced by epoch \(epoch)")
        try endRole()
    }

    func promote(_ epoch: UInt64, done: @escaping (Bool?) -> Void) throws {
        if file.role == .primary, file.epoch == epoch { return done(true) }
        if isUp, !isChanging, file.role == .fenced, file.isRejoining != true, file.leader == nil,
            epoch == file.promisedEpoch, epoch > file.epoch
        {
            try update { $0.lead(epoch, at: address) }
            say("leads on at epoch \(epoch), at \(fencedEnd.short)")
            try endRole()
            return done(true)
        }
        guard let replica, epoch == file.promisedEpoch, epoch > file.epoch, replica.isWhole else { return done(nil) }
        try replica.drain { [self] isDrained in
            guard isDrained else { return done(nil) }
            var leads = false
            try update { file in
                guard file.promisedEpoch == epoch else { return }
                file.lead(epoch, at: address)
                leads = true
            }
            if leads { say("is promoted at epoch \(epoch), at \(replica.writer.durableEnd.short)") }
            try endRole()
            done(leads ? true : nil)
        }
    }

    /// Forced: what was promoted meanwhile is given up.
    func leadOn(_ epoch: UInt64) throws {
        guard isUp, !isChanging, file.role == .fenced, file.isRejoining != true, epoch > file.promisedEpoch else {
            return
        }
        try update { $0.lead(epoch, at: address) }
        say("leads on at epoch \(epoch)")
        try endRole()
    }

    func rejoin(_ leader: String, done: (Bool?) -> Void) throws {
        guard !isChanging, file.role == .fenced || replica?.isDiverged == true else { return done(nil) }
        try update { file in
            file.role = .fenced
            file.isAppointed = true
            file.isRejoining = true
            file.leader = leader
        }
        try endRole()
        done(true)
    }

    // MARK: Rejoin

    private func rejoinSoon() {
        after(.milliseconds(world.random.int(in: 50...1000))) { [self] in try tryToRejoin() }
    }

    private func tryToRejoin() throws {
        let known = [file.leader] + (file.members ?? []).map(\.address)
        let leaders = world.nodes.filter { node in
            known.contains(node.address) && node.primary != nil && node.file.epoch >= file.promisedEpoch
                && !world.network.isBlocked(from: place, to: node.place)
                && !world.network.isBlocked(from: node.place, to: place)
        }
        guard let leader = leaders.max(by: { $0.file.epoch < $1.file.epoch }), let primary = leader.primary else {
            return rejoinSoon()
        }
        var writer: LogWriter?
        try perform { writer = try openLog() }
        guard let writer else { return }
        // Of one that is to reconcile anyhow an earlier attempt has done it.
        if !disk.catalog.mustReconcile, try writer.view.holds(disk.catalog.position) {
            try Primary.catchUp(self, writer)
        }
        let fork = try commonEnd(writer.view, primary.writer.view)
        let isForked = fork.map { writer.end.seq > $0.seq } ?? true
        say("rejoins \(leader.name): at \(writer.end.short), the fork is at \(fork?.short ?? "no common segment")")
        if world.mutation != .keepsTheFork, try isForked || !writer.view.holds(disk.catalog.position) {
            if isForked { disk.catalog.whole = .start }
            disk.catalog.mustReconcile = true
            world.checks.gaveUp(self)
        }
        disk.checkpoint()
        try update { $0.rejoin(leader.address) }
        try endRole()
    }

    /// The last position that both logs have.
    private func commonEnd(_ own: LogView, _ other: LogView) throws -> Position? {
        let first = max(own.base.seq, other.base.seq)
        var seq = min(own.durableEnd.seq, other.durableEnd.seq)
        while seq >= first {
            if let position = try own.position(at: seq), try other.holds(position) { return position }
            guard seq > 0 else { break }
            seq -= 1
        }
        return nil
    }
}

/// Sends a peer to whom it should speak, and lets it go.
private final class Refuser: ConnectionUser {
    private let node: Node
    private let end: Connection.End

    init(_ node: Node, _ end: Connection.End) {
        self.node = node
        self.end = end
    }

    func received(_ bytes: [UInt8]) throws {
        let refusal = Refusal(.redirect, "\(node.name) is \(node.file.role)", address: node.file.leader ?? "")
        end.send(Message.refuse(refusal).frame(epoch: node.file.promisedEpoch))
        try end.close()
    }

    func tick() throws {}
    func closed() throws {}
}
