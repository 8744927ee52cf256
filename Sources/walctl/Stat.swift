import ArgumentParser
import WALCommand
import WALFormat
import WALNode

struct Stat: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show what an object of the tree is.")

    @OptionGroup var options: ReadOptions

    @Argument(help: "The path, from the root of the tree.")
    var path: String

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() async throws {
        try await exitingOnError("walctl") {
            try await options.perform(.stat, path) { client, request in
                let response = try await client.ask(request)
                guard let entry = response.entry else { throw NodeError(.failed, "the node's answer holds no object") }
                if json {
                    try printAnswer(try Looked(response.freshness, entry: entry).json(pretty: true))
                } else {
                    tell(response.freshness)
                    for (key, value) in Self.rows(entry) { try printAnswer("\(key)  \(value)") }
                }
                return response.freshness
            }
        }
    }

    private static func rows(_ entry: TreeEntry) -> [(String, String)] {
        var rows = [
            ("path ", entry.name), ("kind ", entry.kind), ("size ", "\(entry.size)"), ("mode ", entry.mode),
            ("owner", "\(entry.uid):\(entry.gid)"), ("mtime", entry.mtime), ("links", "\(entry.links)"),
        ]
        if let target = entry.target { rows.append(("target", target)) }
        return rows
    }
}

/// How fresh the answer is, for people: beside it, not in it.
func tell(_ freshness: Freshness?) {
    if let freshness { WALCommand.tell("walctl", freshness.text) }
}

/// An answer in JSON: how fresh it is, and what was looked at.
struct Looked: Encodable {
    var freshness: Freshness?
    var entry: TreeEntry?
    var entries: [TreeEntry]?

    init(_ freshness: Freshness?, entry: TreeEntry? = nil, entries: [TreeEntry]? = nil) {
        self.freshness = freshness
        self.entry = entry
        self.entries = entries
    }

    private enum CodingKeys: String, CodingKey { case entry, entries }

    func encode(to encoder: any Encoder) throws {
        try freshness?.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encodeIfPresent(entry, forKey: .entry)
        try container.encodeIfPresent(entries, forKey: .entries)
    }

    func json(pretty: Bool) throws -> String {
        String(decoding: try ControlJSON.encode(self, pretty: pretty), as: UTF8.self)
    }
}
