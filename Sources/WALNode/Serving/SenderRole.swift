import Logging
import NIOCore
import NIOPosix
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// The sender's end of one replica's connection. It ships the log's bytes as they stand; what must be made for this
/// replica alone (listings, blocks of files) is made by a ``BulkSender`` on a thread of its own.
///
/// All methods run on the connection's event loop.
final class SenderRole: PeerRole {
    private let node: any LogSource
    /// This side dialled, so it speaks first and the replica's hello is the answer.
    private var isIntroduced = false
    private var machine: SenderMachine
    private var connection: Connection?
    private var cursor: LogCursor?
    private var current: (location: LogLocation, offset: UInt64)?
    private var skipping: UInt64 = 0
    private var fileHandle: (file: LogFile, handle: RegionHandle)?
    private var bulk: BulkSender?
    /// The last segment that the replica has.
    private var received: UInt64 = 0
    /// The position with which it came lies on the log.
    private var isOnHistory = false
    /// Clock of the last acknowledgement, for heartbeats to give back.
    private var echo: Int64 = 0
    private var logger: Logger
    private var toldGroup: Group?
    /// What the replica has noted of that.
    private var notedGroup: UInt64 = 0
    /// Called with the reason when the connection is over.
    private let ended: (@Sendable (String) -> Void)?

    /// Pieces below this are read and sent together; above, the kernel sends from the file.
    private static let regionBytes: UInt64 = 128 << 10
    /// Small enough that a slow line still says something every few seconds.
    private static let pieceBytes: UInt64 = 256 << 10

    init(node: any LogSource, ended: (@Sendable (String) -> Void)? = nil) {
        self.node = node
        self.ended = ended
        logger = node.logger
        machine = SenderMachine(history: node.history, epoch: node.epoch, now: Clock.monotonicNanoseconds())
    }

    func opened(_ connection: Connection) {
        self.connection = connection
        node.peers.add(connection)
        introduce()
    }

    func accepted(_ connection: Connection) {
        self.connection = connection
        node.peers.add(connection)
        introduce()
    }

    private func introduce() {
        guard !isIntroduced, let connection else { return }
        isIntroduced = true
        connection.send(.hello(node.senderHello()), epoch: node.epoch)
    }

    func received(_ message: Message, epoch: UInt64) {
        if case .hello(let hello) = message, hello.role == .receiver, machine.peer == nil {
            // After a switchover the two would be one replica of the next primary, and their acknowledgements one.
            let own = node.senderHello().node
            guard hello.node != own else {
                let text = "this node is named '\(own)' itself; give each its own --name"
                return perform(machine.refuse(Refusal(.busy, text)))
            }
            guard let connection,
                node.replicas.connect(
                    hello, address: connection.peerAddress, isDialled: ended != nil, traffic: connection.traffic,
                    owner: self)
            else {
                let text = "a replica named '\(hello.node)' is connected already; give each its own --name"
                perform(machine.refuse(Refusal(.busy, text)))
                return
            }
            // It may be reached elsewhere than before, which the others are to know.
            node.groupNoted()
            node.signal.advance()
            logger[metadataKey: "replica"] = "\(hello.node)"
            received = hello.position.seq
            if case .held = node.standing(of: hello.position) { isOnHistory = true }
        }
        if case .refuse(let refusal) = message {
            refused(refusal)
            if refusal.code == .damaged || refusal.code == .malformed { node.checkLog(after: received) }
        }
        perform(
            machine.received(message, epoch: epoch, now: Clock.monotonicNanoseconds()) { position in
                node.standing(of: position)
            })
        tellGroup()
        pump()
    }

    func heard() {
        machine.heard(now: Clock.monotonicNanoseconds())
    }

    func tick() {
        // It is a newcomer only when it follows, which its acknowledgements tell.
        node.groupNoted()
        tellGroup()
        perform(
            machine.tick(now: Clock.monotonicNanoseconds()) { node.heartbeat(echo: echo) })
    }

    func writable() {
        pump()
    }

    /// Whenever it is another one than the replica knows.
    private func tellGroup() {
        guard let connection, machine.isOpen else { return }
        let group = node.group()
        guard group != toldGroup else { return }
        toldGroup = group
        connection.send(.group(group), epoch: node.epoch)
    }

    func closed(reason: String?) {
        node.signal.remove(self)
        bulk?.stop()
        if let connection { node.peers.remove(connection) }
        if let name = machine.peer?.node, let connection {
            node.replicas.disconnect(name, traffic: connection.traffic, owner: self)
            logger.info("replica disconnected: \(reason ?? "it closed the connection")")
        }
        connection = nil
        ended?(reason ?? "it closed the connection")
    }

    private func perform(_ actions: [SenderMachine.Action]) {
        for action in actions {
            switch action {
            case .send(let message):
                if case .refuse(let refusal) = message { refused(refusal) }
                connection?.send(message, epoch: node.epoch)
            case .stream(let seq, let skipping): beginStream(after: seq, skipping: skipping)
            case .beginSync(let withContent):
                update { $0.state = "syncing" }
                logger.info(withContent ? "first sync" : "reconcile by listing")
                bulkSender()?.sync(withContent: withContent)
            case .answer(let requests): bulkSender()?.answer(requests)
            case .progress(let ack): progress(ack)
            case .deposed(let epoch):
                node.deposed(epoch: epoch)
            case .close(let reason): connection?.close(reason: reason)
            }
        }
    }

