import ArgumentParser
import Foundation
import WALCommand
import WALFormat
import WALNode
import WALSystem

struct Get: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the content of a file of the tree.",
        discussion: """
            What is printed is one version of the file. One that is written to meanwhile is read again from its beginning, \
            as long as nothing was printed.
            """)

    @OptionGroup var options: ReadOptions

    @Argument(help: "The file, from the root of the tree.")
    var path: String

    @Option(parsing: .unconditional, help: ArgumentHelp("Begin at this byte.", valueName: "bytes"))
    var offset: UInt64 = 0

    @Option(parsing: .unconditional, help: ArgumentHelp("Print so many bytes, or less at the end.", valueName: "bytes"))
    var length: UInt64?

    @Option(help: ArgumentHelp("Write to this file, which is there when it is whole.", valueName: "file"))
    var output: String?

    @Flag(help: "Tell how fresh it is as one JSON object, on standard error.")
    var json = false

    func run() async throws {
        try await exitingOnError("walctl") {
            let sink = try output.map { try FileSink($0) as any ContentSink } ?? StandardSink()
            try await options.perform(.open, path) { client, request in
                var tries = 0
                while true {
                    do {
                        try sink.restart()
                        return try await read(client, request, sink)
                    } catch let error as NodeError {
                        tries += 1
                        guard error.isChanged, sink.canRestart, tries < 100 else { throw error }
                        try await Task.sleep(for: .milliseconds(20))
                    }
                }
            }
        }
    }

    private static let pieceBytes: UInt64 = 1 << 20
    private static let piecesUnderWay = 4

    private func read(
        _ client: ControlClient, _ request: ControlRequest, _ sink: any ContentSink
    ) async throws -> Freshness? {
        let opened = try await client.ask(request)
        guard let handle = opened.handle, let entry = opened.entry else {
            throw NodeError(.failed, "the node's answer holds no file")
        }
        let start = min(offset, entry.size)
        let end = start + min(length ?? .max, entry.size - start)
        var next = start
        var asked: [Asked] = []
        // Nothing is printed before it is sure that the whole of a small file is one version.
        var done: UInt64 = 0
        repeat {
            // At least one, also of nothing: that it was not changed is found out by reading.
            while asked.count < Self.piecesUnderWay, next < end || (asked.isEmpty && done == 0) {
                var piece = ControlRequest(.read)
                piece.handle = handle
                piece.offset = next
                piece.length = min(Self.pieceBytes, end - next)
                asked.append(try client.ask(later: piece))
                next += piece.length ?? 0
                if next >= end { break }
            }
            let bytes = try Asked.content(await client.wait(asked.removeFirst()))
            done += UInt64(bytes.count)
            try sink.write(bytes)
        } while !asked.isEmpty || next < end
        guard done == end - start else { throw NodeError(.failed, "\(path) ended before its size") }
        var close = ControlRequest(.close)
        close.handle = handle
        _ = try await client.ask(close)
        try sink.finish()
        if json {
            tellLine(try Looked(opened.freshness, entry: entry).json(pretty: false))
        } else {
            tell(opened.freshness)
        }
        return opened.freshness
    }
}

/// Where content goes.
protocol ContentSink: AnyObject {
    /// Whether what was written so far can be forgotten.
    var canRestart: Bool { get }
    func restart() throws
    func write(_ bytes: [UInt8]) throws
    func finish() throws
}

/// Keeps the first bytes for a moment: until there are more, it can begin again.
final class StandardSink: ContentSink {
    private var held: [UInt8] = []
    private var hasPrinted = false
    private static let holdBytes = 8 << 20

    var canRestart: Bool { !hasPrinted }

    func restart() throws { held.removeAll() }

    func write(_ bytes: [UInt8]) throws {
        held += bytes
        if hasPrinted || held.count > Self.holdBytes { try flush() }
    }

    func finish() throws { try flush() }

    private func flush() throws {
        hasPrinted = hasPrinted || !held.isEmpty
        try printContent(held)
        held.removeAll(keepingCapacity: true)
    }
}

/// A new file beside the one that it replaces at the end.
final class FileSink: ContentSink {
    private let folder: Directory
    private let name: Name
    private let temporary = temporaryName()
    private var file: File?
    private var size: UInt64 = 0

    init(_ path: String) throws {
        (folder, name) = try openFolder(of: path)
    }

    deinit {
        if file != nil { try? folder.unlink(temporary) }
    }

    var canRestart: Bool { true }

    func restart() throws {
        if file == nil { file = try folder.createFile(temporary, permissions: 0o644) }
        try file!.truncate(to: 0)
        size = 0
    }

    /// Zeros become holes, so that a disk image does not grow.
    func write(_ bytes: [UInt8]) throws {
        if !bytes.allSatisfy({ $0 == 0 }) { try file!.write(bytes, at: size) }
        size += UInt64(bytes.count)
    }

    func finish() throws {
        try file!.truncate(to: size)
        try file.take()?.close()
        try folder.rename(temporary, to: folder, name)
    }
}
