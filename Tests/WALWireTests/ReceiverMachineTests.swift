import Testing
import WALFormat
import WALWire

private let second: UInt64 = 1_000_000_000
private let start: UInt64 = 1000 * second

/// The receiver's states, each reached as a sender leads it there.
private enum ReceiverState: CaseIterable {
    case awaitingHello, awaitingWelcome, awaitingSync, listing, listed, streaming, closed

    var machine: ReceiverMachine {
        var own = Samples.receiver
        if [.awaitingSync, .listing, .listed].contains(self) { own.flags = .needsSync }
        var machine = ReceiverMachine(own: own, partial: [], now: start)
        switch self {
        case .awaitingHello: break
        case .awaitingWelcome: machine.take([.hello(Samples.sender)])
        case .awaitingSync: machine.take([.hello(Samples.sender), welcome(.list)])
        case .listing: machine.take([.hello(Samples.sender), welcome(.list), .syncBegin(Samples.syncBegin)])
        case .listed:
            machine.take([.hello(Samples.sender), welcome(.list), .syncBegin(Samples.syncBegin), .syncEnd])
        case .streaming: machine.take([.hello(Samples.sender), welcome(.stream)])
        case .closed: _ = machine.fail(Refusal(.busy, "later"))
        }
        return machine
    }

    /// Everything else is unexpected.
    var expected: Set<MessageType> {
        switch self {
        case .awaitingHello: [.hello, .refuse]
        case .awaitingWelcome: [.welcome, .refuse]
        case .awaitingSync: [.syncBegin, .heartbeat, .group, .refuse]
        case .listing: [.syncEntries, .syncEnd, .block, .heartbeat, .group, .refuse]
        case .listed: [.block, .heartbeat, .group, .refuse]
        case .streaming: [.segmentPart, .block, .heartbeat, .group, .refuse]
        case .closed: []
        }
    }
}

private func welcome(_ way: Welcome.Way, resumed: UInt64 = 0) -> Message {
    .welcome(Welcome(way: way, history: Samples.history, resumedBytes: resumed))
}

extension ReceiverMachine {
    fileprivate mutating func take(_ messages: [Message]) {
        for message in messages { _ = received(message, epoch: 3, now: start) }
    }

    fileprivate mutating func answer(_ message: Message, epoch: UInt64 = 3) -> [Action] {
        received(message, epoch: epoch, now: start)
    }

    fileprivate var isClosed: Bool {
        var copy = self
        return copy.fail(Refusal(.busy, "")).isEmpty
    }
}

private func failed(_ code: Refusal.Code, _ text: String) -> [ReceiverMachine.Action] {
    [.send(.refuse(Refusal(code, text))), .close(text)]
}

/// Every message in every state.
@Suite struct ReceiverTransitionTests {
    @Test(arguments: ReceiverState.allCases, MessageType.all)
    fileprivate func transition(state: ReceiverState, type: MessageType) {
        var machine = state.machine
        // The piece that comes next: the whole segment, so that it is handed on.
        let message: Message =
            type == .segmentPart
            ? .segmentPart(SegmentPart(seq: 11, offset: 0, total: 3, bytes: [1, 2, 3]))
            : type == .welcome ? welcome(.stream) : Samples.each[Int(type.rawValue) - 1]
        let actions = machine.answer(message)
        guard state != .closed else {
            #expect(actions == [])
            return
        }
        guard state.expected.contains(type) else {
            #expect(actions == failed(.malformed, "unexpected \(type) frame"))
            #expect(machine.isClosed)
            return
        }
        switch message {
        case .hello: #expect(actions == [])
        case .welcome(let welcome): #expect(actions == [.welcomed(welcome, sender: Samples.sender)])
        case .refuse(let refusal): #expect(actions == [.refused(refusal)])
        case .segmentPart(let part): #expect(actions == [.segment(part.bytes)])
        case .heartbeat(let beat): #expect(actions == [.heartbeat(beat)])
        case .syncBegin(let begin): #expect(actions == [.syncBegin(begin)])
        case .group(let group): #expect(actions == [.group(group)])
        default: #expect(actions == [.content(message)])
        }
        #expect(machine.isClosed == (type == .refuse))
        #expect(machine.isStreaming == ((state == .streaming && type != .refuse) || type == .welcome))
    }

    @Test(arguments: ReceiverState.allCases) fileprivate func syncDone(state: ReceiverState) {
        var machine = state.machine
        let actions = machine.syncDone(Samples.sender.position)
        guard state == .listed else {
            #expect(actions == [])
            return
        }
        #expect(actions == [.send(.syncDone(Samples.sender.position))])
        #expect(machine.isStreaming)
        let next = SegmentPart(seq: 21, offset: 0, total: 2, bytes: [1, 2])
        #expect(machine.answer(.segmentPart(next)) == [.segment([1, 2])])
        #expect(machine.syncDone(Samples.sender.position) == [])
    }

    @Test(arguments: [UInt64(Int64.max), .max]) func syncDoneWhereNothingCanFollow(seq: UInt64) {
        var machine = ReceiverState.listed.machine
        let actions = machine.syncDone(Position(epoch: 3, seq: seq, chain: .zero))
        #expect(actions == failed(.malformed, "no segment follows 3:\(seq)"))
        #expect(!machine.isStreaming)
    }

