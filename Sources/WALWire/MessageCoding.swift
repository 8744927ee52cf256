import WALFormat

extension Message {
    package var type: MessageType {
        switch self {
        case .hello: .hello
        case .welcome: .welcome
        case .refuse: .refuse
        case .segmentPart: .segmentPart
        case .ack: .ack
        case .heartbeat: .heartbeat
        case .group: .group
        case .syncBegin: .syncBegin
        case .syncEntries: .syncEntries
        case .syncEnd: .syncEnd
        case .syncDone: .syncDone
        case .want: .want
        case .block: .block
        case .request: .request
        case .response: .response
        case .content: .content
        }
    }

    /// The message as one frame. `extraBytes` of payload follow that the caller sends from elsewhere.
    package func frame(epoch: UInt64, extraBytes: Int = 0) -> [UInt8] {
        var payload = ByteWriter()
        encode(to: &payload)
        let checked = payload.bytes.withUnsafeBytes { bytes in
            Digest(of: .init(rebasing: bytes[..<type.checkedBytes(of: bytes.count)]))
        }
        let header = FrameHeader(
            length: UInt32(payload.count + extraBytes), type: type, epoch: epoch, payloadChecksum: checked.short)
        return header.encoded() + payload.bytes
    }

    /// The message of a frame, of which `payload` is all that follows the header.
    package init(_ header: FrameHeader, payload: UnsafeRawBufferPointer) throws(FormatError) {
        let checked = UnsafeRawBufferPointer(rebasing: payload[..<header.type.checkedBytes(of: payload.count)])
        guard Digest(of: checked).short == header.payloadChecksum else {
            throw .checksum(what: "\(header.type) frame")
        }
        try self.init(header.type, payload: payload)
    }

    private func encode(to writer: inout ByteWriter) {
        switch self {
        case .hello(let hello):
            writer.integer(hello.version)
            writer.integer(hello.role.rawValue)
            writer.integer(hello.flags.rawValue)
            writer.counted(hello.node)
            writer.digest(hello.history.value)
            writer.integer(hello.promisedEpoch)
            writer.position(hello.position)
            writer.integer(hello.partialBytes)
            writer.counted(hello.address)
        case .welcome(let welcome):
            writer.integer(welcome.way.rawValue)
            writer.digest(welcome.history.value)
            writer.integer(welcome.resumedBytes)
            writer.integer(welcome.behindBytes)
        case .refuse(let refusal):
            writer.integer(refusal.code.rawValue)
            // Cut rather than refused by the peer: the reason is worth more than the end of its text.
            writer.counted(Array(refusal.text.utf8.prefix(Refusal.maxTextBytes)))
            writer.counted(refusal.address)
        case .segmentPart(let part):
            writer.integer(part.seq)
            writer.integer(part.offset)
            writer.integer(part.total)
            writer.raw(part.bytes)
        case .ack(let ack):
            writer.integer(ack.received)
            writer.integer(ack.durable)
            writer.integer(ack.applied)
            writer.integer(ack.consumedBytes)
            writer.integer(UInt8(ack.isSyncing ? 1 : 0))
            writer.integer(UInt8(ack.wantsHeartbeat ? 1 : 0))
            writer.integer(ack.clock)
            writer.integer(ack.writtenBytes)
            writer.integer(ack.copiedBytes)
            writer.integer(ack.loggedBytes)
            writer.integer(ack.groupTag)
        case .heartbeat(let beat):
            writer.position(beat.position)
            writer.integer(beat.captureTime)
            writer.integer(beat.clock)
            writer.integer(beat.echo)
        case .group(let group):
            writer.counted(group.leader)
            writer.integer(group.syncReplicas)
            writer.varint(group.members.count)
            for member in group.members {
                writer.counted(member.name)
                writer.counted(member.address)
            }
            writer.varint(group.epochs.count)
            for start in group.epochs {
                writer.integer(start.epoch)
                writer.integer(start.seq)
            }
        case .syncBegin(let begin):
            writer.position(begin.position)
            writer.digest(begin.treeDigest)
            writer.integer(begin.lastObject)
            writer.integer(begin.objectCount)
            writer.integer(begin.contentBytes)
        case .syncEntries(let entries):
            writer.integer(entries.count)
            writer.integer(entries.codec.rawValue)
            writer.integer(entries.rawBytes)
            writer.raw(entries.bytes)
        case .syncEnd: break
        case .syncDone(let position): writer.position(position)
        case .want(let requests):
            writer.varint(requests.count)
            for request in requests {
                writer.varint(request.object)
                writer.varint(request.offset)
                writer.varint(UInt64(request.block.length))
                writer.digest(request.block.digest)
            }
        case .block(let answer):
            writer.integer(answer.object)
            writer.integer(answer.offset)
            writer.integer(answer.rawBytes)
            writer.integer(answer.codec.rawValue)
            writer.integer(UInt8(answer.isGone ? 1 : 0))
            writer.raw(answer.bytes)
        case .request(let bytes), .response(let bytes), .content(let bytes): writer.raw(bytes)
        }
    }

