import Testing
import WALFormat
import WALWire

private let second: UInt64 = 1_000_000_000
private let start: UInt64 = 1000 * second

/// The sender's states, each reached as a peer reaches it.
private enum SenderState: CaseIterable {
    case awaitingHello, syncing, streaming, closed

    var machine: SenderMachine {
        var machine = SenderMachine(history: Samples.history, epoch: 3, now: start)
        var hello = Samples.receiver
        switch self {
        case .awaitingHello: break
        case .syncing:
            hello.flags = .needsSync
            _ = machine.received(.hello(hello), now: start) { _ in .held }
        case .streaming: _ = machine.received(.hello(hello), now: start) { _ in .held }
        case .closed: _ = machine.refuse(Refusal(.busy, "later"))
        }
        return machine
    }
}

extension SenderMachine {
    /// What a machine that has not ended says when it ends.
    fileprivate var isClosed: Bool {
        var copy = self
        return copy.refuse(Refusal(.busy, "")).isEmpty
    }

    fileprivate mutating func greeted(_ hello: Hello, _ standing: Standing = .held) -> [Action] {
        received(.hello(hello), now: start) { _ in standing }
    }
}

private func refused(_ code: Refusal.Code, _ text: String) -> [SenderMachine.Action] {
    [.send(.refuse(Refusal(code, text))), .close(text)]
}

/// Every message in every state.
@Suite struct SenderTransitionTests {
    @Test(arguments: MessageType.all) fileprivate func awaitingHello(type: MessageType) {
        let answer = answer(.awaitingHello, type)
        switch type {
        case .hello:
            // A primary greets another; that of a receiver is in the tests of the handshake.
            #expect(answer.actions == refused(.malformed, "a sender speaks to receivers, not to a sender"))
        case .refuse: #expect(answer.actions == [.close("busy: later")])
        default: #expect(answer.actions == refused(.malformed, "unexpected \(type) frame"))
        }
        #expect(answer.isClosed)
    }

    @Test(arguments: MessageType.all) fileprivate func syncing(type: MessageType) {
        let answer = answer(.syncing, type)
        switch type {
        case .syncDone:
            #expect(answer.actions == [.stream(after: Samples.sender.position.seq, skipping: 0)])
            #expect(answer.isStreaming)
        case .ack: #expect(answer.actions == [.progress(Samples.ack)])
        case .want: #expect(answer.actions == [.answer(Samples.want)])
        case .refuse: #expect(answer.actions == [.close("busy: later")])
        default: #expect(answer.actions == refused(.malformed, "unexpected \(type) frame"))
        }
        #expect(answer.isClosed == ![.syncDone, .ack, .want].contains(type))
    }

    @Test(arguments: MessageType.all) fileprivate func streaming(type: MessageType) {
        let answer = answer(.streaming, type)
        switch type {
        case .ack: #expect(answer.actions == [.progress(Samples.ack)])
        case .want: #expect(answer.actions == [.answer(Samples.want)])
        case .refuse: #expect(answer.actions == [.close("busy: later")])
        default: #expect(answer.actions == refused(.malformed, "unexpected \(type) frame"))
        }
        #expect(answer.isClosed == ![.ack, .want].contains(type))
        #expect(answer.isStreaming == !answer.isClosed)
    }

    @Test(arguments: MessageType.all) fileprivate func closed(type: MessageType) {
        #expect(answer(.closed, type).actions == [])
        var machine = SenderState.closed.machine
        #expect(machine.greeted(Samples.receiver) == [])
    }

    private func answer(
        _ state: SenderState, _ type: MessageType
    ) -> (actions: [SenderMachine.Action], isClosed: Bool, isStreaming: Bool) {
        var machine = state.machine
        let actions = machine.received(Samples.each[Int(type.rawValue) - 1], now: start) { _ in .held }
        return (actions, machine.isClosed, machine.isStreaming)
    }

    @Test fileprivate func connectionEndsOnce() {
        var machine = SenderState.streaming.machine
        #expect(machine.refuse(Refusal(.busy, "later")) == refused(.busy, "later"))
        #expect(machine.refuse(Refusal(.busy, "later")) == [])
        #expect(!machine.isStreaming)
    }
}

