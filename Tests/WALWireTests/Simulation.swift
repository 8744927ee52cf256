import WALFormat
import WALTestKit
import WALWire

struct SimulationFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// How a connection ends that does not end by itself.
enum Cut {
    case never
    /// After so many bytes or frames towards the receiver; both ends see it at once.
    case bytesDown(Int)
    case framesDown(Int)
    /// The same towards the sender.
    case bytesUp(Int)
    /// After so many bytes towards the receiver nothing arrives any more anywhere, and nobody is told.
    case silence(Int)
}

/// A primary's log as the sender sees it.
struct PrimaryModel {
    var epoch: UInt64 = 3
    var segments: [Segment]
    /// The log holds segments from `first` to `published`.
    var first: UInt64 = 1
    var published: Int

    var end: Position { position(at: UInt64(published)) }
    var isAllPublished: Bool { published == segments.count }

    func position(at seq: UInt64) -> Position { seq == 0 ? .start : segments[Int(seq) - 1].position }

    func standing(of position: Position) -> SenderMachine.Standing {
        if position.seq > UInt64(published) { return .diverged(own: end) }
        if position.seq + 1 < first { return .pruned }
        return self.position(at: position.seq) == position ? .held() : .diverged(own: end)
    }
}

/// What a replica keeps over connections.
struct ReplicaModel {
    var history = Samples.history
    var promisedEpoch: UInt64 = 3
    /// Where its log begins: the position of its last reconcile.
    var base = Position.start
    var log: [Segment] = []
    var durableCount = 0
    var partial: [UInt8] = []
    var flags: Hello.Flags = []

    // What happened to every byte that came.
    var consumedBytes: UInt64 = 0
    var appendedBytes: UInt64 = 0
    var syncBytes: UInt64 = 0
    var droppedBytes: UInt64 = 0
    var syncs = 0
    var badSegments = 0

    var position: Position { log.last?.position ?? base }

    var hello: Hello {
        Hello(
            role: .receiver, flags: flags, node: "replica", history: history, promisedEpoch: promisedEpoch,
            position: position, partialBytes: UInt64(partial.count))
    }

    mutating func append(_ bytes: [UInt8]) throws -> Bool {
        guard let segment = try? Segment(verifying: bytes), segment.header.previousChain == position.chain else {
            badSegments += 1
            droppedBytes += UInt64(bytes.count)
            return false
        }
        guard segment.header.seq == position.seq + 1 else {
            throw SimulationFailure("segment \(segment.header.seq) handed on after \(position.short)")
        }
        log.append(segment)
        appendedBytes += UInt64(bytes.count)
        return true
    }

    /// The process is killed: what was not synced is gone.
    mutating func crash() {
        log.removeLast(log.count - durableCount)
        droppedBytes += UInt64(partial.count)
        partial = []
    }
}

/// A ``SenderMachine`` and a ``ReceiverMachine`` joined by two pipes; one connection after the other until the replica has
/// the log. Time passes only by ticks.
struct Simulation {
    var random: SeededRandom
    var primary: PrimaryModel
    var replica: ReplicaModel
    private(set) var now: UInt64 = 1_000_000_000_000
    private(set) var connections = 0
    /// Bytes of segments that the sender put on the line, in this connection.
    private(set) var shippedBytes = 0

    private var down = Pipe()
    private var up = Pipe()
    private var sender = SenderEnd()
    private var receiver = ReceiverEnd()

    private struct SenderEnd {
        var machine = SenderMachine(history: Samples.history, epoch: 0, now: 0)
        var reader = FrameReader()
        var isClosed = false
        /// What is to be shipped next.
        var next: (seq: UInt64, offset: Int)?
    }

    private struct ReceiverEnd {
        var machine = ReceiverMachine(own: Samples.receiver, partial: [], now: 0)
        var reader = FrameReader()
        var isClosed = false
        var syncPosition: Position?
    }

    init(seed: UInt64, primary: PrimaryModel, replica: ReplicaModel) {
        random = SeededRandom(seed: seed)
        self.primary = primary
        self.replica = replica
    }

    var isDone: Bool { primary.isAllPublished && replica.flags.isEmpty && replica.position == primary.end }

    /// Frames and bytes of the last connection towards the receiver, and bytes towards the sender.
    var carried: (bytesDown: Int, framesDown: Int, bytesUp: Int) {
        (down.carried, down.frameEnds.count, up.carried)
    }

