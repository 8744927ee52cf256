import ArgumentParser
import WALCommand
import WALNode

struct PositionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "position",
        abstract: "Print EPOCH:SEQ:CHAIN of what a primary has logged or a replica has applied.")

    @OptionGroup var target: TargetOptions

    func run() async throws {
        try await exitingOnError("walctl") {
            switch try await Target.reach(target.target, state: target.state, fromFiles: true) {
            case .files(let path, let folder):
                let status = try OfflineStatus.read(
                    folder, folderPath: TreeState.path(path, state: target.state), treePath: path)
                try printAnswer(status.position.text)
            case .node(let client):
                try printAnswer(try await client.askOnce(ControlRequest(.position)).position?.text ?? "")
            }
        }
    }
}
