import ArgumentParser
import Foundation
import WALCommand
import WALFormat
import WALLog
import WALNode
import WALSystem

struct Log: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the segments of a tree's log.",
        discussion: "Reads the files, whether or not something runs. TARGET is a directory.")

    @OptionGroup var target: TargetOptions

    @Flag(help: "Print one JSON object a line.")
    var json = false

    struct Row: Encodable {
        var epoch: UInt64
        var seq: UInt64
        var chain: String
        var time: String
        var entries: UInt32
        var rawBytes: UInt64
        var storedBytes: UInt64
        var flags: [String]
        var treeDigest: String
        var file: String
        var offset: UInt64
    }

    func run() async throws {
        try await exitingOnError("walctl") {
            guard case .tree(let path) = try Target(target.target) else {
                throw NodeError(.usage, "walctl log reads files; TARGET must be a directory of this host")
            }
            let folder = try TreeState.open(path, state: target.state)
            var inspector = try LogInspector(log: try folder.openDirectory(Name("log")))
            if !json { try printAnswer("POSITION      TIME                      ENTRIES       RAW    STORED  FLAGS") }
            while let location = try inspector.next() {
                let row = Self.row(location)
                try printAnswer(json ? String(decoding: try ControlJSON.encode(row), as: UTF8.self) : Self.text(row))
            }
            if let tail = inspector.tail {
                throw NodeError(
                    .failed,
                    "\(tail.file) ends in \(tail.bytes) bytes of an unfinished segment at \(tail.offset); the next start "
                        + "cuts them")
            }
        }
    }

    private static func row(_ location: LogLocation) -> Row {
        let header = location.header
        return Row(
            epoch: header.epoch, seq: header.seq, chain: location.chain.description,
            time: SegmentText.time(header.captureTime), entries: header.entryCount, rawBytes: header.rawBytes,
            storedBytes: header.storedBytes, flags: SegmentText.flags(header.flags),
            treeDigest: header.treeDigest.description, file: "\(location.file.name)", offset: location.offset)
    }

    private static func text(_ row: Row) -> String {
        func pad(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(0, width - text.count))
        }
        func right(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(0, width - text.count)) + text
        }
        return pad("\(row.epoch):\(row.seq)", 14) + pad(row.time, 26) + right("\(row.entries)", 7)
            + right(Units.bytes(row.rawBytes), 10) + right(Units.bytes(row.storedBytes), 10)
            + (row.flags.isEmpty ? "" : "  " + row.flags.joined(separator: ","))
    }
}

enum SegmentText {
    static func time(_ nanoseconds: Int64) -> String {
        Date(timeIntervalSince1970: Double(nanoseconds) / 1e9)
            .formatted(
                .iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(separator: .omitted))
    }

    static func flags(_ flags: SegmentHeader.Flags) -> [String] {
        var names: [String] = []
        if flags.contains(.baseline) { names.append("baseline") }
        if flags.contains(.fuzzy) { names.append("fuzzy") }
        if flags.contains(.external) { names.append("external") }
        if flags.contains(.client) { names.append("client") }
        return names
    }
}
