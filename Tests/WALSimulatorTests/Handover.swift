import WALFormat
import WALNode
import WALTestKit

/// `walctl switchover`: what `Switchover` does before it promotes. It may be ended at any step.
final class Handover {
    private unowned let world: World
    private let from: Int
    private let to: Int
    private let killedOnceIn: Int?
    private let ended: () -> Void

    init(_ world: World, from: Int, to: Int, killedOnceIn: Int?, ended: @escaping () -> Void) {
        self.world = world
        self.from = from
        self.to = to
        self.killedOnceIn = killedOnceIn
        self.ended = ended
    }

    private func isKilled() -> Bool { killedOnceIn.map { world.random.once(in: $0) } ?? false }

    private func stop(_ why: String) {
        world.say("operator: no switchover, \(why)")
        ended()
    }

    func run() {
        world.say("operator: switchover from n\(from) to n\(to)")
        world.network.ask(from: world.operatorPlace, world.nodes[from], seconds: 10) { node, answer in
            guard let primary = node.primary else { return answer(nil) }
            try primary.drain { answer((primary.epoch, $0)) }
        } done: { [self] (drained: (epoch: UInt64, end: Position)?) in
            guard let drained else { return stop("n\(from) is not drained") }
            wait(seconds: 30, Promoter.Handover(position: drained.end, epoch: drained.epoch))
        }
    }

    /// Until the target has applied all.
    private func wait(seconds: Int, _ handover: Promoter.Handover) {
        guard !isKilled() else { return stop("it is killed") }
        guard seconds > 0 else { return undrain("n\(to) does not get there") }
        world.network.ask(from: world.operatorPlace, world.nodes[to]) {
            $1($0.status)
        } done: { [self] (status: Node.Status?) in
            guard status?.role == .replica, status?.position == handover.position else {
                return world.after(.seconds(1)) { self.wait(seconds: seconds - 1, handover) }
            }
            Promoter(world, target: to, takesAny: false, drained: handover, killedOnceIn: killedOnceIn) { [self] in
                undrain("done")
            }.run()
        }
    }

    /// Where it is fenced by now that says nothing to it.
    private func undrain(_ why: String) {
        world.network.ask(from: world.operatorPlace, world.nodes[from], seconds: 5) { node, answer in
            try node.primary?.undrain()
            answer(true)
        } done: { [self] (_: Bool?) in
            world.say("operator: switchover: \(why)")
            ended()
        }
    }
}
