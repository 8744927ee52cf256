import ArgumentParser
import Foundation
import Logging
import Synchronization
import WALFormat

/// How a daemon talks: on stderr, one event a line.
package struct LogOptions: ParsableArguments {
    package enum Format: String, ExpressibleByArgument, CaseIterable, Sendable {
        case text, json
    }

    package enum Level: String, ExpressibleByArgument, CaseIterable, Sendable {
        case debug, info, notice, warning, error
    }

    @Option(name: .customLong("log-format"), help: "Log lines as text for people or as one JSON object each.")
    package var format = Format.text

    @Option(name: .customLong("log-level"), help: "The least important thing that is logged.")
    package var level = Level.info

    package init() {}

    package func logger(_ label: String) -> Logger {
        let format = format
        var logger = Logger(label: label) { LineLogHandler(label: $0, format: format) }
        logger.logLevel = Logger.Level(rawValue: level.rawValue) ?? .info
        return logger
    }
}

/// A place on stderr that log lines and a progress bar share: the bar is wiped before a line and drawn again after it.
package enum Terminal {
    private static let bar = Mutex<String>("")
    package static let isInteractive = isatty(2) == 1

    package static func line(_ text: String) {
        bar.withLock { bar in
            write(bar.isEmpty ? text + "\n" : "\r\u{1B}[K" + text + "\n" + bar)
        }
    }

    /// Draws the bar; an empty one removes it.
    package static func draw(_ text: String) {
        bar.withLock { bar in
            guard bar != text else { return }
            bar = text
            write("\r\u{1B}[K" + text)
        }
    }

    private static func write(_ text: String) {
        // A log that nobody reads any more, or that is full, stops no daemon.
        try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
    }
}

/// swift-log's lines as this suite writes them. What comes from outside (names, addresses, texts of a peer) is on one
/// line whatever it holds.
struct LineLogHandler: LogHandler {
    let label: String
    let format: LogOptions.Format
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        switch format {
        case .text:
            var text = "\(Self.timestamp()) \(label): "
            if event.level >= .warning { text += "\(event.level): " }
            text += SafeText.oneLine("\(event.message)")
            for (key, value) in all.sorted(by: { $0.key < $1.key }) {
                text += " \(key)=\(SafeText.oneLine("\(value)"))"
            }
            Terminal.line(text)
        case .json:
            Self.json(level: "\(event.level)", program: label, "\(event.message)", all.mapValues { "\($0)" })
        }
    }

    /// The last word of a program that fails.
    static func line(of program: String, _ message: String, format: LogOptions.Format) {
        switch format {
        case .text: Terminal.line("\(program): \(SafeText.oneLine(message))")
        case .json: json(level: "critical", program: program, message, [:])
        }
    }

    private static func json(level: String, program: String, _ message: String, _ more: [String: String]) {
        var object = more
        object["time"] = timestamp()
        object["level"] = level
        object["program"] = program
        object["message"] = message
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let bytes = try? encoder.encode(object) else { return }
        Terminal.line(String(decoding: SafeText.json(bytes), as: UTF8.self))
    }

    /// RFC 3339, UTC, milliseconds.
    private static func timestamp() -> String {
        Date().formatted(
            .iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(separator: .omitted))
    }
}
