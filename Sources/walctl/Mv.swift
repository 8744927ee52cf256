import ArgumentParser
import WALCommand
import WALNode

struct Mv: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Move or rename an object of the tree, and print the position that holds the change.")

    @OptionGroup var options: WriteOptions

    @Argument(help: "The path, from the root of the tree.")
    var path: String

    @Argument(help: "The new path. A file there is replaced, a directory is not.")
    var to: String

    @Flag(name: .customLong("no-replace"), help: "Exit 2 when there is something of the new name.")
    var noReplace = false

    func run() async throws {
        try await exitingOnError("walctl") {
            var write = options.makeRequest(.mv, path)
            write.to = to
            write.noReplace = noReplace
            try await options.perform(write)
        }
    }
}