    /// One of the two sides will not have the other.
    private func refused(_ refusal: Refusal) {
        if ended != nil { node.refused(refusal) }
    }

    private func progress(_ ack: Ack) {
        received = ack.received
        echo = ack.clock
        if ack.wantsHeartbeat { connection?.send(.heartbeat(node.heartbeat(echo: echo)), epoch: node.epoch) }
        bulk?.inFlight(machine.inFlightBytes)
        let isStreaming = machine.isStreaming
        // What a replica has that is not known to be on this history counts for nothing, whatever its number.
        let counts = isStreaming || isOnHistory
        let end = node.logView.durableEnd.seq
        update { entry in
            entry.received = ack.received
            // A slot never moves back, but for a replica that began anew.
            entry.durable = counts ? min(ack.durable, end) : 0
            entry.applied = counts ? min(ack.applied, end) : 0
            entry.disk = ReplicaRegistry.Disk(ack)
            entry.groupTag = ack.groupTag
            entry.state = ack.isSyncing || !isStreaming ? "syncing" : "streaming"
        }
        if ack.groupTag != notedGroup {
            notedGroup = ack.groupTag
            node.groupNoted()
        }
    }

    private func update(_ body: (inout ReplicaRegistry.Entry) -> Void) {
        if let name = machine.peer?.node { node.replicas.update(name, owner: self, body) }
    }

    // MARK: The log

    private func beginStream(after seq: UInt64, skipping: UInt64) {
        guard let connection else { return }
        do {
            cursor = try node.logView.cursor(after: seq)
        } catch {
            connection.close(reason: "\(error)")
            return
        }
        self.skipping = skipping
        current = nil
        update {
            $0.state = "streaming"
            $0.sent = seq
        }
        if let hello = machine.peer, let welcomed = machine.welcomed {
            let end = node.logView.durableEnd
            logger.info("\(PrimaryNode.gap(hello.node, hello.position, end, bytes: welcomed.behindBytes))")
        } else {
            logger.info("streaming after segment \(seq)")
        }
        let bound = NIOLoopBound(self, eventLoop: connection.eventLoop)
        node.signal.listen(self) {
            connection.eventLoop.execute {
                bound.value.tellGroup()
                bound.value.pump()
            }
        }
    }

    /// Sends as much of the log as window and socket take.
    private func pump() {
        guard let connection, machine.isStreaming, cursor != nil else { return }
        var wrote = false
        do {
            while machine.canSend, connection.isWritable {
                if current == nil {
                    guard let next = try cursor!.next() else { break }
                    // Holding that much it holds a part of another segment.
                    current = (next, skipping < next.length ? skipping : 0)
                    skipping = 0
                }
                try sendPiece(connection)
                wrote = true
            }
        } catch {
            logger.error("log cannot be shipped: \(error)")
            connection.close(reason: "\(error)")
        }
        if wrote { connection.flush() }
    }

    private func sendPiece(_ connection: Connection) throws {
        let (location, offset) = current!
        let count = min(Self.pieceBytes, location.length - offset)
        let part = SegmentPart(seq: location.header.seq, offset: offset, total: location.length, bytes: [])
        var buffer = ByteBuffer(bytes: Message.segmentPart(part).frame(epoch: node.epoch, extraBytes: Int(count)))
        if count <= Self.regionBytes {
            let bytes = try location.readBytes(at: offset, count: Int(count))
            buffer.writeBytes(bytes)
            connection.write(buffer)
        } else {
            connection.write(buffer)
            let handle = try regionHandle(location.file)
            let start = Int(location.offset + offset)
            connection.write(
                FileRegion(fileHandle: handle.handle, readerIndex: start, endIndex: start + Int(count)),
                done: { withExtendedLifetime(handle) {} })
        }
        connection.traffic.sentRaw(
            Self.rawBytes(location, upTo: offset + count) - Self.rawBytes(location, upTo: offset))
        machine.sent(bytes: Int(count), now: Clock.monotonicNanoseconds())
        let isWhole = offset + count == location.length
        current = isWhole ? nil : (location, offset + count)
        if isWhole { update { $0.sent = location.header.seq } }
    }

    /// What the first bytes of a segment stand for: their share of what it is before compression.
    private static func rawBytes(_ location: LogLocation, upTo offset: UInt64) -> UInt64 {
        // Neither is beyond the limit of a segment, so the product is a number.
        location.header.rawBytes * offset / location.length
    }

    private func regionHandle(_ file: LogFile) throws -> RegionHandle {
        if let known = fileHandle, known.file === file { return known.handle }
        let handle = try RegionHandle(file)
        fileHandle = (file, handle)
        return handle
    }

    private func bulkSender() -> BulkSender? {
        guard let connection else { return nil }
        if let bulk { return bulk }
        let bound = NIOLoopBound(self, eventLoop: connection.eventLoop)
        bulk = BulkSender(node: node, connection: connection, logger: logger) { bytes in
            bound.value.machine.sent(bytes: bytes, now: Clock.monotonicNanoseconds())
            return bound.value.machine.inFlightBytes
        }
        return bulk
    }
}

/// A descriptor of a log file for as long as a write from it is under way.
private final class RegionHandle: Sendable {
    let handle: NIOFileHandle

    init(_ file: LogFile) throws {
        handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: try duplicateDescriptor(file.descriptor))
    }

    deinit {
        try? handle.close()
    }
}
