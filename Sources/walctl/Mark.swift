import ArgumentParser
import WALCommand
import WALNode

struct Mark: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Capture everything written before now and print the position that holds it.")

    @OptionGroup var target: TargetOptions

    func run() async throws {
        try await exitingOnError("walctl") {
            let response = try await Target.ask(target.target, state: target.state, ControlRequest(.mark))
            printAnswer(response.position?.text ?? "")
        }
    }
}
