import ArgumentParser
import Foundation
import WALNode

/// What a node is in its group, whichever role it has.
package struct GroupOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Where others reach this node, if not where it listens: the group is told this.", valueName: "host:port"))
    package var advertise: Address?

    @Option(
        help: "As primary, answer marks, waits and writes when so many replicas have made them durable, never before.")
    package var sync: Count?

    @Option(
        name: .customLong("on-promote"),
        help: ArgumentHelp(
            "Run this when the node has become primary; no shell reads it, but quotes keep a word together.",
            valueName: "command"))
    package var onPromote: String?

    @Option(
        name: .customLong("on-fence"),
        help: ArgumentHelp("Run this when another primary was promoted instead of this one.", valueName: "command"))
    package var onFence: String?

    package init() {}

    package func apply(to settings: inout NodeSettings) throws {
        try advertise?.requireDialable("--advertise")
        settings.advertise = advertise
        settings.primary.syncReplicas = sync?.value
        settings.onPromote = try Self.words(onPromote, "--on-promote")
        settings.onFence = try Self.words(onFence, "--on-fence")
    }

    private static func words(_ text: String?, _ option: String) throws -> [String] {
        guard let text else { return [] }
        guard let words = QuotedWords.split(text) else {
            throw NodeError(.usage, "\(option): '\(text)' ends within quotes")
        }
        guard let program = words.first, program.hasPrefix("/") else {
            throw NodeError(.usage, "\(option): '\(text)' does not begin with the absolute path of a program")
        }
        // Now, for when it is needed nobody may be there to read that it cannot be started.
        guard FileManager.default.isExecutableFile(atPath: program) else {
            throw NodeError(.usage, "\(option): \(program) is no program that can be started")
        }
        return words
    }
}
