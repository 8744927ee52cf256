import ArgumentParser
import WALCommand
import WALNode

struct Mkdir: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a directory in the tree, and print the position that holds it.")

    @OptionGroup var options: WriteOptions

    @Argument(help: "The path, from the root of the tree.")
    var path: String

    @Flag(name: .shortAndLong, help: "Make those above, too; it may be there already.")
    var parents = false

    @Option(help: ArgumentHelp("Its mode; else 0755.", valueName: "mode"))
    var mode: OctalMode?

    func run() async throws {
        try await exitingOnError("walctl") {
            var write = options.makeRequest(.mkdir, path)
            write.parents = parents
            write.mode = mode?.bits
            try await options.perform(write)
        }
    }
}
