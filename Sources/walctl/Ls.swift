import ArgumentParser
import WALCommand
import WALNode

struct Ls: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List a directory of the tree.")

    @OptionGroup var options: ReadOptions

    @Argument(help: "The path, from the root of the tree (default: the root).")
    var path = ""

    @Flag(name: .shortAndLong, help: "Show kind, mode, owner, size and time.")
    var long = false

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() async throws {
        try await exitingOnError("walctl") {
            try await options.perform(.list, path) { client, request in
                let response = try await client.ask(request)
                var entries = response.entry.map { [$0] } ?? []
                // That of the list of names; what the entries are of is known when the last was looked up.
                var freshness = response.freshness
                if response.entry == nil { freshness = try await all(response, client, &entries) ?? freshness }
                if json {
                    try printAnswer(try Looked(response.freshness, entries: entries).json(pretty: true))
                } else {
                    tell(response.freshness)
                    for entry in entries { try printAnswer(long ? Self.row(entry) : entry.name) }
                }
                return freshness
            }
        }
    }

    private func all(
        _ response: ControlResponse, _ client: ControlClient, _ entries: inout [TreeEntry]
    ) async throws -> Freshness? {
        var next = ControlRequest(.next)
        next.handle = response.handle
        while true {
            let more = try await client.ask(next)
            entries += more.entries ?? []
            if more.hasMore != true { return more.freshness }
        }
    }

    private static func row(_ entry: TreeEntry) -> String {
        func right(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(0, width - text.count)) + text
        }
        let kind = entry.kind + String(repeating: " ", count: max(0, 9 - entry.kind.count))
        return "\(kind)  \(entry.mode)  \(right("\(entry.uid):\(entry.gid)", 9))  \(right("\(entry.size)", 12))  "
            + "\(right(entry.mtime, 20))  \(entry.name)" + (entry.target.map { " -> \($0)" } ?? "")
    }
}
