import WALFormat

/// The sender's side of a connection as a value: events in, actions out; no socket, no file, no clock.
///
/// ```
/// awaitingHello ── hello ──▶ streaming ◀── syncDone ── syncing
///       │                        ▲                        ▲
///       └────────────────────────┴── by what the log holds┘
/// any state ── refusal, silence, anything unexpected ──▶ closed
/// ```
package struct SenderMachine: Sendable {
    /// What the sender's log says of a receiver's position.
    package enum Standing: Sendable {
        /// It lies on the log, and all that follows is there: so many bytes.
        case held(behindBytes: UInt64 = 0)
        /// It lies before what the log still holds.
        case pruned
        /// The same number with another chain, or beyond the end.
        case diverged(own: Position)
    }

    package enum Action: Hashable, Sendable {
        case send(Message)
        /// Ship the log from the segment after `seq`, of the first one only what is behind `skipping` bytes. Where that
        /// one is not longer than `skipping`, the receiver holds a part of another segment: ship all of it.
        case stream(after: UInt64, skipping: UInt64)
        case beginSync(withContent: Bool)
        case answer([BlockRequest])
        /// What the receiver says of itself.
        case progress(Ack)
        /// The peer has promised a higher epoch: this node is deposed.
        case deposed(epoch: UInt64)
        case close(String)
    }

    private enum State: Sendable {
        case awaitingHello
        case syncing
        case streaming
        case closed
    }

    private var state = State.awaitingHello
    private let history: HistoryID
    private let epoch: UInt64
    package private(set) var peer: Hello?
    /// What a receiver was told whose log is gone on from at once.
    package private(set) var welcomed: Welcome?
    private let started: UInt64
    private var lastHeard: UInt64
    private var lastBeat: UInt64
    /// Bytes put on the connection that count against the window, and how many of them were taken off it.
    private var sentBytes: UInt64 = 0
    private var consumedBytes: UInt64 = 0

    package static let heartbeatNanoseconds: UInt64 = 2_000_000_000
    package static let silenceNanoseconds: UInt64 = 15_000_000_000
    package static let handshakeNanoseconds = UInt64(Limits.handshakeSeconds) * 1_000_000_000

    /// `now` is monotonic nanoseconds here and below.
    package init(history: HistoryID, epoch: UInt64, now: UInt64) {
        self.history = history
        self.epoch = epoch
        started = now
        lastHeard = now
        lastBeat = now
    }

    /// The receiver was welcomed.
    package var isOpen: Bool {
        switch state {
        case .awaitingHello, .closed: false
        case .syncing, .streaming: true
        }
    }

    package var isStreaming: Bool { if case .streaming = state { true } else { false } }

    /// Room for another piece: what is not consumed stays below the window, but one piece may always be under way.
    package var canSend: Bool { inFlightBytes < UInt64(Limits.sendWindowBytes) }

    /// Bytes that were sent and that the receiver has not consumed.
    package var inFlightBytes: UInt64 { sentBytes - consumedBytes }

    /// A frame was sent. `bytes` is what the receiver will count as consumed: the bytes of the segment, entries or block
    /// in it, without its header and fields; 0 for all other frames.
    package mutating func sent(bytes: Int, now: UInt64) {
        sentBytes += UInt64(bytes)
    }

    /// Bytes came that are not yet a whole frame: a peer on a slow line is not dead. The handshake has no more time for
    /// that.
    package mutating func heard(now: UInt64) {
        lastHeard = max(lastHeard, now)
    }

    /// `standing` is asked at most once, for the receiver's position. `frameEpoch` is what the receiver has promised.
    package mutating func received(
        _ message: Message, epoch frameEpoch: UInt64 = 0, now: UInt64, standing: (Position) -> Standing
    ) -> [Action] {
        heard(now: now)
        switch (state, message) {
        case (.closed, _): return []
        case (.awaitingHello, .hello(let hello)): return greet(hello, standing)
        case (.syncing, .syncDone(let position)):
            guard case .held = standing(position) else {
                return refuse(Refusal(.busy, "the log does not hold \(position.short) any more; connect again"))
            }
            state = .streaming
            return [.stream(after: position.seq, skipping: 0)]
        case (.syncing, .ack(let ack)), (.streaming, .ack(let ack)):
            // More than was sent opens no window for what comes later.
            consumedBytes = max(consumedBytes, min(ack.consumedBytes, sentBytes))
            return [.progress(ack)]
        case (.syncing, .want(let requests)), (.streaming, .want(let requests)):
            guard !requests.isEmpty else { return refuse(Refusal(.malformed, "a want of nothing")) }
            return [.answer(requests)]
        case (_, .refuse(let refusal)):
            state = .closed
            let close = Action.close("\(refusal.code): \(refusal.text)")
            guard refusal.code == .fenced, frameEpoch > epoch, peer?.history == history else { return [close] }
            return [.deposed(epoch: frameEpoch), close]
        case (.awaitingHello, _), (.syncing, _), (.streaming, _):
            return refuse(Refusal(.malformed, "unexpected \(message.type) frame"))
        }
    }

    private mutating func greet(_ hello: Hello, _ standing: (Position) -> Standing) -> [Action] {
        peer = hello
        guard hello.role == .receiver else {
            return refuse(Refusal(.malformed, "a sender speaks to receivers, not to a \(hello.role)"))
        }
        // Before the epochs: those of another history say nothing of this one and depose nobody.
        guard hello.history == .none || hello.history == history else {
            return refuse(
                Refusal(
                    .unknownHistory,
                    "the replica belongs to history \(hello.history), this primary is \(history)"))
        }
        if hello.promisedEpoch > epoch {
            let refusal = Refusal(.fenced, "epoch \(epoch) is below the promised \(hello.promisedEpoch)")
            guard hello.history == history else { return refuse(refusal) }
            state = .closed
            return [.send(.refuse(refusal)), .deposed(epoch: hello.promisedEpoch), .close(refusal.text)]
        }
        if hello.history == .none || !hello.flags.isDisjoint(with: .syncs) || hello.position.seq == 0 {
            return sync(hello)
        }
        switch standing(hello.position) {
        case .held(let behindBytes):
            // No segment is so long: what the receiver holds is nothing that this log goes on from.
            let kept = hello.partialBytes <= ReceiverMachine.maxSegmentBytes ? hello.partialBytes : 0
            state = .streaming
            let welcome = Welcome(way: .stream, history: history, resumedBytes: kept, behindBytes: behindBytes)
            welcomed = welcome
            return [.send(.welcome(welcome)), .stream(after: hello.position.seq, skipping: kept)]
        case .pruned: return sync(hello)
        case .diverged(let own):
            return refuse(
                Refusal(
                    .diverged,
                    "the replica is at \(hello.position), which is not on this history, now at \(own)"))
        }
    }

    private mutating func sync(_ hello: Hello) -> [Action] {
        state = .syncing
        let withContent = hello.flags.contains(.empty)
        let welcome = Welcome(way: withContent ? .everything : .list, history: history, resumedBytes: 0)
        return [.send(.welcome(welcome)), .beginSync(withContent: withContent)]
    }

    /// Nothing when the connection has already ended.
    package mutating func refuse(_ refusal: Refusal) -> [Action] {
        if case .closed = state { return [] }
        state = .closed
        return [.send(.refuse(refusal)), .close(refusal.text)]
    }

    /// Call about once a second: says when a heartbeat is due and when the peer is to be taken for dead.
    package mutating func tick(now: UInt64, heartbeat: () -> Heartbeat) -> [Action] {
        switch state {
        case .closed: return []
        case .awaitingHello:
            guard now.elapsed(since: started) > Self.handshakeNanoseconds else { return [] }
            state = .closed
            return [.close("no hello within \(Limits.handshakeSeconds) s")]
        case .syncing, .streaming:
            if now.elapsed(since: lastHeard) > Self.silenceNanoseconds {
                state = .closed
                return [.close("nothing heard for \(Self.silenceNanoseconds / 1_000_000_000) s")]
            }
            // Also while other frames go out: only this one says where the log ends.
            guard now.elapsed(since: lastBeat) >= Self.heartbeatNanoseconds else { return [] }
            lastBeat = now
            return [.send(.heartbeat(heartbeat()))]
        }
    }
}

extension UInt64 {
    /// Nanoseconds on one clock; 0 when `earlier` is not, as for times that two threads took.
    package func elapsed(since earlier: UInt64) -> UInt64 { self > earlier ? self - earlier : 0 }
}