    @Test(arguments: ReceiverState.allCases) fileprivate func connectionEndsOnce(state: ReceiverState) {
        var machine = state.machine
        let refusal = Refusal(.fenced, "another primary")
        #expect(machine.fail(refusal) == (state == .closed ? [] : failed(.fenced, "another primary")))
        #expect(machine.fail(refusal) == [])
        #expect(!machine.isStreaming)
    }

    @Test func contentIsCounted() {
        var machine = ReceiverState.listing.machine
        _ = machine.answer(.syncEntries(Samples.entries))
        _ = machine.answer(.block(Samples.block))
        _ = machine.answer(.heartbeat(Samples.heartbeat))
        #expect(machine.consumedBytes == 6)
        var streaming = ReceiverState.streaming.machine
        _ = streaming.answer(.segmentPart(SegmentPart(seq: 11, offset: 0, total: 9, bytes: [1, 2])))
        _ = streaming.answer(.block(Samples.block))
        #expect(streaming.consumedBytes == 5)
        // What is refused is not consumed.
        _ = streaming.answer(.segmentPart(SegmentPart(seq: 12, offset: 0, total: 9, bytes: [1, 2])))
        #expect(streaming.consumedBytes == 5)
    }
}

@Suite struct ReceiverHandshakeTests {
    private func machine(_ change: (inout Hello) -> Void = { _ in }, partial: [UInt8] = []) -> ReceiverMachine {
        var own = Samples.receiver
        change(&own)
        return ReceiverMachine(own: own, partial: partial, now: start)
    }

    private func sender(_ change: (inout Hello) -> Void = { _ in }) -> Message {
        var hello = Samples.sender
        change(&hello)
        return .hello(hello)
    }

    @Test(arguments: [Hello.Role.receiver, .control]) func onlyASenderIsFollowed(role: Hello.Role) {
        var machine = machine()
        #expect(machine.answer(sender { $0.role = role }) == failed(.malformed, "expected a primary, found a \(role)"))
    }

    @Test func otherHistoryIsRefused() {
        var machine = machine()
        let text = "this replica belongs to history \(Samples.history), not to \(Samples.otherHistory)"
        // Also when the epochs would decide: they are of another history.
        #expect(
            machine.answer(sender { $0.history = Samples.otherHistory }, epoch: 2) == failed(.unknownHistory, text))
    }

    @Test func senderWithoutAHistoryIsRefused() {
        for history in [Samples.history, .none] {
            var machine = machine { $0.history = history }
            let text = "this replica belongs to history \(history), not to \(HistoryID.none)"
            #expect(machine.answer(sender { $0.history = .none }) == failed(.unknownHistory, text))
        }
    }

    @Test func receiverWithoutAHistoryTakesAny() {
        var machine = machine {
            $0.history = .none
            $0.promisedEpoch = 0
            $0.position = .start
        }
        #expect(machine.answer(sender { $0.history = Samples.otherHistory }) == [])
        let list = Welcome(way: .list, history: Samples.otherHistory, resumedBytes: 0)
        #expect(machine.answer(.welcome(list)).count == 1)
        #expect(!machine.isClosed)
    }

    @Test func welcomeOfAnotherHistory() {
        var machine = ReceiverState.awaitingWelcome.machine
        let other = Welcome(way: .list, history: Samples.otherHistory, resumedBytes: 0)
        #expect(
            machine.answer(.welcome(other)) == failed(.malformed, "welcome of another history than the hello"))
    }

    /// Segments go only onto a tree that is where the position says; all content only onto an empty one.
    @Test func welcomeThatWasNotAskedFor() {
        let asked: [(Hello.Flags, HistoryID, Set<Welcome.Way>)] = [
            ([], Samples.history, [.stream, .list]),
            ([], .none, [.list]),
            (.needsSync, Samples.history, [.list]),
            (.empty, Samples.history, [.list, .everything]),
            (.empty, .none, [.list, .everything]),
            ([.empty, .needsSync], Samples.history, [.list, .everything]),
        ]
        for (flags, history, allowed) in asked {
            for way: Welcome.Way in [.stream, .list, .everything] {
                var machine = machine {
                    $0.flags = flags
                    $0.history = history
                }
                #expect(machine.answer(sender()) == [])
                let actions = machine.answer(welcome(way))
                if allowed.contains(way) {
                    let expected = Welcome(way: way, history: Samples.history, resumedBytes: 0)
                    #expect(actions == [.welcomed(expected, sender: Samples.sender)])
                } else {
                    #expect(actions == failed(.malformed, "welcome to \(way), which was not asked for"))
                }
            }
        }
    }

    // MARK: Epochs

    @Test func lowerEpochIsFenced() {
        var machine = machine()
        #expect(machine.answer(sender(), epoch: 2) == failed(.fenced, "epoch 2 is below the promised 3"))
    }

    @Test func higherEpochIsToBePromised() {
        var machine = machine()
        #expect(machine.epoch == 3)
        #expect(machine.answer(sender(), epoch: 7) == [])
        #expect(machine.epoch == 7)
    }

    @Test func refusedSenderRaisesNoEpoch() {
        var machine = machine()
        _ = machine.answer(sender { $0.history = Samples.otherHistory }, epoch: 7)
        #expect(machine.epoch == 3)
    }

    @Test func senderThatHasPromisedAnotherIsFenced() {
        var machine = machine()
        #expect(
            machine.answer(sender { $0.promisedEpoch = 9 }, epoch: 8)
                == failed(.fenced, "the primary of epoch 8 has itself promised 9"))
        #expect(machine.epoch == 3)
    }

    @Test(arguments: [ReceiverState.awaitingWelcome, .awaitingSync, .listing, .listed, .streaming])
    fileprivate func everyFrameIsOfTheEpochOfTheHello(state: ReceiverState) {
        for type in state.expected.subtracting([.refuse]) {
            let message = type == .welcome ? welcome(.stream) : Samples.each[Int(type.rawValue) - 1]
            var lower = state.machine
            #expect(lower.answer(message, epoch: 2) == failed(.fenced, "epoch 2 is below the promised 3"))
            // It would have to be promised first, and that is done at a hello.
            var higher = state.machine
            #expect(higher.answer(message, epoch: 4) == failed(.malformed, "epoch 4 after a hello of epoch 3"))
            #expect(higher.epoch == 3)
        }
    }

    @Test(arguments: ReceiverState.allCases) fileprivate func refusalIsHeardAtAnyEpoch(state: ReceiverState) {
        for epoch: UInt64 in [0, 3, 9] {
            var machine = state.machine
            let refusal = Refusal(.redirect, "[::1]:7420")
            #expect(machine.answer(.refuse(refusal), epoch: epoch) == (state == .closed ? [] : [.refused(refusal)]))
            #expect(machine.isClosed)
        }
    }
}

