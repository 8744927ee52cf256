import ArgumentParser
import WALCommand
import WALNode

struct Promote: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a replica the primary, after the primary is gone.",
        discussion: """
            Collects the promise of the replicas to hear of no earlier primary, checks that nothing acknowledged can be \
            lost, lets the furthest candidate apply all that it has, begins an epoch there and tells the others. Safe to \
            repeat. For a primary that is still there use walctl switchover.
            """)

    @OptionGroup var target: TargetOptions

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Choose the furthest of these, separated by commas, instead of TARGET.", valueName: "host:port,..."))
    var candidates: String?

    @Flag(help: "Promote although nodes are missing or ahead; what only they have is lost to the group.")
    var force = false

    @Option(parsing: .unconditional, help: "How long to wait for each step.")
    var timeout = TimeSpan(seconds: 60)

    @Flag(help: "Print the outcome as JSON.")
    var json = false

    func run() async throws {
        try await exitingOnError("walctl") {
            var promotion = Promotion(target: try await Target.groupAddress(target.target, state: target.state))
            promotion.candidates = try Target.addresses(candidates ?? "")
            promotion.isForced = force
            promotion.timeoutSeconds = timeout.seconds
            if !json { promotion.say = { tell("walctl", $0) } }
            try Self.show(try await promotion.run(), json: json)
        }
    }

    static func show(_ outcome: Promotion.Outcome, json: Bool) throws {
        for warning in outcome.warnings { tell("walctl", "forced: \(warning)") }
        for missing in outcome.missing {
            tell("walctl", "not told: \(missing); the primary tells it when it is there")
        }
        if json {
            return try printAnswer(String(decoding: try ControlJSON.encode(outcome, pretty: true), as: UTF8.self))
        }
        try printAnswer("primary    \(outcome.node) at \(outcome.address)")
        try printAnswer("epoch      \(outcome.epoch)")
        try printAnswer("position   \(outcome.position)")
        try printAnswer("followers  \(outcome.followers.isEmpty ? "none" : outcome.followers.joined(separator: ", "))")
    }
}
