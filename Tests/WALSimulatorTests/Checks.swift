import WALFormat
import WALLog
import WALNode
import WALTestKit
import WALWire

struct SimulationFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// What must be true after every step. It knows every segment that any primary ever made: as a chain stands for the
/// whole past, a position whose chain is known is a prefix of one line of segments, without a gap.
final class Checks {
    private struct Known {
        var position: Position
        var previous: Digest
    }

    private unowned let world: World
    private var known: [Digest: Known] = [:]
    /// Who has made segments of an epoch.
    private var makers: [UInt64: Int] = [:]
    /// Where the primary of an epoch began.
    private var beginnings: [UInt64: Position] = [:]
    /// What clients were told is safe.
    private(set) var safe: [Position] = []
    /// By node: the highest epoch that was promised, and the last position that was acknowledged as durable.
    private var promised: [UInt64]
    private var acknowledged: [Position?]
    /// The last position that was looked up on the disk; nothing before it needs to be looked up again.
    private var found: [UInt64]

    private(set) var acks = 0
    private(set) var epochs = 0

    init(_ world: World, nodeCount: Int) {
        self.world = world
        promised = [UInt64](repeating: 0, count: nodeCount)
        acknowledged = [Position?](repeating: nil, count: nodeCount)
        found = [UInt64](repeating: 0, count: nodeCount)
    }

    private func require(_ isTrue: Bool, _ text: @autoclosure () -> String) throws {
        guard isTrue else { throw SimulationFailure(text()) }
    }

    /// All segments up to `position` are among those up to `end`.
    private func isPast(_ position: Position, of end: Position) -> Bool {
        var current = end
        while current.seq > position.seq, let known = known[current.chain] {
            current = self.known[known.previous]?.position ?? .start
        }
        return current.seq == position.seq && current.chain == position.chain
    }

    // MARK: Segments

    func made(_ segment: Segment, by node: Node) {
        let position = segment.position
        known[segment.chain] = Known(position: position, previous: segment.header.previousChain)
        if let other = makers[position.epoch], other != node.place {
            world.fail(SimulationFailure("n\(other) and \(node.name) both write segments of epoch \(position.epoch)"))
        }
        makers[position.epoch] = node.place
    }

    /// The durable end of a log has moved, or it was opened.
    func logged(_ node: Node) throws {
        guard let log = node.log else { return }
        let end = log.durableEnd
        try require(
            end == .start || known[end.chain]?.position == end,
            "\(node.name) has a log that ends at \(end), which no primary has written")
        var next = log.view.base.seq + 1
        for file in log.view.files {
            try require(file.firstSeq == next, "\(node.name) has a gap in its log before segment \(file.firstSeq)")
            next = file.lastSeq + 1
        }
        try require(next == end.seq + 1, "\(node.name) has a log that ends at \(next - 1), not at \(end.short)")
        found[node.place] = min(found[node.place], log.view.base.seq)
    }

    func opened(_ node: Node) throws {
        found[node.place] = 0
        try require(
            node.file.promisedEpoch >= promised[node.place],
            "\(node.name) has promised epoch \(promised[node.place]) and knows only of \(node.file.promisedEpoch)")
        guard let log = node.log else { return }
        try logged(node)
        guard let last = acknowledged[node.place], last.seq > log.view.base.seq else {
            return
        }
        try require(
            try log.view.holds(last),
            "\(node.name) has acknowledged \(last.short) as durable and its log ends at \(log.durableEnd.short)")
    }

    // MARK: Acknowledgements

    func acknowledges(_ node: Node, _ ack: Ack) throws {
        acks += 1
        guard ack.durable != found[node.place], ack.durable > 0, let log = node.log else { return }
        try require(
            try node.disk.holds(ack.durable, in: log.view),
            "\(node.name) acknowledges segment \(ack.durable) as durable, which is not on its disk")
        found[node.place] = ack.durable
        // One that reconciles names where it is, which counts for nothing.
        guard !ack.isSyncing else { return }
        acknowledged[node.place] = try log.view.position(at: ack.durable)
        node.say("acknowledges \(acknowledged[node.place]?.short ?? "-")")
    }

    /// What it had is set aside.
    func gaveUp(_ node: Node) { acknowledged[node.place] = nil }

    /// A client was told that so many replicas have it.
    func acknowledged(_ position: Position, by node: Node, replicas: Int) throws {
        let holders = try world.nodes.filter { other in
            guard other !== node, other.isUp, let log = other.log else { return false }
            return try log.view.holds(position) || position.seq < log.view.base.seq
        }
        let absent = world.nodes.filter { $0 !== node && $0.log == nil }
        try require(
            holders.count + absent.count >= replicas,
            "\(position.short) is called safe on \(replicas) replicas and is on \(holders.count)")
        for (epoch, beginning) in beginnings where epoch > position.epoch {
            try require(
                isPast(position, of: beginning),
                "\(position.short) is called safe by \(node.name), and epoch \(epoch) began without it, at "
                    + beginning.short
            )
        }
        safe.append(position)
    }

    // MARK: Epochs

    func changed(_ node: Node, from before: NodeFile, to file: NodeFile) throws {
        try require(
            file.promisedEpoch >= promised[node.place] && file.epoch >= before.epoch
                && file.epoch <= file.promisedEpoch,
            "\(node.name) goes from epoch \(before.epoch), with \(promised[node.place]) promised, to "
                + "\(file.epoch) with \(file.promisedEpoch)")
        promised[node.place] = file.promisedEpoch
    }

    func welcomed(_ node: Node, by sender: Hello, epoch: UInt64) throws {
        try require(
            sender.promisedEpoch >= promised[node.place],
            "\(node.name) has promised epoch \(promised[node.place]) and listens to \(sender.node) of "
                + "\(sender.promisedEpoch)"
        )
    }

    func began(_ node: Node, epoch: UInt64, at position: Position) throws {
        if let other = makers[epoch], other != node.place {
            throw SimulationFailure("n\(other) and \(node.name) both lead epoch \(epoch)")
        }
        makers[epoch] = node.place
        guard beginnings[epoch] == nil else { return }
        epochs += 1
        beginnings[epoch] = position
        for lost in safe where lost.epoch < epoch && !isPast(lost, of: position) {
            throw SimulationFailure("\(lost.short) was called safe, and \(node.name) leads epoch \(epoch) without it")
        }
    }

    // MARK: The end

    /// All live nodes have what the primary has, and it is whole: every segment is read again from every disk.
    func converged(on leader: Node, live: [Node]) throws {
        guard let primary = leader.primary else { throw SimulationFailure("\(leader.name) does not lead") }
        let end = primary.writer.durableEnd
        for position in safe {
            try require(
                isPast(position, of: end), "\(position.short) was called safe, and the history goes on without it")
        }
        for node in live {
            guard let log = node.log else { throw SimulationFailure("\(node.name) has no log") }
            try require(log.durableEnd == end, "\(node.name) ends at \(log.durableEnd.short) and not at \(end.short)")
            try require(
                node.disk.catalog.tree == leader.disk.catalog.tree, "\(node.name) has another tree than its primary")
            var cursor = try log.view.cursor(after: log.view.base.seq)
            var last = log.view.base
            while let location = try cursor.next() {
                let segment = try location.read()
                try require(
                    isPast(segment.position, of: end) && segment.header.previousChain == last.chain,
                    "segment \(segment.position.short) of \(node.name) is not on the history")
                last = segment.position
            }
            try require(last.chain == end.chain, "\(node.name) holds segments up to \(last.short) and not \(end.short)")
        }
    }
}
