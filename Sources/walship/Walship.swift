import ArgumentParser
import Logging
import WALCapture
import WALCommand
import WALFormat
import WALLog
import WALNode

@main
struct Walship: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "walship",
        abstract: "Ship a directory's changes to any number of replicas.",
        discussion: """
            Captures DIR into a log of compressed, checksummed segments and ships the log to replicas, which run walrecv. \
            State is kept in DIR/.wal, which is never replicated. See walship(8).
            """,
        version: version)

    static func main() async { await runFromCommandLine() }

    @Argument(help: ArgumentHelp("The directory to replicate.", valueName: "dir"))
    var directory: String

    @Option(help: ArgumentHelp("Accept replicas and clients here. Repeatable.", valueName: "host:port"))
    var listen: [Address] = []

    @Option(help: ArgumentHelp("Dial a replica that listens there. Repeatable.", valueName: "host:port"))
    var to: [Address] = []

    @Flag(help: "Ship until every --to replica has applied what is there now, then exit 0.")
    var once = false

    @Option(help: ArgumentHelp("Keep state in this folder, on the same file system.", valueName: "folder"))
    var state: String?

    @Option(help: "This node's name (default: the host's).")
    var name: String?

    @Option(help: "none, or zlib:1 (fast, the default) to zlib:9 (small).")
    var compress: Compression?

    @Option(parsing: .unconditional, help: "How long a path must be quiet before it is captured.")
    var settle = TimeSpan(seconds: 0.05)

    @Option(
        name: .customLong("max-delay"), parsing: .unconditional, help: "How long a path that is never quiet may wait.")
    var maxDelay = TimeSpan(seconds: 1)

    @Option(
        name: .customLong("scan-interval"), parsing: .unconditional,
        help: "Between full scans, which find what raises no event; 0 for none.")
    var scanInterval = TimeSpan(seconds: 3600)

    @Option(
        name: .customLong("inline-limit"), parsing: .unconditional,
        help: "New content of one file beyond this stays out of the log.")
    var inlineLimit = ByteSize(UInt64(Limits.defaultMaxInlineContentBytes))

    @Flag(help: "Replicate device nodes; without it they are skipped and counted.")
    var devices = false

    @Option(
        name: .customLong("max-delete"), parsing: .unconditional,
        help: "Stall when more than this is gone from the tree at once.")
    var maxDelete = DeletionLimit.standard

    @Flag(
        name: .customLong("accept-deletions"),
        help: "What is gone at this start is meant to be, however much: delete it on the replicas, too.")
    var acceptDeletions = false

    @Flag(
        name: [.customShort("x"), .customLong("one-file-system")],
        help: "Leave out what is mounted below DIR; always so, and here for who likes to say it.")
    var oneFileSystem = false

    @Option(
        name: .customLong("max-watches"), parsing: .unconditional,
        help: "Take at most so many inotify watches (default: as many as the system gives).")
    var maxWatches: Count?

    @OptionGroup var group: GroupOptions

    @Flag(help: "Allow --listen on addresses that are not loopback, without encryption or passwords.")
    var insecure = false

    @OptionGroup var filter: FilterOptions
    @OptionGroup var retention: RetentionOptions
    @OptionGroup var log: LogOptions

    func validate() throws {
        if once, to.isEmpty {
            throw ValidationError("--once needs at least one --to: it waits for replicas that are named")
        }
        try to.forEach { try $0.requireDialable("--to") }
        if inlineLimit.bytes > Limits.maxSegmentRawBytes / 2 {
            throw ValidationError("--inline-limit must be at most 24M, half of the largest segment")
        }
    }

    func run() async throws {
        try await exitingOnError("walship", format: log.format) {
            if !insecure { try Network.requireLoopback(listen, others: "read the tree") }
            try await Network.checkAddresses(listen: listen, dial: to, beforeMaking: state, for: directory)
            let logger = log.logger("walship")
            var settings = try settings
            settings.primary.filter = try filter.filter()
            let node = try TreeNode(settings, as: .primary, logger: logger)
            let bar = Task { await ProgressBar { try? node.currentStatus() }.run() }
            defer { bar.cancel() }
            try await runServices([node], logger: logger)
        }
    }

    private var settings: NodeSettings {
        get throws {
            var settings = NodeSettings(rootPath: directory, command: "walship")
            settings.statePath = state
            settings.name = name
            settings.listen = listen
            settings.primary = primary
            try group.apply(to: &settings)
            settings.replica.retention = settings.primary.retention
            return settings
        }
    }

    private var primary: PrimarySettings {
        var settings = PrimarySettings()
        settings.to = to
        settings.isOnce = once
        settings.compression = compress ?? .standard
        settings.compressesLoopback = compress != nil
        settings.capture.settleNanoseconds = settle.nanoseconds
        settings.capture.maxDelayNanoseconds = max(maxDelay.nanoseconds, settle.nanoseconds)
        settings.capture.scanIntervalNanoseconds = scanInterval.nanoseconds
        settings.capture.maxInlineBytes = Int(inlineLimit.bytes)
        settings.capture.capturesDevices = devices
        settings.capture.acceptsDeletions = acceptDeletions
        settings.capture.maxWatches = maxWatches?.value
        settings.maxDelete = maxDelete
        settings.endsInDoubt = once
        settings.retention = Retention(
            budgetBytes: retention.budget.bytes, keepSeconds: UInt64(retention.keep.seconds))
        return settings
    }
}
