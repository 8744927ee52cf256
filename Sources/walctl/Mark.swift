import ArgumentParser
import WALCommand
import WALNode

struct Mark: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Capture everything written before now and print the position that holds it.")

    @OptionGroup var target: TargetOptions

    @Option(parsing: .unconditional, help: "How long to wait.")
    var timeout = TimeSpan(seconds: 30)

    func run() async throws {
        try await exitingOnError("walctl") {
            var request = ControlRequest(.mark)
            request.timeoutSeconds = timeout.seconds
            let response = try await Target.ask(target.target, state: target.state, request)
            try printAnswer(response.position?.text ?? "")
        }
    }
}
