import Logging
import NIOCore
import Synchronization
import WALSystem

/// Keeps one connection to a peer: dials, and dials again for ever, after a pause that grows to 5 seconds and is never
/// the same twice, so that a hundred replicas do not come back in one instant.
final class Dialer: Sendable {
    private let network: Network
    /// Whom to dial next; nil for nobody now.
    private let nextAddress: @Sendable () -> Address?
    private let logger: Logger
    /// Makes the role of a new connection; it must call the closure when the connection is over, with the reason if that
    /// is worth a word.
    private let makeRole: @Sendable (@escaping @Sendable (String?) -> Void) -> any ConnectionRole

    private struct State: Sendable {
        var task: Task<Void, Never>?
        var channel: (any Channel)?
        /// The pause before the next dial, while there is one.
        var pause: Task<Void, Never>?
        /// ``hurry()`` was called since the last dial.
        var isHurried = false
        /// The last thing that was said, so that a peer that stays away is reported once and not every second.
        var lastReport = ""
    }

    private let state = Mutex(State())

    convenience init(
        network: Network, address: Address, logger: Logger,
        makeRole: @escaping @Sendable (@escaping @Sendable (String?) -> Void) -> any ConnectionRole
    ) {
        self.init(network: network, addresses: { address }, logger: logger, makeRole: makeRole)
    }

    init(
        network: Network, addresses: @escaping @Sendable () -> Address?, logger: Logger,
        makeRole: @escaping @Sendable (@escaping @Sendable (String?) -> Void) -> any ConnectionRole
    ) {
        self.network = network
        nextAddress = addresses
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
                if await wait(seconds: pause * Double.random(in: 0.5...1)) {
                    pause = 0.1
                } else {
                    pause = min(pause * 2, 5)
                }
            }
        }
        state.withLock { $0.task = task }
    }

    /// True when it was cut short by ``hurry()``.
    private func wait(seconds: Double) async -> Bool {
        let sleep = Task<Void, Never> { try? await Task.sleep(for: .seconds(seconds)) }
        let isHurried = state.withLock { state in
            state.pause = sleep
            return state.isHurried
        }
        if isHurried || Task.isCancelled { sleep.cancel() }
        await withTaskCancellationHandler {
            await sleep.value
        } onCancel: {
            sleep.cancel()
        }
        return state.withLock { state in
            state.pause = nil
            defer { state.isHurried = false }
            return state.isHurried
        }
    }

    /// Dials at once where it waits: there is somebody new to be asked.
    func hurry() {
        state.withLock { state in
            state.isHurried = true
            return state.pause
        }?.cancel()
    }

    func stop() {
        let (task, channel) = state.withLock { ($0.task, $0.channel) }
        task?.cancel()
        channel?.close(promise: nil)
    }

    /// One connection from its beginning to its end.
    private func connectOnce() async {
        guard let address = nextAddress() else { return }
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
