import Foundation
import Testing
import WALFormat
import WALLog
import WALSystem
import WALTestKit

/// A log's directory and its quarantine, in memory where the machine allows: what is tested here is what the log does
/// with bytes, and it syncs often. Removed with this object.
final class LogFolder {
    let path: String
    private let isOwned: Bool

    /// `parent`: on a file system that the test chose.
    init(parent: String? = nil) throws {
        let base = parent ?? (FileManager.default.isWritableFile(atPath: "/dev/shm") ? "/dev/shm" : "/tmp")
        path = base + "/wallog-tests-\(UInt64.random(in: 0...UInt64.max))"
        isOwned = parent == nil
        for part in ["log", "quarantine"] {
            try FileManager.default.createDirectory(atPath: path + "/" + part, withIntermediateDirectories: true)
        }
    }

    /// A folder that is there, as a crash image brings it.
    init(existing: String) {
        path = existing
        isOwned = false
    }

    deinit {
        if isOwned { try? FileManager.default.removeItem(atPath: path) }
    }

    var log: Directory { get throws { try Directory.open(path: path + "/log") } }
    var quarantine: Directory { get throws { try Directory.open(path: path + "/quarantine") } }

    func open(
        _ source: SegmentSource = SegmentSource(), history: HistoryID? = nil, base: Position = .start,
        rollBytes: UInt64 = Limits.logFileBytes
    ) throws -> (writer: LogWriter, report: RecoveryReport) {
        try LogWriter.open(
            directory: log, quarantine: quarantine, history: history ?? source.history, emptyAt: base,
            rollBytes: rollBytes)
    }

    /// Writes segments as files of a log, one file for each array, without the writer.
    func place(_ files: [[[UInt8]]], firstSeqs: [UInt64]) throws {
        for (segments, seq) in zip(files, firstSeqs) {
            try put("log/\(LogName.name(firstSeq: seq))", segments.flatMap { $0 })
        }
    }

    func put(_ name: String, _ bytes: [UInt8]) throws {
        try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + name))
    }

    func bytes(_ name: String) throws -> [UInt8] {
        try [UInt8](Data(contentsOf: URL(fileURLWithPath: path + "/" + name)))
    }

    func names(_ part: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path + "/" + part).sorted()
    }

    /// Every name and byte in the log and in the quarantine.
    func content() throws -> [String: [UInt8]] {
        var all: [String: [UInt8]] = [:]
        for part in ["log", "quarantine"] {
            for name in try names(part) { all[part + "/" + name] = try bytes(part + "/" + name) }
        }
        return all
    }
}

/// Makes segments that follow each other. The content is random, so that it does not shrink and sizes are known.
struct SegmentSource {
    let history: HistoryID
    var end: Position
    var epoch: UInt64 = 1
    var random: SeededRandom
    private(set) var made: [Segment] = []

    init(history: UInt64 = 7, end: Position = .start, seed: UInt64 = 1) {
        self.history = HistoryID(Digest(high: history, low: history))
        self.end = end
        random = SeededRandom(seed: seed)
    }

    /// One file of `content` random bytes; capture time is the seq in seconds.
    mutating func next(content: Int = 40) -> Segment { next(bytes: random.bytes(content)) }

    mutating func next(bytes: [UInt8]) -> Segment {
        var changes = ChangeWriter()
        let metadata = Metadata(mode: 0o600, uid: 0, gid: 0, mtime: .zero)
        for start in stride(from: 0, to: bytes.count, by: Limits.maxChunkBytes) {
            let part = Array(bytes[start..<min(bytes.count, start + Limits.maxChunkBytes)])
            changes.beginFile(UInt64(start) + 2, metadata)
            part.withUnsafeBytes { changes.data($0) }
            let block = ContentBlock(length: UInt32(part.count), digest: Digest(of: part))
            changes.endFile(size: UInt64(part.count), digest: BlockTable.digest(ofSingle: block))
        }
        let context = SegmentContext(
            history: history, epoch: epoch, previous: end, captureTime: Int64(end.seq + 1) * 1_000_000_000,
            treeDigest: .zero, lastObject: 2, flags: [])
        let segment = Segment(changes, context: context, compression: .none)
        end = segment.position
        made.append(segment)
        return segment
    }

    mutating func next(_ count: Int, content: Int = 40) -> [Segment] {
        (0..<count).map { _ in next(content: content) }
    }
}

/// A whole segment without entries whose checksums hold, whatever else it says.
func sealed(
    _ source: SegmentSource, flags: UInt32 = 0, history: HistoryID? = nil, epoch: UInt64? = nil, seq: UInt64? = nil,
    previous: Digest? = nil
) -> [UInt8] {
    let header = SegmentHeader(
        flags: .init(rawValue: flags), history: history ?? source.history, epoch: epoch ?? source.epoch,
        seq: seq ?? source.end.seq + 1, previousChain: previous ?? source.end.chain, captureTime: 0, treeDigest: .zero,
        rawBytes: 0, storedBytes: 0, entryCount: 0, blockCount: 0, lastObject: 1)
    let encoded = header.encoded()
    return encoded + SegmentTrailer(header: encoded, bodyDigest: Digest(of: [])).encoded()
}

extension LogCursor {
    /// All up to the durable end, wholly read.
    mutating func readAll() throws -> [Segment] {
        var segments: [Segment] = []
        while let location = try next() { segments.append(try location.read()) }
        return segments
    }
}

extension LogView {
    func readAll(after seq: UInt64? = nil) throws -> [Segment] {
        var cursor = try cursor(after: seq ?? base.seq)
        return try cursor.readAll()
    }
}

/// Runs a program and demands that it succeeds.
func run(_ arguments: [String]) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    try #require(process.terminationStatus == 0, "\(arguments.joined(separator: " ")): \(text)")
}

let isRoot = geteuid() == 0