    /// Reads the payload of a frame. Whatever does not fit the message throws.
    package init(_ type: MessageType, payload: UnsafeRawBufferPointer) throws(FormatError) {
        var reader = ByteReader(payload, what: "\(type) frame")
        switch type {
        case .hello: self = .hello(try Hello(reading: &reader))
        case .welcome:
            let code = try reader.integer(UInt8.self)
            guard let way = Welcome.Way(rawValue: code) else { throw .value(what: "way of a welcome", UInt64(code)) }
            self = .welcome(
                Welcome(
                    way: way, history: HistoryID(try reader.digest()), resumedBytes: try reader.integer(UInt64.self),
                    behindBytes: try reader.integer(UInt64.self)))
        case .refuse:
            let code = try reader.integer(UInt8.self)
            guard let reason = Refusal.Code(rawValue: code) else {
                throw .value(what: "code of a refusal", UInt64(code))
            }
            let text = try reader.countedText("bytes of a refusal's text", limit: Refusal.maxTextBytes)
            self = .refuse(Refusal(reason, text.withoutControls, address: try reader.address()))
        case .segmentPart:
            self = .segmentPart(
                SegmentPart(
                    seq: try reader.seq(), offset: try reader.integer(UInt64.self),
                    total: try reader.integer(UInt64.self), bytes: Array(try reader.take(reader.remaining))))
        case .ack:
            self = .ack(
                Ack(
                    received: try reader.integer(UInt64.self), durable: try reader.integer(UInt64.self),
                    applied: try reader.integer(UInt64.self), consumedBytes: try reader.integer(UInt64.self),
                    isSyncing: try reader.flag("syncing of an ack"),
                    wantsHeartbeat: try reader.flag("wish of an ack for a heartbeat"), clock: try reader.clock(),
                    writtenBytes: try reader.integer(UInt64.self), copiedBytes: try reader.integer(UInt64.self),
                    loggedBytes: try reader.integer(UInt64.self), groupTag: try reader.integer(UInt64.self)))
        case .heartbeat:
            self = .heartbeat(
                Heartbeat(
                    position: try reader.position(), captureTime: try reader.clock(), clock: try reader.clock(),
                    echo: try reader.clock()))
        case .group: self = .group(try Group(reading: &reader))
        case .syncBegin:
            let position = try reader.position()
            let treeDigest = try reader.digest()
            let lastObject = try reader.integer(UInt64.self)
            guard lastObject < ObjectID.firstLocal else { throw .value(what: "last object of a sync", lastObject) }
            self = .syncBegin(
                SyncBegin(
                    position: position, treeDigest: treeDigest, lastObject: lastObject,
                    objectCount: try reader.integer(UInt64.self), contentBytes: try reader.integer(UInt64.self)))
        case .syncEntries: self = .syncEntries(try SyncEntries(reading: &reader))
        case .syncEnd: self = .syncEnd
        case .syncDone: self = .syncDone(try reader.position())
        case .want: self = .want(try Message.wants(&reader))
        case .block: self = .block(try BlockAnswer(reading: &reader))
        case .request: self = .request(Array(try reader.take(reader.remaining)))
        case .response: self = .response(Array(try reader.take(reader.remaining)))
        case .content: self = .content(Array(try reader.take(reader.remaining)))
        }
        try reader.expectEnd()
    }

