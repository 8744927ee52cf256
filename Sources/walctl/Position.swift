import ArgumentParser
import WALCommand
import WALNode

struct PositionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "position", abstract: "Print EPOCH:SEQ:CHAIN of what a primary has logged or a replica has applied.")

    @OptionGroup var target: TargetOptions

    func run() async throws {
        try await exitingOnError("walctl") {
            if case .tree(let path) = try Target(target.target) {
                let folder = try TreeState.open(path, state: target.state)
                if let client = try? await ControlClient(stateFolder: folder) {
                    await client.close()
                } else {
                    let status = try OfflineStatus.read(
                        folder, folderPath: TreeState.path(path, state: target.state), treePath: path)
                    printAnswer(status.position.text)
                    return
                }
            }
            let response = try await Target.ask(target.target, state: target.state, ControlRequest(.position))
            printAnswer(response.position?.text ?? "")
        }
    }
}
