import Foundation
import WALFaults
import WALFormat
import WALLog
import WALNode
import WALSystem
import WALTestKit

/// The disk of a node. The log's files are real ones in a file system in memory, which the real log reads and writes;
/// what of them is durable is known from the sync calls that the log really makes (walfaults.h). `node.json` and the
/// catalog are values that are replaced as a whole: the catalog's transactions and the durable rename are tested
/// elsewhere.
///
/// Fault model: a killed process leaves all that it has written. A power cut leaves what was synced, any part of what
/// was written behind that, and zeros or garbage up to where the file ended; a file whose directory was not synced
/// since it was made may be gone. What the log refuses, and leaves to an operator, does not occur (Recovery.swift): a
/// segment behind a hole (case 5), and garbage that reads as the version of a later program (case 6).
final class Disk {
    /// Where the tree is: the catalog's state and what the catalog knows.
    struct Catalog {
        var position = Position.start
        var whole = Position.start
        var tree = Tree()
        var mustReconcile = false
    }

    private let base: String
    private var generation = 0
    private(set) var log: Directory
    let quarantine: Directory
    var node: NodeFile { didSet { if !losesNode { durableNode = node } } }
    private var durableNode: NodeFile
    /// See ``Mutation/promiseNotDurable``.
    var losesNode = false
    /// See ``Mutation/syncsNothing``.
    var lies = false
    /// What a transaction has changed; durable after ``checkpoint()``.
    var catalog = Catalog()
    private(set) var durableCatalog = Catalog()
    /// By inode.
    private var syncedBytes: [UInt64: UInt64] = [:]
    private var syncedNames: Set<String> = []
    /// The power fails at that sync from now on, before it has done anything; what it leaves is in ``image``.
    var cutAtSync: Int?
    private var image: String?
    private var random: SeededRandom

    init(_ path: String, node: NodeFile, seed: UInt64) throws {
        base = path
        self.node = node
        durableNode = node
        random = SeededRandom(seed: seed)
        for part in ["log0", "quarantine"] {
            try FileManager.default.createDirectory(
                atPath: path + "/" + part, withIntermediateDirectories: true)
        }
        log = try Directory.open(path: path + "/log0")
        quarantine = try Directory.open(path: path + "/quarantine")
    }

    private var logPath: String { "\(base)/log\(generation)" }

    func checkpoint() { durableCatalog = catalog }

    /// Calls into the log, whose syncs are this disk's. True where the power has failed meanwhile.
    func perform(_ body: () throws -> Void) rethrows -> Bool {
        walfaults_observe(
            { context, descriptor, isAfter in
                let disk = Unmanaged<Disk>.fromOpaque(context!).takeUnretainedValue()
                if isAfter == 0 { disk.willSync() } else { disk.synced(descriptor) }
            }, Unmanaged.passUnretained(self).toOpaque())
        defer { walfaults_observe(nil, nil) }
        try body()
        return image != nil
    }

    private func willSync() {
        guard let left = cutAtSync else { return }
        cutAtSync = left > 0 ? left - 1 : nil
        if left == 0, image == nil { image = try? makeImage() }
    }

    private func synced(_ descriptor: Int32) {
        guard !lies else { return }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return }
        if status.st_mode & S_IFMT == S_IFREG {
            syncedBytes[UInt64(status.st_ino)] = UInt64(status.st_size)
        } else if descriptor == log.descriptor {
            syncedNames = Set(names())
        }
    }

    private func names() -> [String] {
        ((try? log.entries()) ?? []).map { String(decoding: $0.name.bytes, as: UTF8.self) }.sorted()
    }

    /// Whether a power cut now would leave segment `seq`.
    func holds(_ seq: UInt64, in view: LogView) throws -> Bool {
        if seq <= view.base.seq { return durableCatalog.position.seq >= seq }
        guard let location = try view.location(at: seq) else { return false }
        var status = stat()
        guard fstat(location.file.descriptor, &status) == 0 else { return false }
        return syncedBytes[UInt64(status.st_ino)] ?? 0 >= location.offset + location.length
            && syncedNames.contains("\(location.file.name)")
    }

    /// What the next start finds after a power cut.
    func powerCut() throws {
        let next = try image ?? makeImage()
        image = nil
        cutAtSync = nil
        try FileManager.default.removeItem(atPath: logPath)
        generation += 1
        try FileManager.default.moveItem(atPath: next, toPath: logPath)
        log = try Directory.open(path: logPath)
        syncedBytes = [:]
        for name in names() {
            let status = try log.status(of: Name(trusted: Array(name.utf8)))
            syncedBytes[status.ino] = status.size
        }
        syncedNames = Set(names())
        node = durableNode
        catalog = durableCatalog
    }

    /// The process alone ended: all that was written is there.
    func killed() {
        image = nil
        cutAtSync = nil
    }

    /// What follows is a header's version.
    private static func endsInVersion(_ bytes: [UInt8]) -> Bool {
        let magic = SegmentHeader.magic
        return bytes.suffix(magic.count).elementsEqual(magic)
            || bytes.dropLast().suffix(magic.count).elementsEqual(magic)
    }

    private func makeImage() throws -> String {
        let path = base + "/image"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let target = try Directory.open(path: path)
        for name in names() {
            let name = Name(trusted: Array(name.utf8))
            let status = try log.status(of: name)
            let bytes = try readWholeFile(in: log, name, limit: 1 << 24)
            let synced = Int(min(syncedBytes[status.ino] ?? 0, status.size))
            if !syncedNames.contains("\(name)"), random.once(in: 2) { continue }
            var kept = Array(bytes[..<random.int(in: synced...bytes.count)])
            let rest = bytes.count - kept.count
            switch random.int(in: 0..<4) {
            case 0: kept += [UInt8](repeating: 0, count: random.int(in: 0...rest))
            case 1 where !Self.endsInVersion(kept): kept += random.bytes(random.int(in: 0...rest))
            default: break
            }
            let file = try target.createFile(name)
            try file.write(kept, at: 0)
            try file.close()
        }
        return path
    }
}