    private static func wants(_ reader: inout ByteReader) throws(FormatError) -> [BlockRequest] {
        let count = try reader.count("blocks of a want", limit: Limits.maxWantBlocks)
        var requests: [BlockRequest] = []
        for _ in 0..<count {
            let object = try reader.varint()
            let offset = try reader.varint()
            let length = UInt32(try reader.count("bytes of a block", limit: Limits.maxChunkBytes))
            guard length > 0 else { throw .value(what: "bytes of a block", 0) }
            try checkPlace(object, offset, length: length)
            let block = ContentBlock(length: length, digest: try reader.digest())
            requests.append(BlockRequest(object: object, offset: offset, block: block))
        }
        return requests
    }
}

extension Hello {
    /// Version first: a later one may have another form behind it.
    init(reading reader: inout ByteReader) throws(FormatError) {
        version = try reader.integer(UInt16.self)
        guard version == Hello.protocolVersion else {
            throw .version(what: "protocol", found: UInt32(version), supported: UInt32(Hello.protocolVersion))
        }
        let code = try reader.integer(UInt8.self)
        guard let role = Role(rawValue: code) else { throw .value(what: "role of a hello", UInt64(code)) }
        self.role = role
        flags = Flags(rawValue: try reader.integer(UInt8.self))
        guard flags.isSubset(of: .known) else { throw .value(what: "flags of a hello", UInt64(flags.rawValue)) }
        node = try reader.nodeName()
        history = HistoryID(try reader.digest())
        promisedEpoch = try reader.epoch()
        position = try reader.position()
        partialBytes = try reader.integer(UInt64.self)
        address = try reader.address()
    }
}

extension Group {
    /// Names a group, so that a receiver can say which one it has noted. Never 0.
    package var tag: UInt64 { max(1, Digest(of: Message.group(self).frame(epoch: 0)).low) }

    init(reading reader: inout ByteReader) throws(FormatError) {
        leader = try reader.address()
        syncReplicas = try reader.integer(UInt32.self)
        members = []
        for _ in 0..<(try reader.count("members of a group", limit: Limits.maxGroupMembers)) {
            members.append(Member(name: try reader.nodeName(), address: try reader.address()))
        }
        epochs = []
        for _ in 0..<(try reader.count("epochs of a group", limit: Limits.maxGroupEpochs)) {
            let start = EpochStart(epoch: try reader.epoch(), seq: try reader.seq())
            guard epochs.last.map({ $0.epoch < start.epoch && $0.seq <= start.seq }) ?? true else {
                throw .value(what: "order of epochs, at", start.epoch)
            }
            epochs.append(start)
        }
    }
}

extension SyncEntries {
    init(reading reader: inout ByteReader) throws(FormatError) {
        count = try reader.integer(UInt32.self)
        let code = try reader.integer(UInt8.self)
        guard let codec = Codec(rawValue: code) else { throw .value(what: "codec of entries", UInt64(code)) }
        self.codec = codec
        rawBytes = try reader.integer(UInt32.self)
        let stored = try reader.take(reader.remaining)
        try checkCoded(codec, raw: rawBytes, stored: stored.count, limit: Int(Limits.maxSegmentRawBytes))
        bytes = Array(stored)
    }

    /// The entries' raw bytes.
    package func raw() throws(FormatError) -> [UInt8] { try decoded(codec, bytes, rawBytes) }
}

extension BlockAnswer {
    init(reading reader: inout ByteReader) throws(FormatError) {
        object = try reader.integer(UInt64.self)
        offset = try reader.integer(UInt64.self)
        rawBytes = try reader.integer(UInt32.self)
        let code = try reader.integer(UInt8.self)
        guard let codec = Codec(rawValue: code) else { throw .value(what: "codec of a block", UInt64(code)) }
        self.codec = codec
        isGone = try reader.flag("gone of a block")
        let stored = try reader.take(reader.remaining)
        try checkPlace(object, offset, length: rawBytes)
        if isGone {
            guard stored.isEmpty else { throw .value(what: "bytes of a block that is gone", UInt64(stored.count)) }
            // Nobody reserves room for what does not come.
            guard rawBytes <= UInt32(Limits.maxChunkBytes) else {
                throw .limit("raw bytes of a frame", value: UInt64(rawBytes), limit: UInt64(Limits.maxChunkBytes))
            }
        } else {
            guard rawBytes > 0 else { throw .value(what: "bytes of a block", 0) }
            try checkCoded(codec, raw: rawBytes, stored: stored.count, limit: Limits.maxChunkBytes)
        }
        bytes = Array(stored)
    }

