import ArgumentParser
import WALCommand
import WALNode

struct Resume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Go on capturing a tree that was doubted, and print the position that holds it.",
        discussion: """
            A primary stalls when its directory is another one than it was, or when too much of it is gone at once; walctl \
            status says why. It goes on by itself when that was put right.
            """)

    @OptionGroup var target: TargetOptions

    @Flag(
        name: .customLong("accept-deletions"),
        help: "What is gone is meant to be: delete it on the replicas, too.")
    var acceptDeletions = false

    @Option(parsing: .unconditional, help: "How long to wait.")
    var timeout = TimeSpan(seconds: 30)

    func run() async throws {
        try await exitingOnError("walctl") {
            var request = ControlRequest(.resume)
            request.acceptDeletions = acceptDeletions
            request.timeoutSeconds = timeout.seconds
            let response = try await Target.ask(target.target, state: target.state, request)
            try printAnswer(response.position?.text ?? "")
        }
    }
}
