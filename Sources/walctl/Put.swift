import ArgumentParser
import WALCommand
import WALFormat
import WALNode

struct Put: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write standard input to a file of the tree, and print the position that holds it.",
        discussion: """
            Readers see the file that was there before or the whole new one. Any node of the group can be named: the write \
            goes to the primary.
            """)

    @OptionGroup var options: WriteOptions

    @Argument(help: "The file, from the root of the tree.")
    var path: String

    @Option(help: ArgumentHelp("Its mode; else that of the file it replaces, or 0644.", valueName: "mode"))
    var mode: OctalMode?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Its modification time, in seconds since 1970; else now.", valueName: "seconds"))
    var mtime: String?

    @Flag(help: "Exit 2 when there is something of that name.")
    var create = false

    @Flag(help: "Make the directories above that are missing.")
    var parents = false

    func validate() throws {
        if let mtime, Timestamp(text: mtime) == nil {
            throw ValidationError("--mtime: '\(mtime)' is not SECONDS or SECONDS.FRACTION")
        }
    }

    func run() async throws {
        try await exitingOnError("walctl") {
            var write = options.makeRequest(.put, path)
            write.mode = mode?.bits
            write.mtime = mtime
            write.create = create
            write.parents = parents
            try await options.perform(write, content: try PutContent())
        }
    }
}
