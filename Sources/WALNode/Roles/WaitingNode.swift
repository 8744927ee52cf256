import Logging
import ServiceLifecycle
import WALFormat
import WALSystem
import WALWire

/// A node that could not begin its role because the disk is full. What it is to be is in `node.json`; it has done nothing of
/// it yet, and begins when there is room.
final class WaitingNode: IdleRole {
    let host: NodeHost
    let finished = Finish()
    /// What there was no room for.
    let problem: String

    init(_ problem: String, host: NodeHost) {
        self.host = host
        self.problem = problem
    }

    func run() async throws {
        let retry = Task { [self] in
            await waitForRoom()
            if !Task.isCancelled { host.request(.retry(self)) }
        }
        await withGracefulShutdownHandler {
            try? await finished.wait()
        } onGracefulShutdown: { [self] in
            finished.finish(.success(()))
        }
        retry.cancel()
    }

    /// How much is needed nobody knows: it is tried when there is more than there was, and now and then in any case, for a quota
    /// is not seen here.
    private func waitForRoom() async {
        let before = available
        for _ in 0..<Self.triesAfterSeconds where !Task.isCancelled {
            try? await Task.sleep(for: .seconds(1))
            if available >= before + Self.stepBytes { return }
        }
    }

    private var available: UInt64 { (try? host.folder.directory.space().availableBytes) ?? 0 }
    private static let stepBytes: UInt64 = 64 << 10
    private static let triesAfterSeconds = 30

    var refusal: NodeError {
        NodeError(.noSpace, "\(host.identity.value.node) waits for room before it begins: \(problem)")
    }

    /// A replica sends writes to the primary, and for now reads as well.
    func tree() throws -> any TreeService {
        let file = host.identity.value
        guard file.role == .replica, let leader = file.leader else { throw refusal }
        var error = NodeError(.notMet, refusal.description)
        error.redirect = leader
        throw error
    }

    func makePeer(_ hello: Hello) -> any PeerRole {
        RefuseRole(Refusal(.busy, refusal.description), epoch: epoch)
    }

    func currentStatus() throws -> NodeStatus {
        // Where there is no room there is none for a look at the catalog either.
        try restingStatus("waiting", notes: [problem], needsCatalog: false)
    }
}
