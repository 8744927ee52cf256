import ArgumentParser
import Foundation
import Logging
import ServiceLifecycle
import Synchronization
import UnixSignals
import WALFormat
import WALNode
import WALSystem

extension AsyncParsableCommand {
    /// Parses the arguments and runs the command. A wrong command line is one line on stderr, as every other error is:
    /// ArgumentParser's own `main` adds the usage to it.
    ///
    /// The line says, too, what would be valid, and whose help tells the rest.
    package static func runFromCommandLine() async {
        let name = configuration.commandName ?? _commandName
        if let odd = argumentThatIsNoText() {
            LineLogHandler.line(
                of: name,
                "the argument '\(PathText.escaped(odd))' is not UTF-8; name such a directory or file by a symbolic link "
                    + "that is", format: .text)
            Foundation.exit(ExitCode.validationFailure.rawValue)
        }
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch  where !(error is ExitCode) && exitCode(for: error) == .validationFailure {
            let form = WrongForm.last.withLock { $0.map { "; valid is \($0)" } } ?? ""
            LineLogHandler.line(of: name, "\(message(for: error))\(form); see \(helpCommand(name))", format: .text)
            Foundation.exit(ExitCode.validationFailure.rawValue)
        } catch {
            exit(withError: error)
        }
    }
}

/// The first argument that is not UTF-8. As text it would be another one: what is not UTF-8 in it is replaced.
private func argumentThatIsNoText() -> [UInt8]? {
    for index in 0..<Int(CommandLine.argc) where index > 0 {
        guard let argument = CommandLine.unsafeArgv[index] else { continue }
        if String(validatingCString: argument) == nil {
            return Array(UnsafeBufferPointer(start: argument, count: strlen(argument))).map(UInt8.init(bitPattern:))
        }
    }
    return nil
}

extension ParsableCommand {
    /// `walctl wait --help` where a subcommand was named.
    fileprivate static func helpCommand(_ name: String) -> String {
        let verb = CommandLine.arguments.dropFirst().first { word in
            configuration.subcommands.contains { ($0.configuration.commandName ?? $0._commandName) == word }
        }
        return verb.map { "\(name) \($0) --help" } ?? "\(name) --help"
    }
}

/// Runs a command's work and ends the process as documented: the answer went to stdout, an error is one line on stderr
/// that begins with the command's name (or one JSON object where the log is JSON), and the exit code says of which kind it is.
package func exitingOnError(
    _ command: String, format: LogOptions.Format = .text, _ body: () async throws -> Void
) async throws {
    do {
        try await body()
    } catch let error as ExitCode {
        throw error
    } catch let error as ValidationError {
        throw error
    } catch {
        let failure = NodeError(error)
        Terminal.draw("")
        LineLogHandler.line(of: command, failure.description, format: format)
        throw ExitCode(failure.code.rawValue)
    }
}

/// Runs nodes until they end or a signal says so: the first SIGTERM or SIGINT ends them in order.
package func runServices(_ services: [any Service], logger: Logger) async throws {
    var quiet = logger
    quiet.logLevel = .error
    let group = ServiceGroup(
        configuration: .init(
            services: services.map {
                .init(
                    service: $0, successTerminationBehavior: .gracefullyShutdownGroup,
                    failureTerminationBehavior: .gracefullyShutdownGroup)
            },
            gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet))
    try await group.run()
}

/// A line of talk on stderr.
package func tell(_ command: String, _ text: String) {
    LineLogHandler.line(of: command, text, format: .text)
}

/// A line on stderr as it is, for who reads it by program.
package func tellLine(_ text: String) {
    Terminal.line(text)
}

/// Content on stdout, as it is.
package func printContent(_ bytes: [UInt8]) throws(NodeError) {
    try write(Data(bytes))
}

/// An answer on stdout. One that cannot be given ends the process: a script must not take a part for the whole.
package func printAnswer(_ text: String) throws(NodeError) {
    try write(Data((text + "\n").utf8))
}

private func write(_ data: Data) throws(NodeError) {
    do {
        try FileHandle.standardOutput.write(contentsOf: data)
    } catch {
        let cause = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
        let why = cause.map { SystemError.text(of: Int32(clamping: $0.code)) } ?? "the write failed"
        throw NodeError(.failed, "the answer cannot be written to standard output (\(why)); check where that goes")
    }
}
