import Logging
import NIOCore
import Synchronization
import WALSystem

/// Keeps one connection to an address: dials, and dials again for ever, after a pause that grows to 5 seconds and is never
/// the same twice, so that a hundred replicas do not come back in one instant.
final class Dialer: Sendable {
    private let network: Network
    private let address: Address
    private let logger: Logger
    /// Makes the role of a new connection; it must call the closure when the connection is over, with the reason if that
    /// is worth a word.
    private let makeRole: @Sendable (@escaping @Sendable (String?) -> Void) -> any ConnectionRole

    private struct State: Sendable {
        var task: Task<Void, Never>?
        var channel: (any Channel)?
        /// The last thing that was said, so that a peer that stays away is reported once and not every second.
        var lastReport = ""
    }

    private let state = Mutex(State())

    init(
        network: Network, address: Address, logger: Logger,
        makeRole: @escaping @Sendable (@escaping @Sendable (String?) -> Void) -> any ConnectionRole
    ) {
        self.network = network
        self.address = address
        self.logger = logger
        self.makeRole = makeRole
    }

    func start() {
        let task = Task { [self] in
            var pause = 0.1
            while !Task.isCancelled {
                let began = Clock.monotonicNanoseconds()
                await connectOnce()
                if Clock.monotonicNanoseconds() - began > 10_000_000_000 { pause = 0.1 }
                try? await Task.sleep(for: .seconds(pause * Double.random(in: 0.5...1)))
                pause = min(pause * 2, 5)
            }
        }
        state.withLock { $0.task = task }
    }

    func stop() {
        let (task, channel) = state.withLock { ($0.task, $0.channel) }
        task?.cancel()
        channel?.close(promise: nil)
    }

    /// One connection from its beginning to its end.
    private func connectOnce() async {
        let (stream, over) = AsyncStream.makeStream(of: String?.self)
        do {
            let makeRole = makeRole
            let channel = try await network.dial(address) {
                makeRole { reason in
                    over.yield(reason)
                    over.finish()
                }
            }
            state.withLock { $0.channel = channel }
            logger.debug("connected to \(address)")
            if Task.isCancelled { channel.close(promise: nil) }
            for await case let reason? in stream { report("connection to \(address) ended: \(reason)") }
        } catch {
            report("\(error)")
        }
        state.withLock { $0.channel = nil }
    }

    private func report(_ text: String) {
        let isNew = state.withLock { state in
            defer { state.lastReport = text }
            return state.lastReport != text
        }
        if isNew { logger.warning("\(text)") } else { logger.debug("\(text)") }
    }
}
