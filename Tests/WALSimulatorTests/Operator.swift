import WALFormat
import WALNode
import WALTestKit

/// `walctl promote`, from a place of its own on the network: what `Promotion` does, step by step, with the real count
/// of promises. It may be ended at any step, and there may be several at a time.
final class Promoter {
    private unowned let world: World
    private let place: Int
    private let target: Int
    /// Any of those that answer will do, and not the target alone.
    private let takesAny: Bool
    private let isKilled: () -> Bool
    private let ended: () -> Void
    private var epoch: UInt64 = 0
    private var needed = 0
    private var voters: [Node.Status] = []
    private var leaders: [Node.Status] = []
    private var names: [NodeFile.Member] = []
    private var promised: [(status: Node.Status, promise: Node.Promise)] = []
    /// Who is to lead on.
    private var fenced: Node.Status?

    init(
        _ world: World, target: Int, takesAny: Bool, killedOnceIn: Int?, ended: @escaping () -> Void
    ) {
        self.world = world
        self.target = target
        self.takesAny = takesAny
        self.ended = ended
        place = world.operatorPlace
        isKilled = { [unowned world] in killedOnceIn.map { world.random.once(in: $0) } ?? false }
    }

    private func stop(_ why: String) {
        world.say("operator: \(why)")
        ended()
    }

    func run() {
        var seen: [Node.Status] = []
        var left = world.nodes.count
        for node in world.nodes {
            world.network.ask(from: place, node) {
                $1($0.status)
            } done: { [self] (status: Node.Status?) in
                if let status { seen.append(status) }
                left -= 1
                if left == 0 { look(seen.sorted { $0.place < $1.place }) }
            }
        }
    }

    private func look(_ seen: [Node.Status]) {
        guard let first = seen.first(where: { $0.place == target }), first.role != .primary else {
            return stop("n\(target) does not answer as a replica")
        }
        guard first.role == .replica else { return leadOn(first, seen) }
        // What was heard in an epoch that is over may name who has led since as a replica.
        let newest = seen.filter { $0.epoch == seen.map(\.epoch).max() }
        let counted = Set(newest.flatMap(\.members).map(\.name))
        voters = seen.filter { $0.role == .replica || ($0.role == .fenced && counted.contains(Node.name($0.place))) }
        leaders = seen.filter { $0.role == .primary }
        if let leader = leaders.map(\.epoch).max(), leader > first.promisedEpoch {
            return stop("epoch \(leader) was promoted already")
        }
        var members: [String: String] = [:]
        for member in newest.flatMap(\.members) where members[member.name] == nil {
            members[member.name] = member.address
        }
        for voter in voters { members[Node.name(voter.place)] = Node.address(voter.place) }
        names = members.sorted { $0.key < $1.key }.map { NodeFile.Member(name: $0.key, address: $0.value) }
        needed = promises(of: Set(names.map(\.name)), seen)
        let able = voters.filter(\.isWhole)
        guard able.count >= needed else { return stop("\(able.count) can promise and \(needed) must") }
        guard let best = able.filter({ isAllowed($0) }).max(by: isBehind) else {
            return stop("n\(target) is not whole")
        }
        if world.mutation != .notTheFurthest, let ahead = able.max(by: isBehind), isBehind(best, ahead) {
            return stop("n\(ahead.place) is ahead of n\(best.place)")
        }
        let begun = seen.map(\.epoch).max() ?? 0
        guard world.mutation == .startIgnored || best.position.epoch >= begun else {
            return stop("n\(best.place) has nothing of epoch \(begun) yet")
        }
        epoch = 1 + (seen.map(\.knownEpoch).max() ?? 0)
        world.say("operator: promotes at epoch \(epoch), \(needed) of \(names.count) must promise")
        fence(leaders)
    }

    /// How many must promise, of these replicas and of all that the newest of `statuses` name.
    private func promises(of names: Set<String>, _ statuses: [Node.Status]) -> Int {
        if world.mutation == .tooFewPromises { return 1 }
        let newest = statuses.filter { $0.epoch == statuses.map(\.epoch).max() }
        let all = names.union(newest.flatMap { $0.members.map(\.name) })
        return Quorum(replicas: all.count, needed: Int(newest.map(\.syncReplicas).min() ?? 0)).promises
    }

    private func isAllowed(_ status: Node.Status) -> Bool {
        status.role == .replica && (takesAny || status.place == target)
    }