    /// One connection until it ends.
    mutating func connect(_ cut: Cut = .never) throws {
        connections += 1
        down = Pipe()
        up = Pipe()
        sender = SenderEnd()
        receiver = ReceiverEnd()
        shippedBytes = 0
        switch cut {
        case .never: break
        case .bytesDown(let count), .silence(let count): down.limit = count
        case .framesDown(let count): down.frameLimit = count
        case .bytesUp(let count): up.limit = count
        }
        let own = replica.hello
        sender.machine = SenderMachine(history: Samples.history, epoch: primary.epoch, now: now)
        receiver.machine = ReceiverMachine(own: own, partial: replica.partial, now: now)
        up.write(frame: Message.hello(own).frame(epoch: replica.promisedEpoch))
        let hello = Hello(
            role: .sender, node: "primary", history: Samples.history, promisedEpoch: primary.epoch,
            position: primary.end)
        down.write(frame: Message.hello(hello).frame(epoch: primary.epoch))
        try converse(cut)
        let kept = receiver.machine.kept()
        replica.consumedBytes += receiver.machine.consumedBytes
        // Of what the machine held at the end only whole blocks are kept; of what it was given it may hold nothing more.
        replica.droppedBytes += UInt64(receiver.machine.partial.count - kept.count)
        replica.partial = kept
        try checkBytes()
    }

    /// Every byte that came was appended, kept or dropped for a reason.
    private func checkBytes() throws {
        let spent =
            replica.appendedBytes + replica.syncBytes + replica.droppedBytes + UInt64(replica.partial.count)
        guard replica.consumedBytes == spent else {
            throw SimulationFailure("\(replica.consumedBytes) bytes consumed, \(spent) accounted for")
        }
    }

    private mutating func converse(_ cut: Cut) throws {
        var steps = 0
        while !sender.isClosed || !receiver.isClosed {
            if isDone { return }
            steps += 1
            guard steps < 200_000 else { throw SimulationFailure("no end") }
            if case .silence = cut, down.isCut {
                try waitForSilence()
                return
            }
            if down.isCut || up.isCut { return }
            // One end has closed: the other reads what was sent to it before.
            if sender.isClosed, down.isEmpty { return }
            if receiver.isClosed, up.isEmpty { return }
            try step()
        }
    }

    private mutating func step() throws {
        switch random.int(in: 0..<20) {
        case 0..<8: try receive(down.deliver(upTo: random.int(in: 1...(random.once(in: 3) ? 40 : 2000))))
        case 8..<12: try send(up.deliver(upTo: random.int(in: 1...400)))
        case 12..<16: ship(random.int(in: 1...(random.once(in: 2) ? 60 : 1500)))
        case 16: acknowledge()
        case 17: if random.once(in: 2), !primary.isAllPublished { primary.published += 1 }
        case 18: try tick(random.anyUInt64() % 300_000_000)
        default: try tick(0)
        }
    }

    /// Both ends must find out by themselves, and not late.
    private mutating func waitForSilence() throws {
        let since = now
        while !sender.isClosed || !receiver.isClosed {
            try tick(1_000_000_000)
            guard now - since <= SenderMachine.silenceNanoseconds + 2_000_000_000 else {
                throw SimulationFailure("a dead line is not noticed")
            }
        }
    }

    private mutating func tick(_ nanoseconds: UInt64) throws {
        now += nanoseconds
        let beat = Heartbeat(position: primary.end, captureTime: 0, clock: Int64(now))
        if !sender.isClosed { try perform(sender.machine.tick(now: now) { beat }) }
        let ack = ack
        if !receiver.isClosed { try perform(receiver.machine.tick(now: now) { ack }) }
    }

    // MARK: The sender's end

    private mutating func send(_ bytes: [UInt8]) throws {
        guard !bytes.isEmpty, !sender.isClosed else { return }
        sender.machine.heard(now: now)
        sender.reader.take(bytes)
        while !sender.isClosed, let frame = try sender.reader.next() {
            let primary = primary
            try perform(sender.machine.received(frame.message, now: now) { primary.standing(of: $0) })
        }
    }