@Suite struct SenderHandshakeTests {
    private func answer(
        _ standing: SenderMachine.Standing = .held, _ change: (inout Hello) -> Void = { _ in }
    ) -> [SenderMachine.Action] {
        var hello = Samples.receiver
        change(&hello)
        var machine = SenderMachine(history: Samples.history, epoch: 3, now: start)
        let actions = machine.greeted(hello, standing)
        #expect(machine.peer == hello)
        return actions
    }

    private func welcome(_ way: Welcome.Way, resumed: UInt64 = 0) -> SenderMachine.Action {
        .send(.welcome(Welcome(way: way, history: Samples.history, resumedBytes: resumed)))
    }

    @Test func heldPositionIsStreamedFrom() {
        #expect(answer() == [welcome(.stream), .stream(after: 10, skipping: 0)])
    }

    @Test func standingIsAskedForTheReceiversPosition() {
        var machine = SenderMachine(history: Samples.history, epoch: 3, now: start)
        var asked: [Position] = []
        _ = machine.received(.hello(Samples.receiver), now: start) { position in
            asked.append(position)
            return .held
        }
        #expect(asked == [Samples.receiver.position])
    }

    @Test func partOfASegmentIsNotSentAgain() {
        let actions = answer { $0.partialBytes = 300 }
        #expect(actions == [welcome(.stream, resumed: 300), .stream(after: 10, skipping: 300)])
    }

    @Test func partOfNoPossibleSegmentIsSentAgain() {
        let most = ReceiverMachine.maxSegmentBytes
        #expect(answer { $0.partialBytes = most }.last == .stream(after: 10, skipping: most))
        for bytes in [most + 1, UInt64(Int64.max), .max] {
            #expect(answer { $0.partialBytes = bytes } == [welcome(.stream), .stream(after: 10, skipping: 0)])
        }
    }

    @Test func prunedPositionIsReconciled() {
        #expect(answer(.pruned) { $0.partialBytes = 300 } == [welcome(.list), .beginSync(withContent: false)])
    }

    @Test func divergedPositionIsRefused() {
        let own = Samples.sender.position
        let text = "the replica is at \(Samples.receiver.position), which is not on this history, now at \(own)"
        #expect(answer(.diverged(own: own)) == refused(.diverged, text))
    }

    @Test func emptyReceiverGetsEverything() {
        let everything = [welcome(.everything), .beginSync(withContent: true)]
        #expect(answer { $0.flags = .empty } == everything)
        #expect(
            answer {
                $0.flags = .empty
                $0.history = .none
                $0.promisedEpoch = 0
                $0.position = .start
            } == everything)
        #expect(answer { $0.flags = [.empty, .needsSync] } == everything)
    }

    /// A position alone is no reason to stream to a receiver that must reconcile, or that has no segment yet.
    @Test func receiverThatMustReconcileGetsTheList() {
        let list = [welcome(.list), .beginSync(withContent: false)]
        #expect(answer { $0.flags = .needsSync } == list)
        #expect(answer { $0.position = .start } == list)
        #expect(answer { $0.history = .none } == list)
    }

    @Test func otherHistoryIsRefused() {
        let text = "the replica belongs to history \(Samples.otherHistory), this primary is \(Samples.history)"
        for flags: Hello.Flags in [[], .needsSync, .empty] {
            let answer = answer {
                $0.history = Samples.otherHistory
                $0.flags = flags
            }
            #expect(answer == refused(.unknownHistory, text))
        }
    }

    @Test func higherPromisedEpochDeposes() {
        let text = "epoch 3 is below the promised 4"
        for flags: Hello.Flags in [[], .needsSync, .empty] {
            let answer = answer {
                $0.promisedEpoch = 4
                $0.flags = flags
            }
            #expect(answer == [.send(.refuse(Refusal(.fenced, text))), .deposed(epoch: 4), .close(text)])
        }
    }

    /// Epochs of different histories have nothing to do with one another.
    @Test func epochOfAnotherHistoryDeposesNobody() {
        for history in [Samples.otherHistory, .none] {
            let actions = answer {
                $0.history = history
                $0.promisedEpoch = 4
            }
            #expect(actions.count == 2)
            guard case .send(.refuse(let refusal)) = actions[0] else {
                Issue.record("\(actions)")
                continue
            }
            #expect(refusal.code == (history == .none ? .fenced : .unknownHistory))
            #expect(actions[1] == .close(refusal.text))
        }
    }

    @Test(arguments: [Hello.Role.sender, .control]) func onlyReceiversAreServed(role: Hello.Role) {
        #expect(
            answer { $0.role = role } == refused(.malformed, "a sender speaks to receivers, not to a \(role)"))
    }

    @Test func syncDoneBeyondTheLog() {
        for standing: SenderMachine.Standing in [.pruned, .diverged(own: .start)] {
            var machine = SenderState.syncing.machine
            let actions = machine.received(.syncDone(Samples.receiver.position), now: start) { _ in standing }
            #expect(actions == refused(.busy, "the log does not hold 3:10 any more; connect again"))
            #expect(!machine.isStreaming)
        }
    }
}

