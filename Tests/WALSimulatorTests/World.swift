import Foundation
import WALFormat
import WALLog
import WALNode
import WALTestKit
import WALWire

/// One run: a group of nodes on one thread, whose disks, network and clock are simulated. Everything that is drawn is
/// drawn from the seed, so a seed is a run.
final class World {
    let seed: UInt64
    let mutation: Mutation?
    let options: Options
    var random: SeededRandom
    private var agenda = Agenda()
    private(set) var nodes: [Node] = []
    private(set) var network: Network!
    private(set) var checks: Checks!
    /// What has happened, one line each; empty unless it is asked for.
    private(set) var trace: [String] = []
    private let isTraced: Bool
    private let folder: String
    private var failure: (any Error)?
    private var stamp: UInt64 = 0
    private var isFaulty = true
    /// Nodes that do not come back.
    private var lost: Set<Int> = []
    /// Commands that are under way and change who leads.
    private var commands = 0

    private(set) var mayWrite = true
    private(set) var steps = 0
    private(set) var crashes = 0

    init(seed: UInt64, mutation: Mutation? = nil, folder: String, isTraced: Bool = false) throws {
        self.seed = seed
        self.mutation = mutation
        self.isTraced = isTraced
        self.folder = folder + "/\(seed)"
        random = SeededRandom(seed: seed)
        options = Options(&random)
        network = Network(world: self)
        checks = Checks(self, nodeCount: options.nodeCount)
        let history = HistoryID(Digest(high: random.next(), low: random.next()))
        for place in 0..<options.nodeCount {
            let file = NodeFile(
                node: Node.name(place), role: place == 0 ? .primary : .replica, history: place == 0 ? history : nil,
                epoch: place == 0 ? 1 : 0)
            let disk = try Disk("\(self.folder)/n\(place)", node: file, seed: random.next())
            disk.lies = mutation == .syncsNothing
            disk.losesNode = mutation == .promiseNotDurable
            nodes.append(Node(world: self, place: place, disk: disk))
        }
    }

    var now: UInt64 { agenda.now }
    var operatorPlace: Int { nodes.count }

    func place(of address: String) -> Int? { nodes.first { $0.address == address }?.place }

    func nextStamp() -> UInt64 {
        stamp += 1
        return stamp
    }

    func after(_ delay: UInt64, _ action: @escaping () throws -> Void) { agenda.put(after: delay, action) }

    /// For what cannot throw.
    func fail(_ error: any Error) { failure = failure ?? error }

    func say(_ text: @autoclosure () -> String) {
        guard isTraced else { return }
        let time = String(now / 1_000_000 + 1_000_000).dropFirst()
        trace.append("\(time.dropLast(3)).\(time.suffix(3)) \(text())")
    }

    // MARK: The run

    /// Throws what was not as it must be.
    func run() throws {
        defer { end() }
        say("seed \(seed): \(options)")
        for node in nodes {
            guard options.joinsLate, node.place > 0 else {
                try guarded { try node.start() }
                continue
            }
            after(.milliseconds(random.int(in: 0...options.seconds * 700))) { if !node.isUp { try node.start() } }
        }
        for (fault, pause) in options.pauses { schedule(fault, pause) }
        try pass(.seconds(options.seconds)) { false }
        say("the faults stop")
        isFaulty = false
        for node in nodes { node.disk.cutAtSync = nil }
        try network.heal()
        for node in nodes where !node.isUp { try guarded { try node.start() } }
        try pass(.seconds(10)) { false }
        try converge()
        guard options.losesSome else { return }
        try loseSome()
        try converge()
    }

    private func end() {
        for node in nodes { try? node.crash(losesPower: false) }
        agenda = Agenda()
        network.end()
        try? FileManager.default.removeItem(atPath: folder)
    }

    private func guarded(_ body: () throws -> Void) throws {
        do { try body() } catch let cut as Node.PowerCut { try crash(nodes[cut.place], losesPower: true) }
        if let failure { throw failure }
    }

    private func pass(_ nanoseconds: UInt64, until isMet: () -> Bool) throws {
        let end = now + nanoseconds
        while let action = agenda.take(until: end) {
            steps += 1
            try guarded(action)
            if isMet() { return }
        }
    }

    /// When faults have stopped all nodes that there are come to one end, within so many seconds.
    private static let convergenceSeconds = 240

    private func converge() throws {
        mayWrite = false
        var left = Self.convergenceSeconds
        while left > 0 {
            if let leader = settled() {
                try checks.converged(on: leader, live: live)
                say("all are at \(leader.primary?.writer.durableEnd.short ?? "")")
                return
            }
            if commands == 0, live.allSatisfy({ $0.primary == nil }) {
                // Of those who can be asked a fenced primary may have most, and so many may not be whole that none of
                // them can be promoted.
                if random.once(in: 4), try leadOn() { continue }
                promote(takesAny: true)
            }
            try helpToRejoin()
            try pass(.seconds(1)) { false }
            left -= 1
        }
        let states = live.map { node in
            "\(node.name) is \(node.file.role) of epoch \(node.file.epoch), at \(node.log?.durableEnd.short ?? "-")"
        }
        throw SimulationFailure("no end in \(Self.convergenceSeconds) s: \(states.joined(separator: "; "))")
    }

    private var live: [Node] { nodes.filter { !lost.contains($0.place) } }

