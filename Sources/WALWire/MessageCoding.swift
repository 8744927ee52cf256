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
        case .syncBegin: .syncBegin
        case .syncEntries: .syncEntries
        case .syncEnd: .syncEnd
        case .syncDone: .syncDone
        case .want: .want
        case .block: .block
        case .request: .request
        case .response: .response
        }
    }

    /// The message as one frame. `extraBytes` of payload follow that the caller sends from elsewhere.
    package func frame(epoch: UInt64, extraBytes: Int = 0) -> [UInt8] {
        var payload = ByteWriter()
        encode(to: &payload)
        let header = FrameHeader(length: UInt32(payload.count + extraBytes), type: type, epoch: epoch)
        return header.encoded() + payload.bytes
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
        case .welcome(let welcome):
            writer.integer(welcome.way.rawValue)
            writer.digest(welcome.history.value)
            writer.integer(welcome.resumedBytes)
        case .refuse(let refusal):
            writer.integer(refusal.code.rawValue)
            writer.counted(refusal.text)
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
            writer.integer(ack.clock)
        case .heartbeat(let beat):
            writer.position(beat.position)
            writer.integer(beat.captureTime)
            writer.integer(beat.clock)
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
        case .request(let bytes), .response(let bytes): writer.raw(bytes)
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
                    way: way, history: HistoryID(try reader.digest()), resumedBytes: try reader.integer(UInt64.self)))
        case .refuse:
            let code = try reader.integer(UInt8.self)
            guard let known = Refusal.Code(rawValue: code) else { throw .value(what: "code of a refusal", UInt64(code)) }
            self = .refuse(Refusal(known, try reader.countedText("text of a refusal", limit: 4096)))
        case .segmentPart:
            self = .segmentPart(
                SegmentPart(
                    seq: try reader.integer(UInt64.self), offset: try reader.integer(UInt64.self),
                    total: try reader.integer(UInt64.self), bytes: Array(try reader.take(reader.remaining))))
        case .ack:
            self = .ack(
                Ack(
                    received: try reader.integer(UInt64.self), durable: try reader.integer(UInt64.self),
                    applied: try reader.integer(UInt64.self), consumedBytes: try reader.integer(UInt64.self),
                    isSyncing: try reader.integer(UInt8.self) != 0, clock: try reader.integer(Int64.self)))
        case .heartbeat:
            self = .heartbeat(
                Heartbeat(
                    position: try reader.position(), captureTime: try reader.integer(Int64.self),
                    clock: try reader.integer(Int64.self)))
        case .syncBegin:
            self = .syncBegin(
                SyncBegin(
                    position: try reader.position(), treeDigest: try reader.digest(),
                    lastObject: try reader.integer(UInt64.self), objectCount: try reader.integer(UInt64.self),
                    contentBytes: try reader.integer(UInt64.self)))
        case .syncEntries: self = .syncEntries(try SyncEntries(reading: &reader))
        case .syncEnd: self = .syncEnd
        case .syncDone: self = .syncDone(try reader.position())
        case .want: self = .want(try Message.wants(&reader))
        case .block: self = .block(try BlockAnswer(reading: &reader))
        case .request: self = .request(Array(try reader.take(reader.remaining)))
        case .response: self = .response(Array(try reader.take(reader.remaining)))
        }
        try reader.expectEnd()
    }

    private static func wants(_ reader: inout ByteReader) throws(FormatError) -> [BlockRequest] {
        let count = try reader.count("blocks of a want", limit: Limits.maxWantBlocks)
        var requests: [BlockRequest] = []
        for _ in 0..<count {
            let object = try reader.varint()
            let offset = try reader.varint()
            let length = try reader.count("bytes of a block", limit: Limits.maxChunkBytes)
            guard offset <= UInt64(Int64.max), length > 0 else { throw .value(what: "offset of a want", offset) }
            let block = ContentBlock(length: UInt32(length), digest: try reader.digest())
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
        node = try reader.countedText("bytes of a node's name", limit: Limits.maxNodeNameBytes)
        history = HistoryID(try reader.digest())
        promisedEpoch = try reader.integer(UInt64.self)
        position = try reader.position()
        partialBytes = try reader.integer(UInt64.self)
    }
}

extension SyncEntries {
    init(reading reader: inout ByteReader) throws(FormatError) {
        count = try reader.integer(UInt32.self)
        let code = try reader.integer(UInt8.self)
        guard let codec = Codec(rawValue: code) else { throw .value(what: "codec of entries", UInt64(code)) }
        self.codec = codec
        rawBytes = try reader.integer(UInt32.self)
        bytes = Array(try reader.take(reader.remaining))
        try checkCoded(codec, raw: rawBytes, stored: bytes.count, limit: Limits.maxBlockBytes)
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
        isGone = try reader.integer(UInt8.self) != 0
        bytes = Array(try reader.take(reader.remaining))
        guard !isGone || bytes.isEmpty else { throw .value(what: "bytes of a block that is gone", UInt64(bytes.count)) }
        if !isGone { try checkCoded(codec, raw: rawBytes, stored: bytes.count, limit: Limits.maxChunkBytes) }
    }

    /// The block's raw bytes; not yet checked against its digest.
    package func raw() throws(FormatError) -> [UInt8] { try decoded(codec, bytes, rawBytes) }
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
    mutating func position() throws(FormatError) -> Position {
        Position(epoch: try integer(UInt64.self), seq: try integer(UInt64.self), chain: try digest())
    }
}
