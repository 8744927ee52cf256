import NIOCore
import WALFormat
import WALSystem
import WALWire

/// What a connection does with what it hears. Everything is called on the connection's event loop.
protocol ConnectionRole: AnyObject {
    func opened(_ connection: Connection)
    func received(_ message: Message, epoch: UInt64)
    /// Some bytes came, be they a whole frame or not: the peer lives.
    func heard()
    /// About once a second.
    func tick()
    /// More can be written after ``Connection/isWritable`` was false.
    func writable()
    /// The last call. `reason` is nil when the peer closed without a word.
    func closed(reason: String?)
}

extension ConnectionRole {
    func writable() {}
    func heard() {}
}

/// Bytes → frames → messages for one connection. Reads no more into memory than the limit of the frame at hand, and
/// before the first frame no more than a handshake may have.
final class FrameHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private var role: any ConnectionRole
    private var buffer = ByteBuffer()
    private var header: FrameHeader?
    private var isFirst = true
    private var connection: Connection?
    private var ticker: RepeatedTask?
    private var failure: String?

    init(role: any ConnectionRole) {
        self.role = role
    }

    /// From the next message on somebody else listens: the one who knows what the peer is.
    func hand(over next: any ConnectionRole) {
        role = next
    }

    func channelActive(context: ChannelHandlerContext) {
        let connection = Connection(channel: context.channel, handler: self)
        self.connection = connection
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        ticker = context.eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in
            bound.value.role.tick()
        }
        role.opened(connection)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var more = unwrapInboundIn(data)
        connection?.traffic.received(more.readableBytes)
        role.heard()
        if buffer.readableBytes == 0 {
            buffer = more
        } else {
            buffer.discardReadBytes()
            buffer.writeBuffer(&more)
        }
        do {
            while try readFrame() {}
        } catch {
            failure = "\(error)"
            var code = Refusal.Code.malformed
            if case FormatError.version = error { code = .version }
            connection?.send(.refuse(Refusal(code, "\(error)")), epoch: 0)
            context.close(promise: nil)
        }
    }

    private func readFrame() throws -> Bool {
        guard failure == nil else { return false }
        if header == nil {
            guard
                let bytes = buffer.getBytes(at: buffer.readerIndex, length: FrameHeader.byteCount)
            else { return false }
            let decoded = try bytes.withBytes { [isFirst] raw throws(FormatError) in
                try FrameHeader(decoding: raw, isFirst: isFirst)
            }
            header = decoded
            buffer.moveReaderIndex(forwardBy: FrameHeader.byteCount)
        }
        guard let frame = header, buffer.readableBytes >= Int(frame.length) else { return false }
        let message = try buffer.readWithUnsafeReadableBytes { all in
            let payload = UnsafeRawBufferPointer(rebasing: all[..<Int(frame.length)])
            return (payload.count, try Message(frame, payload: payload))
        }
        header = nil
        isFirst = false
        role.received(message, epoch: frame.epoch)
        return true
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { role.writable() }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        failure = failure ?? "\(error)"
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        ticker?.cancel()
        role.closed(reason: failure ?? connection?.closeReason)
        connection = nil
        context.fireChannelInactive()
    }
}

/// One open connection, as its role sees it. ``send(_:epoch:)`` may be called from any thread, the rest on the event loop.
final class Connection: Sendable {
    private let channel: any Channel
    private let handler: NIOLoopBound<FrameHandler>
    private let reason: NIOLoopBoundBox<String?>
    let peerAddress: String
    let traffic = Traffic()

    fileprivate init(channel: any Channel, handler: FrameHandler) {
        self.channel = channel
        self.handler = NIOLoopBound(handler, eventLoop: channel.eventLoop)
        reason = NIOLoopBoundBox(nil, eventLoop: channel.eventLoop)
        if let ip = channel.remoteAddress?.ipAddress, let port = channel.remoteAddress?.port {
            peerAddress = "\(Address(host: ip, port: port))"
        } else {
            peerAddress = "local"
        }
    }

    var eventLoop: any EventLoop { channel.eventLoop }
    var isWritable: Bool { channel.isWritable }
    var isLoopback: Bool {
        guard let ip = channel.remoteAddress?.ipAddress else { return true }
        return ip == "::1" || ip.hasPrefix("127.")
    }

    fileprivate var closeReason: String? { reason.value }

    func hand(over role: any ConnectionRole) {
        handler.value.hand(over: role)
    }

    func send(_ message: Message, epoch: UInt64) {
        write(message.frame(epoch: epoch))
    }

    /// Several frames in one write.
    func write(_ bytes: [UInt8]) {
        traffic.sent(bytes.count)
        channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil)
    }

    /// `done` when it is out, or never will be. From any thread.
    func write(_ bytes: [UInt8], done: @escaping @Sendable () -> Void) {
        traffic.sent(bytes.count)
        let promise = channel.eventLoop.makePromise(of: Void.self)
        promise.futureResult.whenComplete { _ in done() }
        channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: promise)
    }

    func write(_ buffer: ByteBuffer) {
        traffic.sent(buffer.readableBytes)
        channel.write(buffer, promise: nil)
    }

    /// Sends a piece of an open file as it stands; `done` keeps the handle alive until it is out.
    func write(_ region: FileRegion, done: @escaping @Sendable () -> Void) {
        traffic.sent(region.readableBytes)
        let promise = channel.eventLoop.makePromise(of: Void.self)
        promise.futureResult.whenComplete { _ in done() }
        channel.write(region, promise: promise)
    }

    func flush() {
        channel.flush()
    }

    /// Closes after what was written is out.
    func close(reason: String?) {
        self.reason.value = self.reason.value ?? reason
        channel.flush()
        channel.close(promise: nil)
    }

    /// From any thread; returns when its role has heard of the end.
    func closeAndWait() async {
        try? await channel.close()
    }

    /// ``close(reason:)`` from any thread.
    func closeFromOutside(reason: String) {
        channel.eventLoop.execute { self.close(reason: reason) }
    }
}