    private func settled() -> Node? {
        let leaders = live.filter { $0.primary != nil }
        guard leaders.count == 1, let leader = leaders.first, let primary = leader.primary else { return nil }
        let end = primary.writer.durableEnd
        guard leader.disk.catalog.position == end else { return nil }
        let isDone = live.allSatisfy { node in
            guard node !== leader else { return true }
            guard let replica = node.replica, replica.isLinked, replica.isWhole else { return false }
            return replica.durable == end && node.disk.catalog.whole == end && node.file.epoch == primary.epoch
        }
        return isDone ? leader : nil
    }

    /// The primary, and as many replicas as a position that is called safe may be lost with.
    private func loseSome() throws {
        mayWrite = true
        try pass(.seconds(5)) { false }
        guard let leader = nodes.first(where: { $0.primary != nil }), let primary = leader.primary else { return }
        let voters = leader.file.voters ?? []
        let quorum = Quorum(replicas: voters.count, needed: primary.syncReplicas)
        // Where nothing was ever written nobody can lead.
        guard voters.count == nodes.count - 1, primary.writer.durableEnd.seq > 0 else { return }
        let others = nodes.filter { $0 !== leader }.shuffled(using: &random)
        for node in [leader] + others.prefix(quorum.replicas - quorum.promises) {
            lost.insert(node.place)
            try crash(node, losesPower: random.once(in: 2))
        }
    }

    // MARK: Faults

    private func schedule(_ fault: Options.Fault, _ pause: Int) {
        after(.milliseconds(random.int(in: 1...2 * pause))) { [unowned self] in
            guard isFaulty else { return }
            try strike(fault)
            schedule(fault, pause)
        }
    }

    private func strike(_ fault: Options.Fault) throws {
        switch fault {
        case .partition: partition()
        case .cut: network.cutOne()
        case .kill: try crash(nodes.randomElement(using: &random)!, losesPower: false)
        case .powerCut: try crash(nodes.randomElement(using: &random)!, losesPower: true)
        case .powerCutInSync: nodes.randomElement(using: &random)!.disk.cutAtSync = random.int(in: 0...6)
        case .promotion: promote(takesAny: random.once(in: 2))
        case .rejoin: try helpToRejoin()
        case .switchover: switchover()
        }
    }

    private func partition() {
        let places = Array(0...nodes.count).shuffled(using: &random)
        let cut = places.prefix(random.int(in: 1...nodes.count / 2))
        let isOneWay = random.once(in: 3)
        for inside in cut {
            for outside in places.dropFirst(cut.count) {
                network.block(from: inside, to: outside)
                if !isOneWay { network.block(from: outside, to: inside) }
            }
        }
        say("partition: \(cut.sorted()) \(isOneWay ? "does not reach" : "is cut off from") the others")
        after(.milliseconds(random.int(in: 500...30_000))) { [unowned self] in
            say("partitions heal")
            try network.heal()
        }
    }

    private func crash(_ node: Node, losesPower: Bool) throws {
        guard node.isUp else { return }
        crashes += 1
        try node.crash(losesPower: losesPower)
        guard !lost.contains(node.place) else { return }
        after(.milliseconds(random.int(in: 50...(random.once(in: 3) ? 20_000 : 2_000)))) { [unowned self] in
            if !node.isUp, !lost.contains(node.place) { try node.start() }
        }
    }

    private func promote(takesAny: Bool) {
        let target = live.randomElement(using: &random)!.place
        commands += 1
        let promoter = Promoter(
            self, target: target, takesAny: takesAny, killedOnceIn: isFaulty ? options.operatorDiesOnceIn : nil
        ) { [unowned self] in commands -= 1 }
        promoter.run()
    }

    private func switchover() {
        guard let leader = nodes.first(where: { $0.primary != nil }) else { return }
        let target = nodes.filter { $0 !== leader }.randomElement(using: &random)!
        let handover = Handover(
            self, from: leader.place, to: target.place, killedOnceIn: isFaulty ? options.operatorDiesOnceIn : nil
        ) { [unowned self] in commands -= 1 }
        commands += 1
        handover.run()
    }

    /// `walctl promote --force` of a primary that was fenced for a promotion that nobody has finished. Nothing is lost
    /// where all can be asked and none has more.
    private func leadOn() throws -> Bool {
        let fenced = live.filter { $0.file.role == .fenced && $0.file.isRejoining != true }
        guard lost.isEmpty, let node = fenced.max(by: { $0.file.epoch < $1.file.epoch }),
            live.allSatisfy({ $0.isUp && ($0.log?.durableEnd.epoch ?? 0) <= node.file.epoch })
        else { return false }
        try node.leadOn(1 + live.map { max($0.file.epoch, $0.file.promisedEpoch) }.max()!)
        try pass(.seconds(5)) { false }
        return true
    }

    private func helpToRejoin() throws {
        let leaders = live.filter { $0.primary != nil }
        guard let leader = leaders.max(by: { $0.file.epoch < $1.file.epoch }) else { return }
        for node in live where node.isUp && (node.file.role == .fenced || node.replica?.isDiverged == true) {
            // For a promotion that nobody has finished; the group goes on at a lower epoch and does not know.
            guard node.file.promisedEpoch <= leader.file.epoch else {
                if commands == 0 { switchover() }
                continue
            }
            network.ask(from: operatorPlace, node) { node, answer in
                try node.rejoin(leader.address, done: answer)
            } done: { (_: Bool?) in
            }
        }
    }
}
