import WALApply
import WALFormat
import WALNode
import WALTestKit
import WALWire

/// A parser of bytes that a peer, a disk or a person gives. Whatever they are, it takes them or throws: it neither traps nor
/// hangs nor reserves memory beyond its limit, and what it takes has one form only.
package enum FuzzTarget: String, CaseIterable, Sendable {
    case segment, header, entries, journal, patch, frame, conversation, position, path, filter, node, control

    package func run(_ bytes: UnsafeRawBufferPointer) {
        switch self {
        case .segment: Self.segment(Array(bytes))
        case .header: Self.header(bytes)
        case .entries: Self.entries(Array(bytes))
        case .journal: Self.journal(Array(bytes))
        case .patch: Self.patch(Array(bytes))
        case .frame: Self.frame(bytes)
        case .conversation: Self.conversation(bytes)
        case .position: Self.position(String(decoding: bytes, as: UTF8.self))
        case .path: Self.path(Array(bytes))
        case .filter: Self.filter(Array(bytes))
        case .node: Self.node(Array(bytes))
        case .control: Self.control(Array(bytes))
        }
    }

    // MARK: The log

    private static func segment(_ bytes: [UInt8]) {
        let kept = bytes.withUnsafeBytes { Segment.wholePrefix($0) }
        precondition(kept <= bytes.count)
        guard let segment = try? Segment(verifying: bytes) else { return }
        precondition(segment.bytes == bytes)
        guard let body = try? segment.rawBody() else { return }
        precondition(UInt64(body.count) == segment.header.rawBytes)
        _ = try? segment.changes()
    }

    private static func header(_ bytes: UnsafeRawBufferPointer) {
        _ = try? SegmentHeader(decoding: bytes)
    }

    /// The first byte says how many there are.
    private static func entries(_ bytes: [UInt8]) {
        guard let count = bytes.first else { return }
        let body = Array(bytes.dropFirst())
        guard let changes = try? WALTestKit.entries(of: body, count: UInt32(count)) else { return }
        var again = ChangeWriter()
        for change in changes { again.append(change, body: body) }
        precondition(again.body.bytes == body, "what was taken has another form, too")
    }

    // MARK: A replica's unfinished work

    private static func journal(_ bytes: [UInt8]) {
        guard let journal = try? Journal(decoding: bytes), !bytes.isEmpty else { return }
        precondition(journal.encoded() == bytes, "what was taken has another form, too")
    }

    /// Without the digest at its end, for that is nothing to mutate.
    private static func patch(_ fields: [UInt8]) {
        let bytes = Patch.sealed(fields)
        guard let patch = try? Patch(decoding: bytes) else { return }
        precondition(patch.encoded(bytes).count <= bytes.count)
    }

    // MARK: The wire

    private static func frame(_ bytes: UnsafeRawBufferPointer) {
        guard let (header, message) = take(bytes, fromStart: false).first else { return }
        let payload = Array(message.frame(epoch: 0).dropFirst(FrameHeader.byteCount))
        precondition(payload.count <= header.type.maxPayloadBytes)
        guard let again = payload.withUnsafeBytes({ try? Message(header.type, payload: $0) }) else {
            preconditionFailure("not its own form")
        }
        precondition(again == message)
        switch message {
        case .syncEntries(let entries): _ = try? entries.raw()
        case .block(let answer): _ = try? answer.raw()
        default: break
        }
    }

    /// Whole frames, one after the other: of each header the first 16 bytes, for checksums are nothing to mutate.
    private static func take(_ bytes: UnsafeRawBufferPointer, fromStart: Bool = true) -> [(FrameHeader, Message)] {
        var rest = bytes[...]
        var frames: [(FrameHeader, Message)] = []
        let fieldBytes = FrameHeader.byteCount - 8
        while rest.count >= fieldBytes {
            let fields = Array(rest.prefix(fieldBytes))
            rest = rest.dropFirst(fieldBytes)
            let length = fields[..<4].reversed().reduce(0) { $0 << 8 | Int($1) }
            let payload = UnsafeRawBufferPointer(rebasing: rest.prefix(length))
            guard
                let header = sealed(fields, payload).withUnsafeBytes({
                    try? FrameHeader(decoding: $0, isFirst: fromStart && frames.isEmpty)
                }), payload.count == Int(header.length), let message = try? Message(header, payload: payload)
            else { break }
            frames.append((header, message))
            rest = rest.dropFirst(Int(header.length))
        }
        return frames
    }

    private static func sealed(_ fields: [UInt8], _ payload: UnsafeRawBufferPointer) -> [UInt8] {
        func checksum(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
            withUnsafeBytes(of: Digest(of: bytes).short.littleEndian, Array.init)
        }
        let checked = MessageType(rawValue: fields[4])?.checkedBytes(of: payload.count) ?? 0
        let header = fields + checksum(UnsafeRawBufferPointer(rebasing: payload[..<checked]))
        return header + header.withUnsafeBytes(checksum)
    }

    /// Frames to both machines at once: each ends its connection once, whatever comes.
    private static func conversation(_ bytes: UnsafeRawBufferPointer) {
        let history = HistoryID(Digest(high: 1, low: 2))
        let own = Hello(
            role: .receiver, node: "replica", history: history, promisedEpoch: 3,
            position: Position(epoch: 3, seq: 10, chain: Digest(high: 10, low: 10)))
        var receiver = ReceiverMachine(own: own, partial: [], now: 1 << 40)
        var sender = SenderMachine(history: history, epoch: 3, now: 1 << 40)
        var ends = (receiver: 0, sender: 0)
        for (header, message) in take(bytes) {
            for action in receiver.received(message, epoch: header.epoch, now: 1 << 40) {
                switch action {
                case .close, .refused: ends.receiver += 1
                case .syncBegin(let begin): _ = receiver.syncDone(begin.position)
                default: break
                }
            }
            _ = receiver.kept()
            let actions = sender.received(message, epoch: header.epoch, now: 1 << 40) { position in
                position.seq % 2 == 0 ? .held() : position.seq % 3 == 0 ? .pruned : .diverged(own: position)
            }
            for case .close in actions { ends.sender += 1 }
            _ = sender.canSend
        }
        precondition(ends.receiver <= 1 && ends.sender <= 1)
        precondition(UInt64(receiver.partial.count) <= ReceiverMachine.maxSegmentBytes)
    }

    // MARK: Texts

    private static func position(_ text: String) {
        guard let position = try? PositionText(text), let chain = position.chain else { return }
        let whole = Position(epoch: position.epoch, seq: position.seq, chain: chain)
        guard let again = try? PositionText(whole.description) else { preconditionFailure("not its own form") }
        precondition(again == position)
    }

    private static func path(_ bytes: [UInt8]) {
        precondition(PathText.unescaped(PathText.escaped(bytes)) == bytes, "not what was escaped")
        _ = PathText.unescaped(String(decoding: bytes, as: UTF8.self))
    }

    /// Rules, and behind a NUL a path that they are asked about.
    private static func filter(_ bytes: [UInt8]) {
        let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
        guard let filter = try? Filter(text: Array(parts[0])) else { return }
        guard let again = try? Filter(lines: filter.lines) else { return }
        precondition(again == filter, "the lines of a filter are another one")
        let names = (parts.count > 1 ? Array(parts[1]) : [0x61]).split(separator: 0x2F).compactMap {
            try? Name(Array($0))
        }
        guard !names.isEmpty else { return }
        _ = filter.matcher.excludes(path: names, isDirectory: true)
        _ = filter.matcher.excludes(path: names, isDirectory: false)
    }

    private static func node(_ bytes: [UInt8]) {
        _ = try? NodeFile(json: bytes, path: "dir/.wal")
    }

    private static func control(_ bytes: [UInt8]) {
        if let request = try? ControlJSON.decode(ControlRequest.self, from: bytes) {
            _ = try? ControlJSON.encode(request)
        }
        if let response = try? ControlJSON.decode(ControlResponse.self, from: bytes) {
            _ = try? ControlJSON.encode(response)
        }
    }
}