@Suite struct ReceiverTimeTests {
    private func tick(_ machine: inout ReceiverMachine, _ now: UInt64) -> [ReceiverMachine.Action] {
        machine.tick(now: now) { Samples.ack }
    }

    @Test func handshakeHasOneDeadline() {
        var waiting = ReceiverState.awaitingHello.machine
        waiting.heard(now: start + 10 * second)
        #expect(tick(&waiting, start + 10 * second) == [])
        #expect(tick(&waiting, start + 10 * second + 1) == [.close("no answer within 10 s")])
        #expect(tick(&waiting, start + 60 * second) == [])
        // A hello at the last moment buys no time for the welcome.
        var greeted = ReceiverState.awaitingHello.machine
        #expect(greeted.received(.hello(Samples.sender), epoch: 3, now: start + 9 * second) == [])
        #expect(tick(&greeted, start + 10 * second) == [])
        #expect(tick(&greeted, start + 10 * second + 1) == [.close("no answer within 10 s")])
        #expect(greeted.answer(welcome(.stream)) == [])
    }

    @Test(arguments: [ReceiverState.awaitingSync, .listing, .listed, .streaming])
    fileprivate func silenceEndsTheConnection(state: ReceiverState) {
        var machine = state.machine
        #expect(machine.received(.heartbeat(Samples.heartbeat), epoch: 3, now: start + 5 * second).count == 1)
        machine.sent(now: start + 20 * second)
        #expect(tick(&machine, start + 20 * second) == [])
        #expect(tick(&machine, start + 20 * second + 1) == [.close("nothing heard for 15 s")])
        #expect(tick(&machine, start + 90 * second) == [])
    }

    @Test func bytesOfAnUnfinishedFrameBreakTheSilence() {
        var machine = ReceiverState.streaming.machine
        machine.sent(now: start + 25 * second)
        machine.heard(now: start + 14 * second)
        #expect(tick(&machine, start + 26 * second) == [])
        #expect(tick(&machine, start + 29 * second + 1) == [.close("nothing heard for 15 s")])
    }

    @Test(arguments: [ReceiverState.awaitingSync, .listing, .listed, .streaming])
    fileprivate func acksFillSilence(state: ReceiverState) {
        var machine = state.machine
        #expect(tick(&machine, start + 2 * second - 1) == [])
        #expect(tick(&machine, start + 2 * second) == [.send(.ack(Samples.ack))])
        #expect(tick(&machine, start + 3 * second) == [])
        machine.sent(now: start + 3 * second)
        #expect(tick(&machine, start + 4 * second) == [])
        #expect(tick(&machine, start + 5 * second) == [.send(.ack(Samples.ack))])
    }

    @Test(arguments: [ReceiverState.awaitingHello, .awaitingWelcome, .closed])
    fileprivate func noAckBeforeTheWelcomeOrAfterTheEnd(state: ReceiverState) {
        var machine = state.machine
        #expect(tick(&machine, start + 9 * second) == [])
    }

    @Test(arguments: ReceiverState.allCases) fileprivate func clockThatGoesBack(state: ReceiverState) {
        var machine = state.machine
        machine.heard(now: 0)
        machine.sent(now: 0)
        #expect(tick(&machine, 0) == [])
        #expect(tick(&machine, start + second) == [])
    }
}