    /// A fenced primary leads on, where so many say that nobody has led since.
    private func leadOn(_ first: Node.Status, _ seen: [Node.Status]) {
        let others = seen.filter { $0.place != target }
        let counted = Set(first.members.map(\.name))
        voters = others.filter { $0.role == .replica || ($0.role == .fenced && counted.contains(Node.name($0.place))) }
        let all = counted.union(voters.map { Node.name($0.place) }).subtracting([Node.name(target)])
        needed = Quorum(replicas: all.count, needed: Int(first.syncReplicas)).promises
        if world.mutation == .tooFewPromises { needed = 1 }
        guard !others.contains(where: { $0.role == .primary || $0.position.epoch > first.position.epoch }) else {
            return stop("somebody has more than n\(target)")
        }
        guard voters.count(where: \.isWhole) >= needed else { return stop("too few can promise for n\(target)") }
        epoch = 1 + (seen.map(\.knownEpoch).max() ?? 0)
        names = first.members.filter { $0.name != Node.name(target) }
        fenced = first
        world.say("operator: n\(target) is to lead on at epoch \(epoch), \(needed) of \(all.count) must promise")
        fence([first])
    }

    private func isBehind(_ a: Node.Status, _ b: Node.Status) -> Bool {
        (a.position.epoch, a.durable) < (b.position.epoch, b.durable)
    }

    private func fence(_ rest: [Node.Status]) {
        guard !isKilled() else { return stop("is killed") }
        guard let leader = rest.first else { return promise(voters) }
        let epoch = epoch
        world.network.ask(from: place, world.nodes[leader.place], seconds: 10) { node, answer in
            try node.fence(epoch, leader: nil, done: answer)
        } done: { [self] (isFenced: Bool?) in
            // A primary that cannot be fenced is deposed all the same; who leads on must have claimed the epoch.
            guard fenced == nil || isFenced == true else { return stop("n\(target) does not claim \(epoch)") }
            fence(Array(rest.dropFirst()))
        }
    }

    private func promise(_ rest: [Node.Status]) {
        guard !isKilled() else { return stop("is killed") }
        guard let voter = rest.first else { return promote() }
        let (epoch, names) = (epoch, names)
        world.network.ask(from: place, world.nodes[voter.place], seconds: 10) { node, answer in
            try node.promise(epoch, members: names, done: answer)
        } done: { [self] (promise: Node.Promise?) in
            if let promise { promised.append((voter, promise)) }
            self.promise(Array(rest.dropFirst()))
        }
    }

    private func promote() {
        let whole = promised.filter(\.promise.isWhole)
        if let fenced {
            guard !promised.contains(where: { $0.promise.position.epoch > fenced.position.epoch }) else {
                return stop("somebody has more than n\(target)")
            }
            guard whole.count >= needed else { return stop("\(whole.count) have promised \(epoch)") }
            return promote(fenced)
        }
        // Until they promised, those who did may have heard that the group has become another; not since.
        let late = promises(of: Set(names.map(\.name)), promised.map(\.promise.status))
        let must = world.mutation == .groupLookedAtOnce ? needed : max(needed, late)
        guard whole.count >= must else { return stop("\(whole.count) have promised \(epoch) and \(must) must") }
        func isBefore(_ a: Node.Promise, _ b: Node.Promise) -> Bool {
            (a.position.epoch, a.position.seq) < (b.position.epoch, b.position.seq)
        }
        var candidates = whole.filter { isAllowed($0.status) }
        if world.mutation == .notTheFurthest { candidates = Array(candidates.prefix(1)) }
        guard let best = candidates.max(by: { isBefore($0.promise, $1.promise) }) else {
            return stop("no candidate has promised \(epoch)")
        }
        if world.mutation != .notTheFurthest, whole.contains(where: { isBefore(best.promise, $0.promise) }) {
            return stop("another has become the furthest")
        }
        world.say("operator: n\(best.status.place) is to lead epoch \(epoch) from \(best.promise.position.short)")
        promote(best.status)
    }

    private func promote(_ best: Node.Status) {
        let epoch = epoch
        world.network.ask(from: place, world.nodes[best.place], seconds: 60) { node, answer in
            try node.promote(epoch, done: answer)
        } done: { [self] (answer: Bool?) in
            guard answer == true else { return stop("n\(best.place) has not been promoted") }
            tell((promised.map(\.status) + leaders).filter { $0.place != best.place }, best.place)
        }
    }

    private func tell(_ rest: [Node.Status], _ leader: Int) {
        guard !isKilled() else { return stop("is killed") }
        guard let other = rest.first else { return stop("has promoted n\(leader)") }
        let epoch = epoch
        world.network.ask(from: place, world.nodes[other.place], seconds: 10) { node, answer in
            if other.role == .replica {
                try node.follow(Node.address(leader), epoch: epoch, done: answer)
            } else {
                try node.fence(epoch, leader: Node.address(leader), done: answer)
            }
        } done: { [self] (_: Bool?) in
            tell(Array(rest.dropFirst()), leader)
        }
    }
}
