import ArgumentParser
import WALNode

/// How much log is kept.
package struct RetentionOptions: ParsableArguments {
    @Option(
        name: .customLong("log-budget"), parsing: .unconditional,
        help: "Hard limit of the log's size; a replica that needs more than this reconciles.")
    package var budget = ByteSize(4 << 30)

    @Option(
        name: .customLong("log-keep"), parsing: .unconditional,
        help: "How long log is kept that no known replica needs.")
    package var keep = TimeSpan(seconds: 3600)

    package init() {}

    package func validate() throws {
        // A log file is a quarter of the budget, and one segment must fit into it.
        guard budget.bytes >= 256 << 20 else {
            throw ValidationError("--log-budget must be at least 256M, room for four of the largest segments")
        }
    }
}
