import ArgumentParser
import Logging
import WALCommand
import WALFormat
import WALLog
import WALNode

@main
struct Walrecv: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "walrecv",
        abstract: "Keep a directory equal to a primary's.",
        discussion: """
            Receives a primary's segments, makes them durable, acknowledges and applies them to DIR. A lost connection is \
            made again for ever and goes on where it was. State is kept in DIR/.wal. See walrecv(8).
            """,
        version: version)

    static func main() async { await runFromCommandLine() }

    @Argument(help: ArgumentHelp("The replica's directory: empty, or one that was a replica before.", valueName: "dir"))
    var directory: String

    @Option(
        help: ArgumentHelp(
            "Dial the primary there. Repeatable: those that may be it are tried in turn.", valueName: "host:port"))
    var from: [Address] = []

    @Option(help: ArgumentHelp("Accept a primary and clients here. Repeatable.", valueName: "host:port"))
    var listen: [Address] = []

    @Flag(help: "Take over what is in DIR, as another tool left it: equal files are kept, others are replaced.")
    var adopt = false

    @Option(help: ArgumentHelp("Exit 0 once this position is applied.", valueName: "epoch:seq"))
    var until: String?

    @Option(
        name: .customLong("max-stale"), parsing: .unconditional,
        help: "Refuse reads of clients when this replica was current longer ago.")
    var maxStale: TimeSpan?

    @Option(help: ArgumentHelp("Keep state in this folder, on the same file system.", valueName: "folder"))
    var state: String?

    @Option(
        help: "This replica's name, under which the primary keeps log for it (default: the host's and the directory's)."
    )
    var name: String?

    @OptionGroup var group: GroupOptions

    @Flag(help: "Allow --listen on addresses that are not loopback, without encryption or passwords.")
    var insecure = false

    @OptionGroup var retention: RetentionOptions
    @OptionGroup var log: LogOptions

    func validate() throws {
        if from.isEmpty, listen.isEmpty { throw ValidationError("say where the primary is: --from or --listen") }
        try from.forEach { try $0.requireDialable("--from") }
    }

    func run() async throws {
        try await exitingOnError("walrecv", format: log.format) {
            let settings = try settings
            if !insecure { try Network.requireLoopback(listen, others: "write the tree") }
            try await Network.checkAddresses(
                listen: listen, dial: from, beforeMaking: state, for: directory)
            let logger = log.logger("walrecv")
            let node = try TreeNode(settings, as: .replica, logger: logger)
            let bar = Task { await ProgressBar { try? node.currentStatus() }.run() }
            defer { bar.cancel() }
            try await runServices([node], logger: logger)
        }
    }

    private var settings: NodeSettings {
        get throws {
            var settings = NodeSettings(rootPath: directory, command: "walrecv")
            settings.statePath = state
            settings.name = name
            settings.listen = listen
            try group.apply(to: &settings)
            settings.replica.from = from
            settings.replica.adopts = adopt
            settings.replica.maxStaleSeconds = maxStale?.seconds
            if let until {
                do { settings.replica.until = try PositionText(until) } catch {
                    throw NodeError(.usage, "--until: \(error)")
                }
                guard settings.replica.until?.epoch != 0, settings.replica.until?.seq != 0 else {
                    throw NodeError(
                        .usage, "--until: no segment has the position \(until); epochs and segments are counted from 1")
                }
            }
            settings.replica.retention = Retention(
                budgetBytes: retention.budget.bytes, keepSeconds: UInt64(retention.keep.seconds))
            settings.primary.retention = settings.replica.retention
            return settings
        }
    }
}
