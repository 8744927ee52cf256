import Testing
import WALFormat
import WALTestKit
import WALWire

/// Frames of an enemy: any of them may be refused, none may trap, and what is taken must mean what it says.
@Suite struct FuzzTests {
    /// What is changed is what the checksums are made of.
    @Test func mutatedFramesFailOrAreCanonical() throws {
        var random = SeededRandom()
        random.announce()
        var taken = 0
        for round in 0..<20_000 {
            let type = MessageType.all.randomElement(using: &random)!
            var frame = Samples.message(type, &random).frame(epoch: random.anyUInt64() >> 2)
            for _ in 0..<random.int(in: 1...3) { mutate(&frame, &random) }
            guard frame.count >= FrameHeader.byteCount, let header = try? FrameHeader(FrameHeader.sealed(frame)) else {
                continue
            }
            #expect(Int(header.length) <= header.type.maxPayloadBytes, "round \(round), \(random.reproduce)")
            // A length that does not match what follows is the reader's to wait for; here the rest is the payload.
            let payload = Array(frame[FrameHeader.byteCount...])
            guard let message = try? Message(header.type, payload) else { continue }
            taken += 1
            // Clocks are held and texts made harmless; the rest has one form only.
            switch header.type {
            case .ack, .heartbeat, .refuse:
                #expect(try Message(header.type, message.payload) == message, "round \(round), \(random.reproduce)")
            default: #expect(message.payload == payload, "round \(round), \(random.reproduce)")
            }
            unpack(message)
        }
        // Lengths, codes and limits take the others.
        #expect(taken > 4000, "\(random.reproduce)")
    }

    /// Whatever a peer sends in whatever order: the machines answer, and end the connection once.
    @Test func randomConversationsNeverTrap() {
        var random = SeededRandom()
        random.announce()
        var welcomed = 0
        for round in 0..<5000 {
            var own = Samples.receiver
            own.flags = [[], [], .needsSync, .empty].randomElement(using: &random)!
            var receiver = ReceiverMachine(own: own, partial: random.bytes(random.int(in: 0...300)), now: .max / 2)
            var sender = SenderMachine(history: Samples.history, epoch: 3, now: .max / 2)
            var ends = (receiver: 0, sender: 0)
            let welcome = Welcome(way: way(for: own), history: Samples.history, resumedBytes: 0)
            let script: [Message] = [.hello(Samples.sender), .welcome(welcome)]
            // Half of the peers behave until they are trusted.
            let polite = random.once(in: 2) ? script.count : 0
            for step in 0..<random.int(in: 3...20) {
                let isScript = step < polite
                let message = isScript ? script[step] : hostile(&random)
                let now = !isScript && random.once(in: 4) ? random.anyUInt64() : .max / 2
                let epoch = !isScript && random.once(in: 8) ? random.next() : 3
                for action in receiver.received(message, epoch: epoch, now: now) {
                    switch action {
                    case .close, .refused: ends.receiver += 1
                    case .welcomed: welcomed += 1
                    case .syncBegin(let begin): _ = receiver.syncDone(begin.position)
                    default: break
                    }
                }
                if !isScript, random.once(in: 5) { _ = receiver.syncDone(hostilePosition(&random)) }
                if random.once(in: 5) { _ = receiver.kept() }
                if !isScript, random.once(in: 5) { _ = receiver.tick(now: now) { Samples.ack } }
                let actions = sender.received(message, now: now) { position in
                    [.held(), .pruned, .diverged(own: position)][Int(position.seq % 3)]
                }
                for case .close in actions { ends.sender += 1 }
                if random.once(in: 3) { sender.sent(bytes: random.int(in: 0...1 << 40), now: now) }
                _ = sender.canSend
                if random.once(in: 5) { _ = sender.tick(now: now) { Samples.heartbeat } }
            }
            #expect(ends.receiver <= 1 && ends.sender <= 1, "round \(round), \(random.reproduce)")
            #expect(UInt64(receiver.partial.count) <= ReceiverMachine.maxSegmentBytes)
        }
        #expect(welcomed > 2000, "\(random.reproduce)")
    }

    private func way(for own: Hello) -> Welcome.Way {
        own.flags.isEmpty ? .stream : own.flags.contains(.empty) ? .everything : .list
    }

    /// A message that no frame might carry: the machines do not lean on the checks before them.
    private func hostile(_ random: inout SeededRandom) -> Message {
        var hello = random.once(in: 2) ? Samples.sender : Samples.receiver
        switch random.int(in: 0..<8) {
        case 0:
            hello.position = hostilePosition(&random)
            hello.partialBytes = random.next()
            hello.promisedEpoch = random.once(in: 3) ? random.next() : 3
            return .hello(hello)
        case 1: return .hello(hello)
        case 2:
            let way: Welcome.Way = [.stream, .list, .everything].randomElement(using: &random)!
            return .welcome(Welcome(way: way, history: Samples.history, resumedBytes: random.anyUInt64()))
        case 3:
            let seq: UInt64 = random.once(in: 3) ? random.next() : 11
            return .segmentPart(
                SegmentPart(
                    seq: seq, offset: random.once(in: 2) ? 0 : random.anyUInt64(),
                    total: random.once(in: 2) ? 100 : random.anyUInt64(), bytes: random.bytes(random.int(in: 0...100))))
        case 4:
            return .ack(
                Ack(
                    received: .max, durable: .max, applied: .max, consumedBytes: random.next(), isSyncing: true,
                    clock: .min))
        case 5: return .syncDone(hostilePosition(&random))
        default: return Samples.message(MessageType.all.randomElement(using: &random)!, &random)
        }
    }

    private func hostilePosition(_ random: inout SeededRandom) -> Position {
        let seq: UInt64 = [.max, UInt64(Int64.max), 0, random.next()].randomElement(using: &random)!
        return Position(epoch: .max, seq: seq, chain: .zero)
    }

    private func unpack(_ message: Message) {
        switch message {
        case .syncEntries(let entries): _ = try? entries.raw()
        case .block(let answer): _ = try? answer.raw()
        default: break
        }
    }

    private func mutate(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        guard !bytes.isEmpty else {
            bytes = random.bytes(3)
            return
        }
        // Most of the time within what is not plain bytes.
        let place = random.int(in: 0..<(random.once(in: 3) ? bytes.count : min(bytes.count, 90)))
        switch random.int(in: 0..<7) {
        case 0: bytes[place] ^= 1 << UInt8(random.int(in: 0..<8))
        case 1: bytes[place] = [0x00, 0x01, 0x7F, 0x80, 0xFF].randomElement(using: &random)!
        case 2: bytes[place] = UInt8(truncatingIfNeeded: random.next())
        case 3: bytes.removeSubrange(place..<min(place + random.int(in: 1...20), bytes.count))
        case 4: bytes.insert(contentsOf: random.bytes(random.int(in: 1...20)), at: place)
        case 5: bytes.removeLast(bytes.count - place)
        default:
            let value = random.once(in: 2) ? UInt64.max : random.next()
            let end = min(place + 8, bytes.count)
            bytes.replaceSubrange(
                place..<end, with: withUnsafeBytes(of: value.littleEndian) { Array($0.prefix(end - place)) })
        }
    }
}
