import ArgumentParser
import WALCommand
import WALNode

struct Rm: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Remove a file of the tree, and print the position that holds the change.")

    @OptionGroup var options: WriteOptions

    @Argument(help: "The path, from the root of the tree.")
    var path: String

    @Flag(name: .shortAndLong, help: "Remove a directory with all that is in it.")
    var recursive = false

    func run() async throws {
        try await exitingOnError("walctl") {
            var write = options.makeRequest(.rm, path)
            write.recursive = recursive
            try await options.perform(write)
        }
    }
}
