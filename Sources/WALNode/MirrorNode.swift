import Logging
import ServiceLifecycle
import Synchronization
import WALFormat
import WALLog
import WALSystem

/// Both daemons in one process, joined over loopback: the embedded default.
package final class MirrorNode: Service {
    /// What a single mirroring came to.
    package struct Proof: Sendable {
        package var source: NodeStatus
        package var mirror: VerifyReport
    }

    private let primary: TreeNode
    private let mirror: NodeSettings
    private let logger: Logger
    /// End when the mirror is equal to what the source held at the start.
    private let isOnce: Bool
    private let current = Mutex<TreeNode?>(nil)
    private let result = Mutex<Proof?>(nil)

    /// Takes both directories, the source first.
    package init(source: String, mirror: String, adopts: Bool, isOnce: Bool, filter: Filter?, logger: Logger) throws {
        var settings = NodeSettings(rootPath: source, command: "walctl mirror")
        settings.listen = [Address(host: "127.0.0.1", port: 0)]
        settings.primary.filter = filter
        settings.primary.endsInDoubt = isOnce
        var replica = NodeSettings(rootPath: mirror, command: "walctl mirror")
        replica.replica.adopts = adopts
        // Somebody waits for the end of both.
        replica.primary.endsInDoubt = isOnce
        try TreeNode.check(replica, as: .replica)
        primary = try TreeNode(settings, as: .primary, logger: logger)
        // Not that of the source, which may be that of this host.
        replica.name = primary.host.identity.value.node == "mirror" ? "mirror-2" : "mirror"
        self.mirror = replica
        self.isOnce = isOnce
        self.logger = logger
    }

    /// Set when a single mirroring is over and equal.
    package var proof: Proof? { result.withLock { $0 } }

    package func currentStatus() -> NodeStatus? {
        if let replica = current.withLock({ $0 }), let status = try? replica.currentStatus(), status.progress != nil {
            return status
        }
        return try? primary.currentStatus()
    }

    package func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { [self] in try await primary.run() }
            do {
                while primary.listening.isEmpty, !primary.isOver { try await Task.sleep(for: .milliseconds(2)) }
                guard let address = primary.listening.first else { return try await group.waitForAll() }
                var settings = mirror
                settings.replica.from = [address]
                let replica = try TreeNode(settings, as: .replica, logger: logger)
                current.withLock { $0 = replica }
                group.addTask { try await replica.run() }
                if isOnce {
                    let proof = try await prove(replica)
                    result.withLock { $0 = proof }
                    replica.shutDown()
                    primary.shutDown()
                } else {
                    // Either end takes the other with it.
                    try await group.next()
                    replica.shutDown()
                    primary.shutDown()
                }
            } catch {
                current.withLock { $0 }?.shutDown()
                primary.shutDown()
                // What a node has ended of is the reason; that something did not come of it is not.
                try await group.waitForAll()
                throw error
            }
            try await group.waitForAll()
        }
    }

    /// All of the mirror is read again: what is proved is what is on the disk, not what was sent.
    private func prove(_ node: TreeNode) async throws -> Proof {
        guard let primary = primary.primary, let replica = node.replica else {
            throw NodeError(.failed, "one of the two has another role by now")
        }
        let position = try await primary.mark()
        while await !replica.waitApplied(PositionText(position), seconds: 0.5) {
            guard !primary.isOver, !replica.isOver else {
                throw NodeError(.failed, "stopped before the mirror was equal; start again to go on")
            }
            if let problem = replica.snapshot.problem, replica.snapshot.phase == .diverged {
                throw NodeError(.diverged, problem)
            }
        }
        if replica.nodeFile.history != primary.file.history {
            throw NodeError(
                .diverged,
                "\(mirror.rootPath) is a mirror of another history than \(primary.host.rootPath); remove its "
                    + "state folder and give --adopt to begin anew")
        }
        var request = ControlRequest(.verify)
        request.deep = true
        guard let report = try await replica.respond(to: request).verify else {
            throw NodeError(.failed, "the mirror could not be verified")
        }
        var status = try primary.status()
        if report.position.seq != status.position.seq, let header = try primary.logView.header(at: report.position.seq)
        {
            status.treeDigest = header.treeDigest.description
        }
        guard report.isComplete, report.totalDifferences == 0, report.isDigestRight,
            report.treeDigest == status.treeDigest
        else {
            throw NodeError(
                .notMet,
                "the mirror is not equal: "
                    + (report.isComplete
                        ? "\(report.differences.first?.path ?? "tree digest") differs"
                        : "a file that changes all the time is not whole; try again"))
        }
        return Proof(source: status, mirror: report)
    }
}
