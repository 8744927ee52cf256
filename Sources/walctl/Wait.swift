import ArgumentParser
import WALCommand
import WALFormat
import WALNode

struct Wait: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait until replicas have applied a position.",
        discussion: """
            Asked of a primary, it waits until --replicas of its replicas (1 if not said) have applied POSITION; asked of \
            a replica, until that has. Exits 2 when the time is over first.
            """)

    @OptionGroup var target: TargetOptions

    @Argument(help: "EPOCH:SEQ or EPOCH:SEQ:CHAIN, as walctl mark prints it.")
    var position: String

    @Option(parsing: .unconditional, help: ArgumentHelp("How many replicas must have it.", valueName: "number"))
    var replicas: Int?

    @Option(parsing: .unconditional, help: "How long to wait.")
    var timeout = TimeSpan(seconds: 30)

    func validate() throws {
        if let replicas, replicas < 1 { throw ValidationError("--replicas must be at least 1") }
    }

    func run() async throws {
        try await exitingOnError("walctl") {
            do { _ = try PositionText(position) } catch { throw NodeError(.usage, "\(error)") }
            var request = ControlRequest(.wait)
            request.position = position
            request.replicas = replicas
            request.timeoutSeconds = timeout.seconds
            _ = try await Target.ask(target.target, state: target.state, request)
        }
    }
}