    private mutating func ship(_ count: Int) {
        guard !sender.isClosed, sender.machine.canSend, let (seq, offset) = sender.next,
            seq <= UInt64(primary.published)
        else { return }
        let whole = primary.segments[Int(seq) - 1].bytes
        // The receiver holds more of another segment than there is of this one.
        let start = offset < whole.count ? offset : 0
        let end = min(start + count, whole.count)
        let part = SegmentPart(
            seq: seq, offset: UInt64(start), total: UInt64(whole.count), bytes: Array(whole[start..<end]))
        down.write(frame: Message.segmentPart(part).frame(epoch: primary.epoch))
        sender.machine.sent(bytes: end - start, now: now)
        shippedBytes += end - start
        sender.next = end == whole.count ? (seq + 1, 0) : (seq, end)
    }

    private mutating func perform(_ actions: [SenderMachine.Action]) throws {
        for action in actions {
            switch action {
            case .send(let message): down.write(frame: message.frame(epoch: primary.epoch))
            case .stream(let seq, let skipping):
                sender.next = (seq + 1, Int(skipping))
                // Only what is missing: the replica's own log and part end exactly there.
                let expected =
                    receiver.syncPosition.map { ($0.seq, 0) } ?? (replica.position.seq, replica.partial.count)
                guard expected == (seq, Int(skipping)) else {
                    throw SimulationFailure("streams after \(seq) behind \(skipping), not \(expected)")
                }
            case .beginSync:
                let position = primary.end
                let begin = SyncBegin(
                    position: position, treeDigest: .zero, lastObject: 9, objectCount: 1, contentBytes: 0)
                for message in [.syncBegin(begin), .syncEntries(Samples.entries), .syncEnd] as [Message] {
                    down.write(frame: message.frame(epoch: primary.epoch))
                }
                sender.machine.sent(bytes: Samples.entries.bytes.count, now: now)
            case .progress(let ack):
                guard ack.durable <= ack.received, ack.isSyncing || ack.received <= UInt64(primary.published) else {
                    throw SimulationFailure("\(ack)")
                }
            case .close: sender.isClosed = true
            case .answer, .deposed: throw SimulationFailure("\(action)")
            }
        }
    }

    // MARK: The receiver's end

    private mutating func receive(_ bytes: [UInt8]) throws {
        guard !bytes.isEmpty, !receiver.isClosed else { return }
        receiver.machine.heard(now: now)
        receiver.reader.take(bytes)
        while !receiver.isClosed, let frame = try receiver.reader.next() {
            try perform(receiver.machine.received(frame.message, epoch: frame.epoch, now: now))
        }
    }

    private var ack: Ack {
        Ack(
            received: replica.position.seq, durable: replica.base.seq + UInt64(replica.durableCount), applied: 0,
            consumedBytes: receiver.machine.consumedBytes, isSyncing: !replica.flags.isEmpty, clock: Int64(now))
    }

    private mutating func acknowledge() {
        guard !receiver.isClosed, receiver.machine.isStreaming else { return }
        replica.durableCount = random.int(in: replica.durableCount...replica.log.count)
        up.write(frame: Message.ack(ack).frame(epoch: replica.promisedEpoch))
        receiver.machine.sent(now: now)
    }

    private mutating func perform(_ actions: [ReceiverMachine.Action]) throws {
        for action in actions {
            switch action {
            case .send(let message): up.write(frame: message.frame(epoch: replica.promisedEpoch))
            case .welcomed(let welcome, let hello):
                replica.promisedEpoch = receiver.machine.epoch
                replica.history = hello.history
                if welcome.way != .stream || welcome.resumedBytes == 0 {
                    replica.droppedBytes += UInt64(replica.partial.count)
                }
            case .segment(let bytes):
                if try !replica.append(bytes) {
                    try perform(receiver.machine.fail(Refusal(.malformed, "segment is damaged")))
                }
            case .syncBegin(let begin):
                receiver.syncPosition = begin.position
                // From here on it is neither empty nor at a position.
                replica.flags = .needsSync
            case .content(.syncEntries(let entries)): replica.syncBytes += UInt64(entries.bytes.count)
            case .content(.syncEnd):
                replica.base = receiver.syncPosition!
                replica.log = []
                replica.durableCount = 0
                replica.flags = []
                replica.syncs += 1
                try perform(receiver.machine.syncDone(replica.base))
            case .content: throw SimulationFailure("\(action)")
            case .heartbeat(let beat):
                guard beat.position.seq <= UInt64(primary.published) else { throw SimulationFailure("\(beat)") }
            case .group: break
            case .refused, .close: receiver.isClosed = true
            }
        }
    }
}
