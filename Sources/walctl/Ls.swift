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
                let entries: [TreeEntry]
                if let entry = response.entry { entries = [entry] } else { entries = try await all(response, client) }
                if json {
                    try printAnswer(try Looked(response.freshness, entries: entries).json(pretty: true))
                } else {
                    tell(response.freshness)
                    for entry in entries { try printAnswer(long ? Self.row(entry) : entry.name) }
                }
                return response.freshness
            }
        }
    }

    private func all(_ response: ControlResponse, _ client: ControlClient) async throws -> [TreeEntry] {
        var entries: [TreeEntry] = []
        var next = ControlRequest(.next)
        next.handle = response.handle
        while true {
            let more = try await client.ask(next)
            entries += more.entries ?? []
            if more.hasMore != true { return entries }
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
