import ArgumentParser
import WALCommand
import WALNode
import WALSystem

struct Rejoin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a deposed primary, or a replica that has diverged, a replica of the present primary.",
        discussion: """
            What the node alone has is kept in quarantine/EPOCH-SEQ of its state folder, named for the last position that it \
            shares with the primary, with a list; the rest is reconciled. Returns when that has begun, or with --wait when the node \
            is a replica that holds all; walctl status shows how it goes.
            """)

    @OptionGroup var target: TargetOptions

    @Option(help: ArgumentHelp("The primary, where the node does not know it.", valueName: "host:port"))
    var to: Address?

    @Flag(help: "Return when the node streams from the primary.")
    var wait = false

    @Option(parsing: .unconditional, help: "How long to wait.")
    var timeout = TimeSpan(seconds: 600)

    func run() async throws {
        try await exitingOnError("walctl") {
            var request = ControlRequest(.rejoin)
            request.address = to?.description
            let response = try await Target.ask(target.target, state: target.state, request)
            let node = response.node ?? ""
            try printAnswer(
                response.isWhole == true
                    ? "\(node) is a replica already" + (response.address.map { ", of \($0)" } ?? "")
                    : "\(node) rejoins at epoch \(response.epoch ?? 0)")
            if wait { try await waitUntilStreaming() }
        }
    }

    private func waitUntilStreaming() async throws {
        let deadline = Clock.monotonicNanoseconds() + timeout.nanoseconds
        var last = ""
        while true {
            if let status = try? await Target.ask(target.target, state: target.state, ControlRequest(.status)).status {
                if status.role == "replica", status.state == "streaming" { return }
                last = "it is \(status.role), \(status.state)" + (status.notes.first.map { ": \($0)" } ?? "")
            }
            guard Clock.monotonicNanoseconds() < deadline else {
                throw NodeError(.notMet, "\(target.target) streams not yet; \(last)")
            }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}
