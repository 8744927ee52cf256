import ArgumentParser
import WALCommand
import WALNode

struct Forget: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take a replica that will not come back out of the group.",
        discussion: """
            The primary keeps log for every replica that it knows, and a promotion needs the promises of most of them. Should \
            the replica connect again, it is one again, and reconciles.
            """)

    @OptionGroup var target: TargetOptions

    @Argument(help: "Its name, as walctl status shows it.")
    var name: String

    @Flag(help: "Forget it although it alone may have what it has acknowledged.")
    var force = false

    func run() async throws {
        try await exitingOnError("walctl") {
            var request = ControlRequest(.forget)
            request.name = name
            request.force = force ? true : nil
            _ = try await Target.ask(target.target, state: target.state, request)
        }
    }
}
