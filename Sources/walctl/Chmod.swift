import ArgumentParser
import WALCommand
import WALNode

struct Chmod: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change the mode of an object of the tree, and print the position that holds the change.")

    @OptionGroup var options: WriteOptions

    @Argument(help: "The mode, in octal digits.")
    var mode: OctalMode

    @Argument(help: "The path, from the root of the tree.")
    var path: String

    func run() async throws {
        try await exitingOnError("walctl") {
            var write = options.makeRequest(.chmod, path)
            write.mode = mode.bits
            try await options.perform(write)
        }
    }
}
