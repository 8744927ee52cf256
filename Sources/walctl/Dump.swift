import ArgumentParser
import WALCommand
import WALFormat
import WALLog
import WALNode
import WALSystem

struct Dump: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the segments of a log file and their entries.",
        discussion: "FILE is a log file or a file that holds a segment. Everything is checked before it is printed.")

    @Argument(help: "A log file.")
    var file: String

    @Option(parsing: .unconditional, help: ArgumentHelp("Only this segment.", valueName: "number"))
    var seq: UInt64?

    @Flag(help: "Print one JSON object a segment.")
    var json = false

    struct Entry: Encodable {
        var entry: String
        var object: UInt64?
        var parent: UInt64?
        var name: String?
        var kind: String?
        var mode: String?
        var uid: UInt32?
        var gid: UInt32?
        var mtime: String?
        /// Names with the sizes of the values.
        var attributes: [String]?
        var size: UInt64?
        var content: String?
        var target: String?
        var extents: [String]?
        /// Of a client's request, 32 hexadecimal digits.
        var id: String?
        /// The rules of a filter.
        var rules: [String]?
    }

    struct Row: Encodable {
        var history: String
        var epoch: UInt64
        var seq: UInt64
        var chain: String
        var previousChain: String
        var time: String
        var flags: [String]
        var treeDigest: String
        var lastObject: UInt64
        var rawBytes: UInt64
        var storedBytes: UInt64
        var entries: [Entry]
    }

    func run() async throws {
        try await exitingOnError("walctl") {
            let (folder, name) = try split(file)
            try check(name, in: folder)
            var inspector = LogInspector(file: name, in: folder)
            while let location = try inspector.next() {
                if let seq, location.header.seq != seq { continue }
                let row = try Self.row(try location.read())
                try printAnswer(json ? String(decoding: try ControlJSON.encode(row), as: UTF8.self) : Self.text(row))
            }
            if let tail = inspector.tail {
                throw NodeError(
                    .diverged, "\(file): \(tail.bytes) bytes at \(tail.offset) are no whole segment: \(tail.reason)")
            }
        }
    }

    private func check(_ name: Name, in folder: Directory) throws {
        let kind: Kind?
        do throws(SystemError) {
            kind = try folder.status(of: name).kind
        } catch {
            guard error.isNotFound else { throw error }
            throw NodeError(.failed, "\(file) does not exist; name a log file, as DIR/.wal/log/*.log")
        }
        guard kind != .directory else {
            throw NodeError(.failed, "\(file) is a directory; name a log file, as DIR/.wal/log/*.log")
        }
    }

    private func split(_ path: String) throws -> (Directory, Name) {
        let cut = path.lastIndex(of: "/")
        let above = cut.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let last = cut.map { String(path[path.index(after: $0)...]) } ?? path
        let folder = try StateFolder.openRoot(above)
        return (folder, try Name(Array(last.utf8)))
    }

    private static func row(_ segment: Segment) throws -> Row {
        let header = segment.header
        return Row(
            history: header.history.description, epoch: header.epoch, seq: header.seq,
            chain: segment.chain.description, previousChain: header.previousChain.description,
            time: SegmentText.time(header.captureTime), flags: SegmentText.flags(header.flags),
            treeDigest: header.treeDigest.description, lastObject: header.lastObject, rawBytes: header.rawBytes,
            storedBytes: header.storedBytes, entries: try segment.changes().map(entry))
    }

    private static func entry(_ change: Change) -> Entry {
        switch change {
        case .bind(let parent, let name, let object):
            return Entry(entry: "bind", object: object, parent: parent, name: name.description)
        case .unbind(let parent, let name): return Entry(entry: "unbind", parent: parent, name: name.description)
        case .drop(let object): return Entry(entry: "drop", object: object)
        case .request(let id): return Entry(entry: "request", id: id.description)
        case .filter(let filter): return Entry(entry: "filter", rules: filter.lines)
        case .metadata(let object, let metadata): return entry("metadata", object, metadata)
        case .put(let object, let metadata, let body):
            var entry = entry("put", object, metadata)
            switch body {
            case .directory: entry.kind = "directory"
            case .symlink(let target):
                entry.kind = "symlink"
                entry.target = PathText.escaped(target)
            case .fifo: entry.kind = "fifo"
            case .device(let kind, let number):
                entry.kind = kind == .blockDevice ? "block device" : "character device"
                entry.target = "\(number.major):\(number.minor)"
            case .file(let content):
                entry.kind = "file"
                entry.size = content.size
                entry.content = content.digest.description
                entry.extents = content.extents.map { text($0, content.sources) }
            }
            return entry
        }
    }

    private static func entry(_ name: String, _ object: ObjectID, _ metadata: Metadata) -> Entry {
        Entry(
            entry: name, object: object, mode: String(metadata.mode, radix: 8), uid: metadata.uid, gid: metadata.gid,
            mtime: "\(metadata.mtime.seconds).\(padded(metadata.mtime.nanoseconds))",
            attributes: metadata.attributes.isEmpty
                ? nil
                : metadata.attributes.pairs.map { "\(PathText.escaped($0.name)) \($0.value.count) bytes" })
    }

    private static func padded(_ nanoseconds: UInt32) -> String {
        let text = "\(nanoseconds)"
        return String(repeating: "0", count: max(0, 9 - text.count)) + text
    }

    private static func text(_ extent: Extent, _ sources: [ContentSource]) -> String {
        switch extent {
        case .data(let range): "data \(range.count)"
        case .hole(let length): "hole \(length)"
        case .copy(let source, let offset, let length):
            "copy \(length) from object \(sources[source].object) at \(offset)"
        case .fetch(let block): "fetch \(block.length) \(block.digest)"
        }
    }

    private static func text(_ row: Row) -> String {
        var lines = ["segment \(row.epoch):\(row.seq)  \(row.time)  \(row.flags.joined(separator: ","))"]
        lines.append("  history \(row.history)  chain \(row.chain)")
        lines.append("  tree    \(row.treeDigest)  \(row.rawBytes) bytes raw, \(row.storedBytes) stored")
        for entry in row.entries {
            var text = "  \(entry.entry)"
            if let parent = entry.parent { text += " \(parent)/\(entry.name ?? "")" }
            if let object = entry.object { text += entry.parent == nil ? " \(object)" : " -> \(object)" }
            if let kind = entry.kind { text += " \(kind)" }
            if let id = entry.id { text += " \(id)" }
            if let mode = entry.mode { text += " mode \(mode) owner \(entry.uid ?? 0):\(entry.gid ?? 0)" }
            if let mtime = entry.mtime { text += " mtime \(mtime)" }
            if let size = entry.size { text += " size \(size) content \(entry.content ?? "")" }
            if let target = entry.target { text += " -> \(target)" }
            lines.append(text)
            for attribute in entry.attributes ?? [] { lines.append("    attribute \(attribute)") }
            for extent in entry.extents ?? [] { lines.append("    \(extent)") }
            for rule in entry.rules ?? [] { lines.append("    \(rule)") }
        }
        return lines.joined(separator: "\n")
    }
}
