import NIOCore
import NIOPosix
import WALFormat
import WALSystem
import WALWire

/// Nobody is there to answer.
private final class SilentRole: ConnectionRole {
    func opened(_ connection: Connection) { connection.close(reason: nil) }
    func received(_ message: Message, epoch: UInt64) {}
    func tick() {}
    func closed(reason: String?) {}
}

/// Listening and dialling. A role is made for each connection, on its event loop.
package final class Network: Sendable {
    let group: MultiThreadedEventLoopGroup

    init() {
        Allocator.keepBuffers()
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    }

    /// Small for a heartbeat, up to a frame's size for a stream.
    private static var receiveAllocator: any RecvByteBufferAllocator {
        AdaptiveRecvByteBufferAllocator(minimum: 2048, initial: 16 << 10, maximum: 1 << 20)
    }

    private static func setUp(
        _ channel: any Channel, _ makeRole: @escaping @Sendable () -> any ConnectionRole
    ) -> EventLoopFuture<Void> {
        channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(FrameHandler(role: makeRole()))
        }
    }

    /// Port 0 takes a free one; the address that is returned has the real one.
    func listen(
        _ address: Address, _ makeRole: @escaping @Sendable () -> any ConnectionRole
    ) async throws -> (channel: any Channel, address: Address) {
        do {
            let channel = try await ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: 256)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelOption(.writeBufferWaterMark, value: .init(low: 1 << 20, high: 4 << 20))
                .childChannelOption(.recvAllocator, value: Self.receiveAllocator)
                .childChannelInitializer { Self.setUp($0, makeRole) }
                .bind(host: address.host, port: address.port).get()
            return (channel, Address(host: address.host, port: channel.localAddress?.port ?? address.port))
        } catch let error as IOError where error.errnoCode == 98 {
            throw NodeError(.failed, "\(address) is in use by another program; choose another port with --listen")
        } catch let error as IOError where error.errnoCode == 13 {
            throw NodeError(.failed, "\(address): no permission to listen there; choose a port above 1023")
        } catch let error as IOError where error.errnoCode == 99 {
            throw NodeError(.failed, "\(address) is not an address of this host; choose another with --listen")
        } catch let error as IOError {
            throw NodeError(.failed, "cannot listen on \(address): \(error)")
        } catch {
            throw Self.unknownHost(address)
        }
    }

    /// Throws what ``listen(_:_:)`` would, where a node is about to make its state folder: a start that is refused leaves
    /// nothing behind. Where there is one, the node that may run for it is the better answer.
    ///
    /// A host that is dialled must be known then, too. A node that has started before waits for the name to come back.
    package static func checkAddresses(
        listen: [Address], dial: [Address], beforeMaking statePath: String?, for rootPath: String
    ) async throws {
        guard try !StateFolder.exists(rootPath: rootPath, statePath: statePath) else { return }
        for address in dial { try requireKnown(address) }
        let network = Network()
        do {
            for address in listen {
                try await network.listen(address) { SilentRole() }.channel.close()
            }
            await network.shutDown()
        } catch {
            await network.shutDown()
            throw error
        }
    }

    /// Without encryption and passwords, an address that others reach needs a word (`--insecure`). What has no address at
    /// all is told as that.
    package static func requireLoopback(_ listen: [Address], others: String) throws {
        guard let open = listen.first(where: { !$0.isLoopback }) else { return }
        try requireKnown(open)
        throw NodeError(
            .usage,
            "--listen \(open) is not a loopback address; anybody who reaches it could \(others). Use a tunnel, or "
                + "--insecure on a network that you trust")
    }

    private static func requireKnown(_ address: Address) throws {
        do {
            _ = try SocketAddress.makeAddressResolvingHost(address.host, port: address.port)
        } catch {
            throw unknownHost(address)
        }
    }

    private static func unknownHost(_ address: Address) -> NodeError {
        NodeError(.unreachable, "host '\(address.host)' is unknown; check the name")
    }

    func listen(
        unixSocket path: String, _ makeRole: @escaping @Sendable () -> any ConnectionRole
    ) async throws -> any Channel {
        try await ServerBootstrap(group: group)
            .childChannelInitializer { Self.setUp($0, makeRole) }
            .bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true).get()
    }

    func dial(
        _ address: Address, seconds: Double? = nil, _ makeRole: @escaping @Sendable () -> any ConnectionRole
    ) async throws -> any Channel {
        do {
            let limit = min(seconds ?? .infinity, Double(Limits.handshakeSeconds))
            return try await client(makeRole)
                .connectTimeout(.milliseconds(Int64(limit * 1000)))
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .connect(host: address.host, port: address.port).get()
        } catch let error as NIOConnectionError {
            if error.dnsAError != nil || error.dnsAAAAError != nil, error.connectionErrors.isEmpty {
                throw Self.unknownHost(address)
            }
            let why =
                (error.connectionErrors.first?.error as? IOError).map { SystemError.text(of: $0.errnoCode) }
                ?? "no answer"
            throw NodeError(.unreachable, "\(address) does not answer (\(why)); check that it runs and listens there")
        } catch ChannelError.connectTimeout {
            throw NodeError(
                .unreachable, "\(address) does not answer (timed out); check that it runs and listens there")
        }
    }

    func dial(
        unixSocket path: String, _ makeRole: @escaping @Sendable () -> any ConnectionRole
    ) async throws -> any Channel {
        try await client(makeRole).connect(unixDomainSocketPath: path).get()
    }

    private func client(_ makeRole: @escaping @Sendable () -> any ConnectionRole) -> ClientBootstrap {
        ClientBootstrap(group: group)
            .connectTimeout(.seconds(Int64(Limits.handshakeSeconds)))
            .channelOption(.writeBufferWaterMark, value: .init(low: 1 << 20, high: 4 << 20))
            .channelOption(.recvAllocator, value: Self.receiveAllocator)
            .channelInitializer { Self.setUp($0, makeRole) }
    }

    func shutDown() async {
        try? await group.shutdownGracefully()
    }
}
