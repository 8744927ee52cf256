import ArgumentParser
import WALCommand

@main
struct Walctl: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "walctl",
        abstract: "Ask and steer walship and walrecv.",
        discussion: """
            TARGET is a directory that walship or walrecv keeps, or HOST:PORT of a node, or several of these separated by \
            commas, of which the first that answers is asked. Exit codes: 0 done, 1 failed, 2 condition not met, \
            3 diverged or corrupt, \
            4 no primary, 5 no space, 6 unreachable, 7 unauthorized, 64 usage. See walctl(1).
            """,
        version: version,
        subcommands: [
            Status.self, PositionCommand.self, Mark.self, Resume.self, Wait.self, Verify.self, Log.self, Dump.self,
            Mirror.self, Promote.self, SwitchoverCommand.self, Rejoin.self, Forget.self, Put.self, Get.self, Ls.self,
            Stat.self, Rm.self, Mv.self, Mkdir.self, Rmdir.self, Chmod.self, Ln.self,
        ])

    static func main() async { await runFromCommandLine() }
}
