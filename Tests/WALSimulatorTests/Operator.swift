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
    /// Where the primary was drained to, for the target, and in which epoch.
    private let drained: Handover?
    /// That primary, or a former one that has given its lead to the target, as an attempt before has left it.
    private var giver: Node.Status?
    private var handover: Handover?
    private var given: [Node.Status] = []
    private var takesOver = true
    private let isKilled: () -> Bool
    private let ended: () -> Void
    private var epoch: UInt64 = 0
    private var needed = 0
    private var voters: [Node.Status] = []
    private var leaders: [Node.Status] = []
    private var names: [NodeFile.Member] = []
    private var promised: [(status: Node.Status, promise: Node.Promise)] = []

    struct Handover {
        var position: Position
        var epoch: UInt64
    }

    init(
        _ world: World, target: Int, takesAny: Bool, drained: Handover? = nil, killedOnceIn: Int?,
        ended: @escaping () -> Void
    ) {
        self.world = world
        self.target = target
        self.takesAny = takesAny
        self.drained = drained
        self.ended = ended
        place = world.operatorPlace
        isKilled = { [unowned world] in killedOnceIn.map { world.random.once(in: $0) } ?? false }
    }

    private func stop(_ why: String) {
        world.say("operator: \(why)")
        ended()
    }

    private var isPlanned: Bool { handover != nil }

    func run() {
        var seen: [Node.Status] = []
        promised = []
        given = []
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
        let begun = seen.map(\.epoch).max() ?? 0
        let newest = seen.filter { $0.epoch == begun }
        let counted = Set(newest.flatMap(\.members).map(\.name))
        giver = seen.first { old in
            guard let drained else {
                return takesOver && !takesAny && old.role == .fenced && old.leader == nil
                    && old.successor == Node.name(target) && old.epoch >= begun && old.position == first.position
            }
            return old.role == .primary && old.epoch == drained.epoch
        }
        guard drained == nil || giver != nil || world.mutation == .giverNotFenced else {
            return stop("the primary that was drained does not answer")
        }
        handover = giver.map { drained ?? Handover(position: $0.position, epoch: $0.epoch) }
        if world.mutation == .giverNotFenced { handover = handover ?? drained }
        voters = seen.filter { $0.role == .replica || ($0.role == .fenced && counted.contains(Node.name($0.place))) }
        leaders = seen.filter { $0.role == .primary }
        if let leader = leaders.map(\.epoch).max(), leader > first.promisedEpoch {
            return stop("epoch \(leader) was promoted already")
        }
        names = Self.members(of: newest)
        guard !names.isEmpty || world.mutation == .nobodyIsEverybody else {
            return stop("nobody was told who belongs to the group")
        }
        if names.isEmpty || world.mutation == .everybodyPromises { names = withVoters(names) }
        needed = promises(of: names, seen, isPlanned: isPlanned).promises
        let able = voters.filter(\.isWhole)
        guard count(able, names) >= needed else { return stop("\(count(able, names)) can promise and \(needed) must") }
        guard let best = able.filter({ isAllowed($0) }).max(by: isBehind) else {
            return stop("n\(target) is not whole")
        }
        if world.mutation != .notTheFurthest, let ahead = able.max(by: isBehind), isBehind(best, ahead) {
            return stop("n\(ahead.place) is ahead of n\(best.place)")
        }
        guard world.mutation == .startIgnored || best.position.epoch >= begun else {
            return stop("n\(best.place) has nothing of epoch \(begun) yet")
        }
        epoch = 1 + (seen.map(\.knownEpoch).max() ?? 0)
        world.say(
            "operator: promotes at epoch \(epoch), \(needed) of \(names.count) must promise"
                + (handover.map { ", to hand over \($0.epoch) at \($0.position.short)" } ?? ""))
        fence((giver.map { [$0] } ?? []) + leaders.filter { $0.place != giver?.place })
    }

    private func withVoters(_ members: [NodeFile.Member]) -> [NodeFile.Member] {
        let known = Set(members.map(\.name))
        let more = voters.map { NodeFile.Member(name: Node.name($0.place), address: Node.address($0.place)) }
        return members + more.filter { !known.contains($0.name) }
    }

    private static func members(of statuses: [Node.Status]) -> [NodeFile.Member] {
        let newest = statuses.filter { $0.epoch == statuses.map(\.epoch).max() }
        let all = Dictionary(newest.flatMap(\.members).map { ($0.name, $0) }) { first, _ in first }
        return all.values.sorted { $0.name < $1.name }
    }

    /// How many must promise, and who may: these members, and all that the newest of `statuses` name.
    private func promises(
        of members: [NodeFile.Member], _ statuses: [Node.Status], isPlanned: Bool
    ) -> (promises: Int, members: [NodeFile.Member]) {
        let newest = statuses.filter { $0.epoch == statuses.map(\.epoch).max() }
        let known = Set(members.map(\.name))
        let all = members + Self.members(of: statuses).filter { !known.contains($0.name) }
        if world.mutation == .tooFewPromises { return (1, all) }
        let needed = newest.map(\.syncReplicas)
        let quorum = Quorum(replicas: all.count, needed: Int((isPlanned ? needed.max() : needed.min()) ?? 0))
        return (isPlanned ? quorum.plannedPromises : quorum.promises, all)
    }

    /// How many of them are members; who is none says nothing of what members have.
    private func count(_ statuses: [Node.Status], _ members: [NodeFile.Member]) -> Int {
        let names = Set(members.map(\.name))
        return statuses.count { names.contains(Node.name($0.place)) }
    }

    private func isAllowed(_ status: Node.Status) -> Bool {
        status.role == .replica && (takesAny || status.place == target)
    }

    /// A fenced primary leads on, where so many say that nobody has led since.
    private func leadOn(_ first: Node.Status, _ seen: [Node.Status]) {
        let others = seen.filter { $0.place != target }
        // Those of a later epoch know who has come since.
        let statuses = [first] + others
        let group = world.mutation == .oldGroupLeadsOn ? [first] : statuses
        func of(
            _ heard: [Node.Status], isPlanned: Bool = false
        ) -> (promises: Int, members: [NodeFile.Member]) {
            let heard = world.mutation == .oldGroupLeadsOn ? [first] : heard
            return promises(of: Self.members(of: group), heard, isPlanned: isPlanned)
        }
        let counted = Set(of(statuses).members.map(\.name))
        voters = others.filter { $0.role == .replica || ($0.role == .fenced && counted.contains(Node.name($0.place))) }
        needed = of(statuses).promises
        guard !others.contains(where: { $0.role == .primary || $0.position.epoch > first.position.epoch }) else {
            return stop("somebody has more than n\(target)")
        }
        let able = voters.filter(\.isWhole)
        // The one that was given the lead promises first that it will not take it.
        let successor = able.first { Node.name($0.place) == first.successor }
        // Its claim is its promise, where it is a member.
        guard count(able + [first], of(statuses).members) >= needed || successor != nil else {
            return stop("too few can promise for n\(target)")
        }
        epoch = 1 + (seen.map(\.knownEpoch).max() ?? 0)
        names = of(statuses).members.filter { $0.name != Node.name(target) }
        world.say("operator: n\(target) is to lead on at epoch \(epoch), \(needed) of \(names.count) must promise")
        func areEnough(isPlanned: Bool) -> Bool {
            let heard = [first] + promised.map(\.promise.status)
            let (late, members) = of(heard, isPlanned: isPlanned)
            let must = max(late, of(statuses, isPlanned: isPlanned).promises)
            return count(promised.filter(\.promise.isWhole).map(\.status) + [first], members) >= must
        }
        let isAllowed = { (position: Position) in position.epoch <= first.position.epoch }
        let claim = { [self] in
            guard areEnough(isPlanned: false) else { return stop("too few have promised \(epoch)") }
            claimAndLead(first)
        }
        guard let successor else { return promise(voters, isAllowed: isAllowed, then: claim) }
        handover = Handover(position: first.position, epoch: first.epoch)
        promise(voters, isAllowed: isAllowed) { [self] in
            let isPromised = promised.contains { $0.promise.isWhole && $0.status.place == successor.place }
            if isPromised, areEnough(isPlanned: true) { return claimAndLead(first) }
            handover = nil
            promised = []
            epoch += 1
            promise(voters, isAllowed: isAllowed, then: claim)
        }
    }

    /// Not before the promises: a primary that hears of the epoch steps down for it.
    private func claimAndLead(_ first: Node.Status) {
        let epoch = epoch
        world.network.ask(from: place, world.nodes[target], seconds: 10) { node, answer in
            try node.fence(epoch, leader: nil, done: answer)
        } done: { [self] (isClaimed: Bool?) in
            guard isClaimed == true else { return stop("n\(target) does not claim \(epoch)") }
            promote(first)
        }
    }

    private func isBehind(_ a: Node.Status, _ b: Node.Status) -> Bool {
        (a.position.epoch, a.durable) < (b.position.epoch, b.durable)
    }

    private func fence(_ rest: [Node.Status]) {
        guard !isKilled() else { return stop("is killed") }
        guard let leader = rest.first else { return promise(voters) { [self] in promote() } }
        let epoch = epoch
        let isGiver = leader.place == giver?.place
        let position = isGiver ? handover?.position : nil
        let successor = position.map { _ in NodeFile.Member(name: Node.name(target), address: Node.address(target)) }
        world.network.ask(from: place, world.nodes[leader.place], seconds: 10) { node, answer in
            try node.fence(epoch, leader: nil, at: position, successor: successor, done: answer)
        } done: { [self] (isFenced: Bool?) in
            // A primary that cannot be fenced is deposed all the same, unless the lead is to be its gift.
            guard isGiver else { return fence(Array(rest.dropFirst())) }
            guard isFenced == true else { return stop("n\(leader.place) does not give the lead away") }
            // The group as it was when it was fenced.
            world.network.ask(from: place, world.nodes[leader.place]) {
                $1($0.status)
            } done: { [self] (status: Node.Status?) in
                guard let status else { return stop("n\(leader.place) does not say who belongs to the group") }
                given = [status]
                fence(Array(rest.dropFirst()))
            }
        }
    }

    private func promise(
        _ rest: [Node.Status], isAllowed: @escaping (Position) -> Bool = { _ in true }, then next: @escaping () -> Void
    ) {
        guard !isKilled() else { return stop("is killed") }
        guard let voter = rest.first else {
            guard promised.allSatisfy({ isAllowed($0.promise.position) }) else {
                return stop("somebody has more than n\(target)")
            }
            return next()
        }
        let (epoch, names, handover) = (epoch, names, handover?.epoch)
        world.network.ask(from: place, world.nodes[voter.place], seconds: 10) { node, answer in
            try node.promise(epoch, members: names, handover: handover, done: answer)
        } done: { [self] (promise: Node.Promise?) in
            if let promise { promised.append((voter, promise)) }
            self.promise(Array(rest.dropFirst()), isAllowed: isAllowed, then: next)
        }
    }

    private func promote() {
        let whole = promised.filter(\.promise.isWhole)
        // Until they promised, those who did may have heard that the group has become another; not since.
        let (late, all) = promises(of: names, given + promised.map(\.promise.status), isPlanned: isPlanned)
        let must = world.mutation == .groupLookedAtOnce ? needed : max(needed, late)
        let members = world.mutation == .groupLookedAtOnce ? names : all
        let promises = count(whole.map(\.status), members)
        guard promises >= must else {
            // Somebody may have led since. Then it is for all who may know.
            guard drained == nil, giver != nil else {
                return stop("\(promises) have promised \(epoch) and \(must) must")
            }
            takesOver = false
            return run()
        }
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
