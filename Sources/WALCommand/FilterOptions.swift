import ArgumentParser
import Foundation
import Synchronization
import WALFormat
import WALNode
import WALSystem

/// What of a tree is replicated. The rules are kept in the order in which they stand on the command line, whichever options
/// they come by: the first that matches a name counts.
package struct FilterOptions: ParsableArguments {
    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp("Replicate names that match, whatever later rules say. Repeatable.", valueName: "pattern"))
    package var include: [Ordered] = []

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "Leave out names that match and no earlier rule includes. Repeatable.", valueName: "pattern"))
    package var exclude: [Ordered] = []

    @Option(
        name: .customLong("filter-file"),
        help: ArgumentHelp("Take rules from this file. Repeatable.", valueName: "file"))
    package var filterFile: [Ordered] = []

    @Flag(name: .customLong("no-filter"), help: "Replicate everything, whatever filter the history has.")
    package var noFilter = false

    package init() {}

    package func validate() throws {
        guard noFilter, !rules.isEmpty else { return }
        throw ValidationError("--no-filter goes with no rules: --include, --exclude and --filter-file")
    }

    private enum Source {
        case option(isInclude: Bool)
        case file
    }

    private var rules: [(source: Source, value: Ordered)] {
        let all =
            include.map { (Source.option(isInclude: true), $0) }
            + exclude.map { (Source.option(isInclude: false), $0) } + filterFile.map { (Source.file, $0) }
        return all.sorted { $0.1.ticket < $1.1.ticket }
    }

    /// The filter that the options make, and nil where there are none. Reads the files, so only once.
    package func filter() throws -> Filter? {
        if noFilter { return Filter.none }
        let rules = rules
        guard !rules.isEmpty else { return nil }
        var made = FilterRules()
        for (source, value) in rules {
            switch source {
            case .option(let isInclude):
                do throws(FilterRules.Wrong) {
                    try made.option(isInclude: isInclude, Array(value.text.utf8))
                } catch {
                    throw NodeError(.usage, "\(isInclude ? "--include" : "--exclude"): \(error)")
                }
            case .file: try read(value.text, into: &made)
            }
        }
        do throws(FilterRules.Wrong) { return try made.filter } catch { throw NodeError(.usage, "\(error)") }
    }

    private func read(_ path: String, into rules: inout FilterRules) throws {
        // A pipe, too, as a shell makes one of a command's output.
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw NodeError(.usage, "\(path) cannot be read: \(SystemError.text(of: errno)); name a file of rules")
        }
        var content: [UInt8] = []
        do {
            while content.count <= Self.maxFileBytes, let more = try file.read(upToCount: 64 << 10), !more.isEmpty {
                content += more
            }
        } catch {
            throw NodeError(.usage, "\(path) cannot be read; name a file of rules")
        }
        guard content.count <= Self.maxFileBytes else {
            throw NodeError(.usage, "\(path) has more than \(Self.maxFileBytes) bytes; name a file of rules")
        }
        do throws(FilterRules.Wrong) { try rules.file(content) } catch { throw NodeError(.usage, "\(path):\(error)") }
    }

    /// Comments need room, too.
    private static let maxFileBytes = 1 << 20

    /// A value with its place on the command line: ArgumentParser keeps those of each option apart, and makes them in the
    /// order in which it meets them.
    package struct Ordered: ExpressibleByArgument, Hashable, Sendable {
        private static let tickets = Atomic<Int>(0)

        package var text: String
        let ticket: Int

        package init?(argument: String) {
            text = argument
            ticket = Self.tickets.add(1, ordering: .relaxed).newValue
        }
    }
}
