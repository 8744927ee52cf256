import ArgumentParser
import WALCommand
import WALFormat
import WALNode
import WALSystem

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show role, position, and the lag of every replica.")

    @OptionGroup var target: TargetOptions

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() async throws {
        try await exitingOnError("walctl") {
            let status = try await load()
            try printAnswer(
                json
                    ? String(decoding: try ControlJSON.encode(status, pretty: true), as: UTF8.self)
                    : StatusTable.text(status))
        }
    }

    private func load() async throws -> NodeStatus {
        switch try await Target.reach(target.target, state: target.state, fromFiles: true) {
        case .files(let path, let folder):
            return try OfflineStatus.read(
                folder, folderPath: TreeState.path(path, state: target.state), treePath: path)
        case .node(let client):
            guard let status = try await client.askOnce(ControlRequest(.status)).status else {
                throw NodeError(.failed, "the node's answer holds no status")
            }
            return status
        }
    }
}

enum StatusTable {
    static func text(_ status: NodeStatus) -> String {
        let process = status.pid.map { "pid \($0)" } ?? "not running"
        var lines = [
            "\(status.role)  \(status.node)  \(PathText.escaped(Array(status.path.utf8)))  \(process)",
            "history   \(status.history ?? "none yet")",
            "position  \(status.position.epoch):\(status.position.seq)  \(status.state)",
            "tree      \(status.treeDigest)  \(status.objects) objects, \(Units.bytes(status.contentBytes))",
            "log       \(status.log.firstSeq)-\(status.log.lastSeq), \(Units.bytes(status.log.bytes))",
        ]
        if let rules = status.filter, !rules.isEmpty {
            let shown = rules.prefix(3).joined(separator: ", ")
            lines.append("filter    \(rules.count) rules: \(shown)\(rules.count > 3 ? ", …" : "")")
        }
        if let upstream = status.upstream {
            lines.append(
                "upstream  \(upstream.address)  \(upstream.state), last contact "
                    + Units.seconds(upstream.lastContactSeconds)
                    + ", lag \(status.lagSegments.map(String.init) ?? "unknown")"
                    + " segments, \(Units.seconds(status.lagSeconds))")
        }
        if let group = status.group, group.primary != nil || !group.members.isEmpty {
            lines.append("group     " + text(group))
        }
        if let progress = status.progress {
            lines.append("progress  " + ProgressBar.text(status.state, progress, seconds: 0))
        }
        if status.role == "replica", let traffic = status.traffic { lines.append("traffic   " + text(traffic)) }
        if !status.replicas.isEmpty { lines += [""] + replicas(status.replicas) }
        if status.role == "primary", !status.replicas.isEmpty, let sum = status.traffic {
            lines += [""] + traffic(status.replicas, sum)
        }
        for note in status.notes { lines.append("note: \(SafeText.oneLine(note))") }
        return lines.joined(separator: "\n")
    }

    private static func replicas(_ replicas: [NodeStatus.Replica]) -> [String] {
        func number(_ value: UInt64?) -> String { value.map(String.init) ?? "-" }
        var rows = [
            ["REPLICA", "ADDRESS", "STATE", "SENT", "RECEIVED", "DURABLE", "APPLIED", "LAG", "", "", "CONTACT"]
        ]
        for replica in replicas {
            rows.append([
                replica.name, replica.address, replica.state, number(replica.sentSeq), number(replica.receivedSeq),
                number(replica.durableSeq), number(replica.appliedSeq),
                replica.lagSegments.map { "\($0) seg" } ?? "unknown",
                replica.lagBytes.map(Units.bytes) ?? "unknown", Units.seconds(replica.lagSeconds),
                Units.seconds(replica.lastContactSeconds),
            ])
        }
        return table(rows)
    }

    private static func text(_ group: NodeStatus.Group) -> String {
        let primary = group.primary.map { "primary \($0)" } ?? "primary unknown"
        let members = group.members.map { $0.name + ($0.address.map { " \($0)" } ?? "") }
        return "\(primary), epoch \(group.promisedEpoch)"
            + (group.syncReplicas > 0 ? ", sync \(group.syncReplicas)" : "")
            + (members.isEmpty ? "" : "; replicas \(members.joined(separator: ", "))")
    }

    /// Of a replica.
    private static func text(_ traffic: NodeStatus.Traffic) -> String {
        "received \(Units.bytes(traffic.receivedBytes)), raw \(Units.bytes(traffic.rawBytes)), ratio "
            + "\(ratio(traffic)); written \(bytes(traffic.writtenBytes)), copied \(bytes(traffic.copiedBytes)), "
            + "log \(bytes(traffic.loggedBytes))"
    }

    /// Of a primary: what went to each replica since the start, and what they have done with it.
    private static func traffic(_ replicas: [NodeStatus.Replica], _ sum: NodeStatus.Traffic) -> [String] {
        func row(_ name: String, _ traffic: NodeStatus.Traffic?) -> [String] {
            [
                name, bytes(traffic?.sentBytes), bytes(traffic?.receivedBytes), bytes(traffic?.rawBytes),
                ratio(traffic), bytes(traffic?.writtenBytes), bytes(traffic?.copiedBytes),
                bytes(traffic?.loggedBytes),
            ]
        }
        let header = ["TRAFFIC", "TO IT", "FROM IT", "RAW", "RATIO", "WRITTEN", "COPIED", "LOG"]
        return table([header] + replicas.map { row($0.name, $0.traffic) } + [row("all", sum)])
    }

    private static func bytes(_ value: UInt64?) -> String { value.map(Units.bytes) ?? "unknown" }

    private static func ratio(_ traffic: NodeStatus.Traffic?) -> String {
        guard let ratio = traffic?.ratio else { return "unknown" }
        let tenths = Int((ratio * 100).rounded())
        return "\(tenths / 100).\(tenths % 100 < 10 ? "0" : "")\(tenths % 100)"
    }

    private static func table(_ rows: [[String]]) -> [String] {
        let widths = (0..<rows[0].count).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell + String(repeating: " ", count: widths[column] - cell.count + 2)
            }
            while line.last == " " { line.removeLast() }
            return line
        }
    }
}
