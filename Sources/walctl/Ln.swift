import ArgumentParser
import WALCommand
import WALNode

struct Ln: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a symlink in the tree, and print the position that holds it.")

    @OptionGroup var options: WriteOptions

    @Flag(name: .shortAndLong, help: "A symlink: there is no other kind here, and it must be said.")
    var symbolic = false

    @Argument(help: "What it points to. It is not looked at.")
    var to: String

    @Argument(help: "The path, from the root of the tree.")
    var path: String

    func validate() throws {
        guard symbolic else { throw ValidationError("only symlinks can be made; give -s") }
    }

    func run() async throws {
        try await exitingOnError("walctl") {
            var write = options.makeRequest(.ln, path)
            write.target = to
            try await options.perform(write)
        }
    }
}
