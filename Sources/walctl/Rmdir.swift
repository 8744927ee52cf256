import ArgumentParser
import WALCommand
import WALNode

struct Rmdir: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Remove an empty directory of the tree, and print the position that holds the change.")

    @OptionGroup var options: WriteOptions

    @Argument(help: "The path, from the root of the tree.")
    var path: String

    func run() async throws {
        try await exitingOnError("walctl") {
            let write = options.makeRequest(.rmdir, path)
            try await options.perform(write)
        }
    }
}
