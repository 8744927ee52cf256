import WALFormat

/// The receiver's side of a connection as a value. It puts segments together from their pieces and hands on whole ones;
/// what they hold is checked by whoever takes them.
package struct ReceiverMachine: Sendable {
    package enum Action: Hashable, Sendable {
        case send(Message)
        /// The sender is who it must be; `way` says what follows. A higher epoch must be made durable before anything
        /// else is done.
        case welcomed(Welcome, sender: Hello)
        /// The bytes of one whole segment, in order of seq.
        case segment([UInt8])
        case syncBegin(SyncBegin)
        /// A part of a sync, or blocks that were wanted.
        case content(Message)
        case heartbeat(Heartbeat)
        case refused(Refusal)
        case close(String)
    }

    private enum State: Sendable {
        case awaitingHello
        case awaitingWelcome(Hello)
        case syncing
        case streaming
        case closed
    }

    private var state = State.awaitingHello
    private let own: Hello
    private var nextSeq: UInt64
    private var epoch: UInt64
    /// What is there of segment `nextSeq`. Kept over a lost connection, cut to whole blocks.
    package private(set) var partial: [UInt8]
    private var lastHeard: UInt64
    private var lastSent: UInt64
    package private(set) var consumedBytes: UInt64 = 0

    /// `own` is the hello that was sent; `partial` is what an earlier connection left of the segment after its position.
    package init(own: Hello, partial: [UInt8], now: UInt64) {
        self.own = own
        self.partial = partial
        nextSeq = own.position.seq + 1
        epoch = own.promisedEpoch
        lastHeard = now
        lastSent = now
    }

    package var isStreaming: Bool { if case .streaming = state { true } else { false } }

    package mutating func received(_ message: Message, epoch frameEpoch: UInt64, now: UInt64) -> [Action] {
        lastHeard = now
        if case .closed = state { return [] }
        // A deposed primary may not know it yet; none of its frames counts.
        if frameEpoch < epoch, message.type != .refuse {
            return fail(Refusal(.fenced, "epoch \(frameEpoch) is below the promised \(epoch)"))
        }
        switch (state, message) {
        case (_, .refuse(let refusal)):
            state = .closed
            return [.refused(refusal)]
        case (.awaitingHello, .hello(let hello)):
            guard hello.role == .sender else {
                return fail(Refusal(.malformed, "expected a primary, found a \(hello.role)"))
            }
            guard own.history == .none || hello.history == own.history else {
                return fail(
                    Refusal(
                        .unknownHistory, "this replica belongs to history \(own.history), not to \(hello.history)"))
            }
            epoch = max(epoch, frameEpoch)
            state = .awaitingWelcome(hello)
            return []
        case (.awaitingWelcome(let hello), .welcome(let welcome)):
            guard welcome.history == hello.history else {
                return fail(Refusal(.malformed, "welcome of another history than the hello"))
            }
            if welcome.way != .stream || welcome.resumedBytes != UInt64(partial.count) { partial = [] }
            state = welcome.way == .stream ? .streaming : .syncing
            return [.welcomed(welcome, sender: hello)]
        case (.syncing, .syncBegin(let begin)): return [.syncBegin(begin)]
        case (.syncing, .syncEntries(let entries)):
            consumedBytes += UInt64(entries.bytes.count)
            return [.content(message)]
        case (.syncing, .syncEnd): return [.content(message)]
        case (.syncing, .block(let answer)), (.streaming, .block(let answer)):
            consumedBytes += UInt64(answer.bytes.count)
            return [.content(message)]
        case (.streaming, .segmentPart(let part)): return assemble(part)
        case (.syncing, .heartbeat(let beat)), (.streaming, .heartbeat(let beat)): return [.heartbeat(beat)]
        case (.awaitingHello, _), (.awaitingWelcome, _), (.syncing, _), (.streaming, _), (.closed, _):
            return fail(Refusal(.malformed, "unexpected \(message.type) frame"))
        }
    }

    /// The reconcile is done: the log goes on after `position`.
    package mutating func syncDone(_ position: Position) -> [Action] {
        guard case .syncing = state else { return [] }
        nextSeq = position.seq + 1
        partial = []
        state = .streaming
        return [.send(.syncDone(position))]
    }

    private mutating func assemble(_ part: SegmentPart) -> [Action] {
        guard part.seq == nextSeq, part.offset == UInt64(partial.count) else {
            return fail(
                Refusal(
                    .malformed,
                    "segment \(part.seq) at byte \(part.offset), where \(nextSeq) at \(partial.count) comes next"))
        }
        let bound = Limits.maxSegmentRawBytes + UInt64(Limits.maxFrameBytes)
        guard part.total <= bound, UInt64(partial.count + part.bytes.count) <= part.total, !part.bytes.isEmpty else {
            return fail(Refusal(.malformed, "segment \(part.seq) of \(part.total) bytes is beyond the limit"))
        }
        partial += part.bytes
        consumedBytes += UInt64(part.bytes.count)
        guard UInt64(partial.count) == part.total else { return [] }
        let whole = partial
        partial = []
        nextSeq += 1
        return [.segment(whole)]
    }

    package mutating func fail(_ refusal: Refusal) -> [Action] {
        state = .closed
        return [.send(.refuse(refusal)), .close(refusal.text)]
    }

    package mutating func sent(now: UInt64) {
        lastSent = now
    }

    /// Call about once a second.
    package mutating func tick(now: UInt64, ack: () -> Ack) -> [Action] {
        switch state {
        case .closed: return []
        case .awaitingHello, .awaitingWelcome:
            guard now - lastHeard > SenderMachine.handshakeNanoseconds else { return [] }
            state = .closed
            return [.close("no answer within \(Limits.handshakeSeconds) s")]
        case .syncing, .streaming:
            if now - lastHeard > SenderMachine.silenceNanoseconds {
                state = .closed
                return [.close("nothing heard for \(SenderMachine.silenceNanoseconds / 1_000_000_000) s")]
            }
            guard now - lastSent >= SenderMachine.heartbeatNanoseconds else { return [] }
            lastSent = now
            return [.send(.ack(ack()))]
        }
    }

    /// What to keep of a segment when the connection is lost: its header and whole blocks.
    package func kept() -> [UInt8] {
        Array(partial.prefix(partial.withUnsafeBytes { Segment.wholePrefix($0) }))
    }
}
