import ArgumentParser
import WALCommand
import WALFormat
import WALNode

struct Verify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check that a tree is what its position says, and equal to another node's.",
        discussion: """
            Compares every name, size, time, mode and owner with the catalog, and with --deep every byte. With --against \
            the tree's position and tree digest must also be those of the other node at that position. Exits 0 when all \
            is equal, 2 when something differs or is behind, 3 when the histories have diverged.
            """)

    @OptionGroup var target: TargetOptions

    @Flag(help: "Read all content.")
    var deep = false

    @Option(help: ArgumentHelp("The node that must hold the same.", valueName: "host:port"))
    var against: String?

    @Flag(help: "Put right what differs on a replica: it is set aside in quarantine/ and fetched again.")
    var repair = false

    @Option(parsing: .unconditional, help: "How long to wait until TARGET has reached the position of --against.")
    var timeout = TimeSpan(seconds: 30)

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() async throws {
        try await exitingOnError("walctl") {
            if let against { try await catchUp(with: against) }
            let report = try await verify()
            let digest = try await against.asyncMap { try await otherDigest($0, report) }
            if json {
                try printAnswer(String(decoding: try ControlJSON.encode(report, pretty: true), as: UTF8.self))
            } else {
                try printText(report)
            }
            if let digest, digest != report.treeDigest {
                throw NodeError(
                    .diverged,
                    "tree digest at \(report.position.epoch):\(report.position.seq) is \(report.treeDigest) here and "
                        + "\(digest) at \(against ?? "")")
            }
            guard report.isDigestRight else {
                throw NodeError(.diverged, "the catalog's digest is not what its rows give; remove catalog.sqlite")
            }
            guard report.isComplete else { throw NodeError(.notMet, "a sync is not finished; try again later") }
            guard report.totalDifferences == 0 else {
                throw NodeError(
                    .notMet,
                    (report.totalDifferences == 1 ? "1 difference" : "\(report.totalDifferences) differences")
                        + (repair ? ", being put right" : "; on a replica --repair puts them right"))
            }
            if let against, !json { try printAnswer("equal to \(against)") }
        }
    }

    private func verify() async throws -> VerifyReport {
        var request = ControlRequest(.verify)
        request.deep = deep
        request.repair = repair
        switch try await Target.reach(target.target, state: target.state, fromFiles: true) {
        case .files(let path, let folder):
            guard !repair else {
                let statePath = TreeState.path(path, state: target.state)
                if try NodeFile.load(from: folder, path: statePath)?.role == .primary {
                    throw VerifyReport.noRepairOfPrimary(path)
                }
                throw NodeError(.failed, "nothing runs for \(path); start walrecv, which fetches what is repaired")
            }
            return try OfflineVerify.run(path, state: target.state, isDeep: deep)
        case .node(let client):
            guard let report = try await client.askOnce(request).verify else {
                throw NodeError(.failed, "the node's answer holds no report")
            }
            return report
        }
    }

    /// Waits until the target has applied what the other node holds now.
    private func catchUp(with other: String) async throws {
        guard case .node(let client) = try await Target.reach(target.target, state: target.state, fromFiles: true),
            let own = try await client.askOnce(ControlRequest(.status)).status, own.role == "replica"
        else { return }
        if let history = own.history { try await requireHistory(history, of: other) }
        guard let position = try await Target.ask(other, state: nil, ControlRequest(.position)).position else { return }
        var request = ControlRequest(.wait)
        request.position = position.text
        request.timeoutSeconds = timeout.seconds
        _ = try await Target.ask(target.target, state: target.state, request)
    }

    /// The other node's tree digest at the position, which must be on its history.
    private func otherDigest(_ other: String, _ report: VerifyReport) async throws -> String {
        try await requireHistory(report.history, of: other)
        let position = report.position
        var request = ControlRequest(.segment)
        request.seq = position.seq
        let response = try await Target.ask(other, state: nil, request)
        guard response.position?.chain == position.chain else {
            throw NodeError(
                .diverged,
                "position \(position.text) is not on the history of \(other), which has "
                    + (response.position?.text ?? "nothing") + " there")
        }
        return response.treeDigest ?? ""
    }

    /// Positions of two histories say nothing of each other.
    private func requireHistory(_ own: String?, of other: String) async throws {
        let history = try await Target.ask(other, state: nil, ControlRequest(.status)).status?.history
        guard history == own else {
            throw NodeError(
                .diverged,
                "\(target.target) is of history \(own ?? "none") and \(other) of history \(history ?? "none"): they "
                    + "mirror different trees")
        }
    }

    private func printText(_ report: VerifyReport) throws {
        for difference in report.differences { try printAnswer("\(difference.kind)  \(difference.path)") }
        if report.isTruncated {
            try printAnswer("listed    \(report.differences.count) of \(report.totalDifferences) differences")
        }
        let how = report.isDeep ? "all content read" : "sizes and times; --deep reads all content"
        try printAnswer("position  \(report.position.text)")
        try printAnswer("tree      \(report.treeDigest)")
        try printAnswer("checked   \(report.names) names, \(Units.bytes(report.bytes)) (\(how))")
    }
}

extension Optional where Wrapped == String {
    fileprivate func asyncMap<T>(_ body: (String) async throws -> T) async rethrows -> T? {
        guard let self else { return nil }
        return try await body(self)
    }
}
