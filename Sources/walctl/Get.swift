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
            as long as nothing was printed. Where a node is lost on the way, the next target goes on with the same version.
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
            var version: TreeEntry?
            try await options.perform(.open, path) { client, request in
                var tries = 0
                while true {
                    do {
                        return try await read(client, request, sink, &version)
                    } catch let error as NodeError {
                        if error.isChanged { version = nil }
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
        _ client: ControlClient, _ request: ControlRequest, _ sink: any ContentSink, _ version: inout TreeEntry?
    ) async throws -> Freshness? {
        let opened = try await client.ask(request)
        guard let handle = opened.handle, let entry = opened.entry else {
            throw NodeError(.failed, "the node's answer holds no file")
        }
        // Another node goes on where one was lost, with the same version.
        if version?.size != entry.size || version?.mtime != entry.mtime {
            guard sink.canRestart else {
                throw NodeError(
                    .failed, "\(path) is another version now; what was printed is the beginning of the one before")
            }
            try sink.restart()
        }
        version = entry
        let start = min(offset, entry.size)
        let end = start + min(length ?? .max, entry.size - start)
        var asked: [Asked] = []
        // Nothing is printed before it is sure that the whole of a small file is one version.
        var done = sink.count
        let resumed = done
        var next = start + done
        repeat {
            // At least one, also of nothing: that it was not changed is found out by reading.
            while asked.count < Self.piecesUnderWay, next < end || (asked.isEmpty && done == resumed) {
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
    /// Bytes written since then.
    var count: UInt64 { get }
    func restart() throws
    func write(_ bytes: [UInt8]) throws
    func finish() throws
}

/// Keeps the first bytes for a moment: until there are more, it can begin again.
final class StandardSink: ContentSink {
    private var held: [UInt8] = []
    private var hasPrinted = false
    private(set) var count: UInt64 = 0
    private static let holdBytes = 8 << 20

    var canRestart: Bool { !hasPrinted }

    func restart() throws {
        held.removeAll()
        count = 0
    }

    func write(_ bytes: [UInt8]) throws {
        held += bytes
        count += UInt64(bytes.count)
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
    private(set) var count: UInt64 = 0

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
        count = 0
    }

    /// Zeros become holes, so that a disk image does not grow.
    func write(_ bytes: [UInt8]) throws {
        if !bytes.allSatisfy({ $0 == 0 }) { try file!.write(bytes, at: count) }
        count += UInt64(bytes.count)
    }

    func finish() throws {
        try file!.truncate(to: count)
        try file.take()?.close()
        try folder.rename(temporary, to: folder, name)
    }
}
