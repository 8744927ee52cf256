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
        case group(Group)
        case refused(Refusal)
        case close(String)
    }

    private enum State: Sendable {
        case awaitingHello
        case awaitingWelcome(Hello)
        case awaitingSync
        case listing
        /// All entries have come; blocks that were wanted may not.
        case listed
        case streaming
        case closed
    }

    /// Header, blocks and trailer of the longest segment there can be, none of its blocks having shrunk.
    package static let maxSegmentBytes: UInt64 = {
        let blocks = (Limits.maxSegmentRawBytes + UInt64(Limits.maxBlockBytes) - 1) / UInt64(Limits.maxBlockBytes)
        return UInt64(SegmentHeader.byteCount + SegmentTrailer.byteCount) + Limits.maxSegmentRawBytes
            + blocks * UInt64(BlockHeader.byteCount)
    }()

    private var state = State.awaitingHello
    private let own: Hello
    private var nextSeq: UInt64
    /// The highest that was promised or that the sender greeted with. Below it nothing is taken.
    package private(set) var epoch: UInt64
    /// What is there of segment `nextSeq`. Kept over a lost connection, cut to whole blocks.
    package private(set) var partial: [UInt8]
    /// Length of that segment, once this connection has brought a piece of it.
    private var total: UInt64?
    private let started: UInt64
    private var lastHeard: UInt64
    private var lastSent: UInt64
    /// Bytes of segments, entries and blocks that came, without their headers and fields.
    package private(set) var consumedBytes: UInt64 = 0

    /// `own` is the hello that was sent; `partial` is what an earlier connection left of the segment after its position.
    package init(own: Hello, partial: [UInt8], now: UInt64) {
        self.own = own
        self.partial = partial
        nextSeq = own.position.seq + 1
        epoch = own.promisedEpoch
        started = now
        lastHeard = now
        lastSent = now
    }

    package var isStreaming: Bool { if case .streaming = state { true } else { false } }

    /// The handshake is done, and acknowledgements mean something.
    package var isOpen: Bool {
        switch state {
        case .awaitingHello, .awaitingWelcome, .closed: false
        default: true
        }
    }

    package mutating func received(_ message: Message, epoch frameEpoch: UInt64, now: UInt64) -> [Action] {
        heard(now: now)
        switch (state, message) {
        case (.closed, _): return []
        case (_, .refuse(let refusal)):
            state = .closed
            return [.refused(refusal)]
        case (.awaitingHello, .hello(let hello)): return greet(hello, epoch: frameEpoch)
        case (.awaitingHello, _): return unexpected(message)
        default: break
        }
        // A deposed primary may not know it yet; none of its frames counts.
        guard frameEpoch >= epoch else { return fenced(frameEpoch) }
        // Only a hello raises the epoch, because what it says is promised before anything else is done.
        guard frameEpoch == epoch else {
            return fail(Refusal(.malformed, "epoch \(frameEpoch) after a hello of epoch \(epoch)"))
        }
        switch (state, message) {
        case (.awaitingWelcome(let hello), .welcome(let welcome)): return welcomed(welcome, by: hello)
        case (.awaitingSync, .syncBegin(let begin)):
            state = .listing
            return [.syncBegin(begin)]
        case (.listing, .syncEntries(let entries)):
            consumedBytes += UInt64(entries.bytes.count)
            return [.content(message)]
        case (.listing, .syncEnd):
            state = .listed
            return [.content(message)]
        case (.listing, .block(let answer)), (.listed, .block(let answer)), (.streaming, .block(let answer)):
            consumedBytes += UInt64(answer.bytes.count)
            return [.content(message)]
        case (.streaming, .segmentPart(let part)): return assemble(part)
        case (.awaitingSync, .heartbeat(let beat)), (.listing, .heartbeat(let beat)),
            (.listed, .heartbeat(let beat)), (.streaming, .heartbeat(let beat)):
            return [.heartbeat(beat)]
        case (.awaitingSync, .group(let group)), (.listing, .group(let group)), (.listed, .group(let group)),
            (.streaming, .group(let group)):
            return [.group(group)]
        case (.awaitingHello, _), (.awaitingWelcome, _), (.awaitingSync, _), (.listing, _), (.listed, _),
            (.streaming, _), (.closed, _):
            return unexpected(message)
        }
    }

    /// The checks of a sender, in the order in which they are specified (walship-protocol(7), "Handshake").
    private mutating func greet(_ hello: Hello, epoch senderEpoch: UInt64) -> [Action] {
        guard hello.role == .sender else {
            return fail(Refusal(.malformed, "expected a primary, found a \(hello.role)"))
        }
        guard hello.history != .none, own.history == .none || hello.history == own.history else {
            return fail(
                Refusal(.unknownHistory, "this replica belongs to history \(own.history), not to \(hello.history)"))
        }
        guard senderEpoch >= epoch else { return fenced(senderEpoch) }
        guard hello.promisedEpoch <= senderEpoch else {
            return fail(
                Refusal(.fenced, "the primary of epoch \(senderEpoch) has itself promised \(hello.promisedEpoch)"))
        }
        epoch = senderEpoch
        state = .awaitingWelcome(hello)
        return []
    }

    private mutating func welcomed(_ welcome: Welcome, by hello: Hello) -> [Action] {
        guard welcome.history == hello.history else {
            return fail(Refusal(.malformed, "welcome of another history than the hello"))
        }
        // Segments would go onto a tree that is not where the position says, all content onto one that holds some.
        guard welcome.way != .stream || own.flags.isDisjoint(with: .syncs) && own.history != .none,
            welcome.way != .everything || own.flags.contains(.empty)
        else { return fail(Refusal(.malformed, "welcome to \(welcome.way), which was not asked for")) }
        if welcome.way != .stream || welcome.resumedBytes != UInt64(partial.count) { partial = [] }
        state = welcome.way == .stream ? .streaming : .awaitingSync
        return [.welcomed(welcome, sender: hello)]
    }

    /// The reconcile is done: the log goes on after `position`. Nothing before the sender's list has ended.
    package mutating func syncDone(_ position: Position) -> [Action] {
        guard case .listed = state else { return [] }
        guard position.seq < UInt64(Int64.max) else {
            return fail(Refusal(.malformed, "no segment follows \(position.short)"))
        }
        nextSeq = position.seq + 1
        state = .streaming
        return [.send(.syncDone(position))]
    }

    private mutating func assemble(_ part: SegmentPart) -> [Action] {
        // The sender's segment is not the one that an earlier connection began.
        if total == nil, part.offset == 0 { partial = [] }
        let held = UInt64(partial.count)
        guard part.seq == nextSeq, part.seq < UInt64(Int64.max), part.offset == held else {
            return mismatch("segment \(part.seq) at byte \(part.offset), where \(nextSeq) at \(held) comes next")
        }
        guard part.total <= Self.maxSegmentBytes else {
            return mismatch("segment \(part.seq) of \(part.total) bytes, where \(Self.maxSegmentBytes) are the limit")
        }
        guard !part.bytes.isEmpty, UInt64(part.bytes.count) <= part.total - min(held, part.total) else {
            return mismatch("\(part.bytes.count) bytes at \(held) of segment \(part.seq) of \(part.total)")
        }
        guard part.total == total ?? part.total else {
            return mismatch("segment \(part.seq) has become \(part.total) bytes long")
        }
        if total == nil, let begun, begun.seq != part.seq || begun.segmentBytes != part.total {
            return mismatch("segment \(part.seq) of \(part.total) bytes is not the one that was begun")
        }
        partial += part.bytes
        total = part.total
        consumedBytes += UInt64(part.bytes.count)
        guard UInt64(partial.count) == part.total else { return [] }
        let whole = partial
        partial = []
        total = nil
        nextSeq += 1
        return [.segment(whole)]
    }

    /// Header of the segment that is held in part.
    private var begun: SegmentHeader? {
        partial.withUnsafeBytes { try? SegmentHeader(decoding: $0) }
    }

    /// What is held does not fit what the sender ships: the next connection begins the segment anew.
    private mutating func mismatch(_ text: String) -> [Action] {
        partial = []
        return fail(Refusal(.malformed, text))
    }

    private mutating func unexpected(_ message: Message) -> [Action] {
        fail(Refusal(.malformed, "unexpected \(message.type) frame"))
    }

    private mutating func fenced(_ senderEpoch: UInt64) -> [Action] {
        fail(Refusal(.fenced, "epoch \(senderEpoch) is below the promised \(epoch)"))
    }

    /// Nothing when the connection has already ended.
    package mutating func fail(_ refusal: Refusal) -> [Action] {
        if case .closed = state { return [] }
        state = .closed
        return [.send(.refuse(refusal)), .close(refusal.text)]
    }

    package mutating func sent(now: UInt64) {
        lastSent = max(lastSent, now)
    }

    /// Bytes came that are not yet a whole frame: a peer on a slow line is not dead. The handshake has no more time for
    /// that.
    package mutating func heard(now: UInt64) {
        lastHeard = max(lastHeard, now)
    }

    /// Call about once a second.
    package mutating func tick(now: UInt64, ack: () -> Ack) -> [Action] {
        switch state {
        case .closed: return []
        case .awaitingHello, .awaitingWelcome:
            guard now.elapsed(since: started) > SenderMachine.handshakeNanoseconds else { return [] }
            state = .closed
            return [.close("no answer within \(Limits.handshakeSeconds) s")]
        case .awaitingSync, .listing, .listed, .streaming:
            if now.elapsed(since: lastHeard) > SenderMachine.silenceNanoseconds {
                state = .closed
                return [.close("nothing heard for \(SenderMachine.silenceNanoseconds / 1_000_000_000) s")]
            }
            guard now.elapsed(since: lastSent) >= SenderMachine.heartbeatNanoseconds else { return [] }
            lastSent = now
            return [.send(.ack(ack()))]
        }
    }

    /// What to keep of a segment when the connection is lost: its header and whole blocks.
    package func kept() -> [UInt8] {
        Array(partial.prefix(partial.withUnsafeBytes { Segment.wholePrefix($0) }))
    }
}
