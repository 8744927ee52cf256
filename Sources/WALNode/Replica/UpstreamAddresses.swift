import Synchronization
import WALFormat

/// Where a replica looks for its primary: where it was told to since it started or by the last promotion, then where the
/// operator said, in turn.
///
/// What a primary tells of its own address is not dialled for that alone: the operator may have named a tunnel.
final class UpstreamAddresses: Sendable {
    private struct State: Sendable {
        /// To be tried before all others, once.
        var preferred: Address?
        var current: Address?
        var turn = 0
        /// Since the last welcome: two nodes that name each other must not keep the replica from the rest of the list.
        var redirects = 0
    }

    private static let maxRedirects = 5
    private let configured: [Address]
    private let host: NodeHost
    private let state = Mutex(State())

    init(_ configured: [Address], host: NodeHost) {
        self.configured = configured
        self.host = host
    }

    /// One that is not the primary is not all that there is.
    var hasChoice: Bool { configured.count > 1 || appointed != nil }

    /// The last one that was dialled.
    var current: Address? { state.withLock { $0.current } ?? configured.first }

    private var appointed: Address? { host.identity.value.upstream.flatMap { try? Address($0) } }

    /// nil while there is none.
    func next() -> Address? {
        var list = configured
        if let appointed, !list.contains(appointed) { list.insert(appointed, at: 0) }
        let own = host.address
        list.removeAll { $0 == own }
        return state.withLock { state in
            if let preferred = state.preferred.take() {
                state.current = preferred
            } else {
                guard !list.isEmpty else { return nil }
                state.current = list[state.turn % list.count]
                state.turn = (state.turn + 1) % list.count
            }
            return state.current
        }
    }

    /// The node that was asked names another one.
    func redirected(to text: String) {
        guard let address = try? Address(text), address != host.address else { return }
        state.withLock { state in
            state.redirects += 1
            if state.redirects <= Self.maxRedirects { state.preferred = address }
        }
    }

    /// A promotion names it: from now on the first to be asked.
    func appoint(_ address: Address) {
        state.withLock { state in
            state.preferred = address
            state.redirects = 0
            state.turn = 0
        }
    }

    /// The one that was dialled is the primary.
    func welcomed() {
        state.withLock { state in
            state.redirects = 0
            // After a lost connection the same one comes first.
            state.preferred = state.current
        }
    }
}