@Suite struct SenderWindowTests {
    private let window = Limits.sendWindowBytes

    private func ack(_ machine: inout SenderMachine, _ consumed: UInt64) {
        var ack = Samples.ack
        ack.consumedBytes = consumed
        #expect(machine.received(.ack(ack), now: start) { _ in .held } == [.progress(ack)])
    }

    @Test func closesWhenFullAndOpensByAcks() {
        var machine = SenderState.streaming.machine
        #expect(machine.canSend)
        machine.sent(bytes: window - 1, now: start)
        #expect(machine.canSend)
        machine.sent(bytes: 1, now: start)
        #expect(!machine.canSend)
        ack(&machine, 1)
        #expect(machine.canSend)
        machine.sent(bytes: 1, now: start)
        #expect(!machine.canSend)
        ack(&machine, UInt64(window) + 1)
        machine.sent(bytes: window - 1, now: start)
        #expect(machine.canSend)
    }

    /// What is under way is less than the window and one piece.
    @Test func unacknowledgedBytesStayBounded() {
        var machine = SenderState.streaming.machine
        var sent: UInt64 = 0
        for consumed in stride(from: UInt64(0), through: 64 << 20, by: 1 << 20) {
            ack(&machine, consumed)
            while machine.canSend {
                machine.sent(bytes: 700_000, now: start)
                sent += 700_000
            }
            #expect(sent - consumed >= UInt64(window) && sent - consumed < UInt64(window) + 700_000)
        }
    }

    /// A segment may be longer than the window: its pieces count as they come, not when it is whole.
    @Test func segmentLongerThanTheWindow() {
        var sender = SenderState.streaming.machine
        var receiver = ReceiverMachine(own: Samples.receiver, partial: [], now: start)
        _ = receiver.received(.hello(Samples.sender), epoch: 3, now: start)
        let welcome = Welcome(way: .stream, history: Samples.history, resumedBytes: 0)
        _ = receiver.received(.welcome(welcome), epoch: 3, now: start)
        let piece = [UInt8](repeating: 1, count: 1 << 20)
        let total = 2 * window
        var offset = 0
        var isWhole = false
        while offset < total {
            ack(&sender, receiver.consumedBytes)
            #expect(sender.canSend)
            guard sender.canSend else { return }
            let part = SegmentPart(seq: 11, offset: UInt64(offset), total: UInt64(total), bytes: piece)
            sender.sent(bytes: piece.count, now: start)
            isWhole = !receiver.received(.segmentPart(part), epoch: 3, now: start).isEmpty
            offset += piece.count
        }
        #expect(isWhole && receiver.isStreaming)
    }

    @Test func acksNeverCloseTheWindow() {
        var machine = SenderState.streaming.machine
        machine.sent(bytes: window + 5, now: start)
        ack(&machine, 6)
        #expect(machine.canSend)
        ack(&machine, 0)
        #expect(machine.canSend)
    }

    /// A receiver that claims what it cannot have consumed opens the window once and not for ever.
    @Test func moreConsumedThanSent() {
        var machine = SenderState.streaming.machine
        ack(&machine, .max)
        machine.sent(bytes: window, now: start)
        #expect(!machine.canSend)
        ack(&machine, .max)
        #expect(machine.canSend)
        machine.sent(bytes: window, now: start)
        #expect(!machine.canSend)
    }

    @Test func syncCountsAsWell() {
        var machine = SenderState.syncing.machine
        machine.sent(bytes: window, now: start)
        #expect(!machine.canSend)
        ack(&machine, UInt64(window))
        #expect(machine.canSend)
    }
}