    /// The block's raw bytes; not yet checked against its digest.
    package func raw() throws(FormatError) -> [UInt8] { try decoded(codec, bytes, rawBytes) }
}

/// A number that objects of a history have, and bytes that a file can have: whoever gets the message may reckon with it.
private func checkPlace(_ object: ObjectID, _ offset: UInt64, length: UInt32) throws(FormatError) {
    guard object > 0, object < ObjectID.firstLocal else { throw .value(what: "number of an object", object) }
    guard offset <= UInt64(Int64.max) - UInt64(length) else { throw .value(what: "offset of a block", offset) }
}

/// Before anything is reserved for the raw bytes.
private func checkCoded(_ codec: Codec, raw: UInt32, stored: Int, limit: Int) throws(FormatError) {
    guard raw <= UInt32(limit) else { throw .limit("raw bytes of a frame", value: UInt64(raw), limit: UInt64(limit)) }
    guard codec == .none ? stored == Int(raw) : stored < Int(raw) else {
        throw .value(what: "stored bytes of a frame", UInt64(stored))
    }
}

private func decoded(_ codec: Codec, _ stored: [UInt8], _ rawBytes: UInt32) throws(FormatError) -> [UInt8] {
    guard codec == .zlib else { return stored }
    var raw = [UInt8](repeating: 0, count: Int(rawBytes))
    var failure: FormatError?
    raw.withUnsafeMutableBytes { target in
        stored.withUnsafeBytes { source in
            do throws(FormatError) { try Deflate.decompress(source, into: target) } catch { failure = error }
        }
    }
    if let failure { throw failure }
    return raw
}

extension ByteWriter {
    mutating func position(_ position: Position) {
        integer(position.epoch)
        integer(position.seq)
        digest(position.chain)
    }
}

extension ByteReader {
    mutating func nodeName() throws(FormatError) -> String {
        try plainText("name of a node", limit: Limits.maxNodeNameBytes)
    }

    /// Whether it is one is for whoever dials it.
    mutating func address() throws(FormatError) -> String {
        try plainText("address", limit: Limits.maxAddressBytes)
    }

    /// Two that differ must not become one by being shown.
    private mutating func plainText(_ what: String, limit: Int) throws(FormatError) -> String {
        let bytes = try counted("bytes of the \(what)", limit: limit)
        guard let text = String(validating: bytes, as: UTF8.self), text == text.withoutControls else {
            throw .text(what: what, PathText.escaped(bytes))
        }
        return text
    }

    mutating func position() throws(FormatError) -> Position {
        Position(epoch: try epoch(), seq: try seq(), chain: try digest())
    }

    /// 0 for a node that has none; otherwise as a segment may have it, so that one more is always a number.
    mutating func epoch() throws(FormatError) -> UInt64 {
        let epoch = try integer(UInt64.self)
        guard epoch < UInt64(Int64.max) else { throw .value(what: "epoch", epoch) }
        return epoch
    }

    mutating func seq() throws(FormatError) -> UInt64 {
        let seq = try integer(UInt64.self)
        guard seq < UInt64(Int64.max) else { throw .value(what: "seq", seq) }
        return seq
    }

    /// A wrong clock stops no replication, but it must not overflow the lag that is reckoned from it: held within 146
    /// years of 1970.
    mutating func clock() throws(FormatError) -> Int64 {
        min(max(try integer(Int64.self), -maxClock), maxClock)
    }

    mutating func flag(_ what: String) throws(FormatError) -> Bool {
        let value = try integer(UInt8.self)
        guard value <= 1 else { throw .value(what: what, UInt64(value)) }
        return value == 1
    }
}

private let maxClock: Int64 = 1 << 62

extension String {
    /// What a peer says ends up in logs and terminals, some of which take control characters for commands.
    fileprivate var withoutControls: String {
        var scalars = String.UnicodeScalarView()
        for scalar in unicodeScalars {
            scalars.append(scalar.properties.generalCategory == .control ? "\u{FFFD}" : scalar)
        }
        return String(scalars)
    }
}
