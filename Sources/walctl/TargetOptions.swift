import ArgumentParser

struct TargetOptions: ParsableArguments {
    @Argument(help: ArgumentHelp("A directory or HOST:PORT, or several separated by commas.", valueName: "target"))
    var target: String

    @Option(help: ArgumentHelp("Where the directory's state is, if not in DIR/.wal.", valueName: "folder"))
    var state: String?
}
