import ArgumentParser
import WALCommand
import WALNode

struct SwitchoverCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "switchover",
        abstract: "Let a replica take over from a primary that is there, without any loss.",
        discussion: """
            Stops the capture at FROM, waits until TO has applied all and both trees have one digest, and swaps the roles. \
            Stop the applications that write to FROM's tree first: what they write there after it was drained is kept in its \
            quarantine. Safe to repeat.
            """)

    @Argument(help: ArgumentHelp("The primary: its directory or HOST:PORT.", valueName: "from"))
    var from: String

    @Argument(help: ArgumentHelp("The replica that takes over.", valueName: "to"))
    var to: String

    @Option(parsing: .unconditional, help: "How long to wait for each step.")
    var timeout = TimeSpan(seconds: 60)

    @Flag(help: "Print the outcome as JSON.")
    var json = false

    func run() async throws {
        try await exitingOnError("walctl") {
            var switchover = Switchover(
                from: try await Target.groupAddress(from, state: nil), to: try await Target.groupAddress(to, state: nil)
            )
            switchover.timeoutSeconds = timeout.seconds
            if !json { switchover.say = { tell("walctl", $0) } }
            let outcome = try await switchover.run()
            try Promote.show(outcome, json: json)
            if let text = outcome.unfinished { throw NodeError(.notMet, text) }
        }
    }
}
