import ArgumentParser
import WALCommand
import WALNode

struct Rejoin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a deposed primary, or a replica that has diverged, a replica of the present primary.",
        discussion: """
            What the node alone has is kept in quarantine/EPOCH-SEQ of its state folder, named for the last position that it \
            shares with the primary, with a list; the rest is reconciled. Returns when that has begun; walctl status shows how \
            it goes.
            """)

    @OptionGroup var target: TargetOptions

    @Option(help: ArgumentHelp("The primary, where the node does not know it.", valueName: "host:port"))
    var to: Address?

    func run() async throws {
        try await exitingOnError("walctl") {
            var request = ControlRequest(.rejoin)
            request.address = to?.description
            let response = try await Target.ask(target.target, state: target.state, request)
            try printAnswer("\(response.node ?? "") rejoins at epoch \(response.epoch ?? 0)")
        }
    }
}