@Suite struct SenderTimeTests {
    private func tick(_ machine: inout SenderMachine, _ now: UInt64) -> [SenderMachine.Action] {
        machine.tick(now: now) { Samples.heartbeat }
    }

    private func progress(_ machine: inout SenderMachine, _ now: UInt64) {
        _ = machine.received(.ack(Samples.ack), now: now) { _ in .held }
    }

    @Test func timesFitEachOther() {
        // Several heartbeats may be lost in a stall before the peer is taken for dead.
        #expect(SenderMachine.heartbeatNanoseconds * 4 < SenderMachine.silenceNanoseconds)
        #expect(SenderMachine.handshakeNanoseconds == 10 * second)
        #expect(SenderMachine.heartbeatNanoseconds == 2 * second)
        #expect(SenderMachine.silenceNanoseconds == 15 * second)
    }

    @Test func handshakeHasADeadline() {
        var machine = SenderState.awaitingHello.machine
        #expect(tick(&machine, start + 10 * second) == [])
        // A hello that comes byte by byte gets no more time.
        machine.heard(now: start + 10 * second)
        #expect(tick(&machine, start + 10 * second + 1) == [.close("no hello within 10 s")])
        #expect(tick(&machine, start + 20 * second) == [])
        #expect(machine.greeted(Samples.receiver) == [])
    }

    @Test(arguments: [SenderState.syncing, .streaming]) fileprivate func silenceEndsTheConnection(state: SenderState) {
        var machine = state.machine
        progress(&machine, start + 5 * second)
        #expect(tick(&machine, start + 20 * second) == [.send(.heartbeat(Samples.heartbeat))])
        #expect(tick(&machine, start + 20 * second + 1) == [.close("nothing heard for 15 s")])
        #expect(tick(&machine, start + 90 * second) == [])
        #expect(!machine.isStreaming)
    }

    /// A frame that takes longer than that to come is a slow line, not a dead peer.
    @Test func bytesOfAnUnfinishedFrameBreakTheSilence() {
        var machine = SenderState.streaming.machine
        machine.sent(bytes: 0, now: start + 25 * second)
        machine.heard(now: start + 14 * second)
        #expect(tick(&machine, start + 26 * second) == [.send(.heartbeat(Samples.heartbeat))])
        #expect(tick(&machine, start + 29 * second + 1) == [.close("nothing heard for 15 s")])
    }

    @Test(arguments: [SenderState.syncing, .streaming]) fileprivate func heartbeatsComeWhateverElseIsSent(
        state: SenderState
    ) {
        var machine = state.machine
        progress(&machine, start + 4 * second)
        #expect(tick(&machine, start + 2 * second - 1) == [])
        #expect(tick(&machine, start + 2 * second) == [.send(.heartbeat(Samples.heartbeat))])
        #expect(tick(&machine, start + 3 * second) == [])
        machine.sent(bytes: 9, now: start + 3 * second)
        #expect(tick(&machine, start + 4 * second - 1) == [])
        #expect(tick(&machine, start + 4 * second) == [.send(.heartbeat(Samples.heartbeat))])
    }

    @Test func noHeartbeatBeforeTheHelloOrAfterTheEnd() {
        var waiting = SenderState.awaitingHello.machine
        #expect(tick(&waiting, start + 9 * second) == [])
        var closed = SenderState.closed.machine
        #expect(tick(&closed, start + 9 * second) == [])
        #expect(tick(&closed, start + 99 * second) == [])
    }

    /// Times taken by two threads come in any order.
    @Test(arguments: [SenderState.awaitingHello, .syncing, .streaming])
    fileprivate func clockThatGoesBack(state: SenderState) {
        var machine = state.machine
        #expect(tick(&machine, 0) == [])
        progress(&machine, 0)
        machine.heard(now: 0)
        machine.sent(bytes: 0, now: 0)
        #expect(tick(&machine, 0) == [])
        // What was heard later is not forgotten.
        var streaming = SenderState.streaming.machine
        progress(&streaming, start + 10 * second)
        progress(&streaming, start + second)
        #expect(tick(&streaming, start + 25 * second) == [.send(.heartbeat(Samples.heartbeat))])
    }
}
