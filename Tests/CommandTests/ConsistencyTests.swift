import Foundation
import Glibc
import Synchronization
import Testing
import WALSystem
import WALTestKit

/// Files that are read while somebody writes to them.
@Suite(.hangLimit) struct ConsistencyTests {
    /// Full of one version.
    private static func words(_ version: UInt64, _ bytes: Int) -> [UInt8] {
        [UInt64](repeating: version.littleEndian, count: bytes / 8).withUnsafeBytes { Array($0) }
    }

    /// The versions that are there, in their order.
    private static func runs(_ bytes: [UInt8]) -> [UInt64] {
        bytes.withUnsafeBytes { raw in
            var runs: [UInt64] = []
            for index in 0..<raw.count / 8 {
                let version = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
                if runs.last != version { runs.append(version) }
            }
            return runs
        }
    }

    /// Each version is written from front to back, so at any one moment there is a version, and behind it perhaps the rest
    /// of the one before it. Anything else is of two moments.
    private static func isOfOneMoment(_ runs: [UInt64]) -> Bool {
        runs.count == 1 || (runs.count == 2 && runs[0] == runs[1] + 1)
    }

    /// The last segment up to `seq` that has content of a file: whether it is marked.
    private func isFuzzy(_ segments: [[String: Any]], _ seq: Int) -> Bool? {
        let before = segments.filter { segment in
            let entries = segment["entries"] as? [[String: Any]] ?? []
            return segment["seq"] as? Int ?? .max <= seq && entries.contains { $0["kind"] as? String == "file" }
        }
        return (before.last?["flags"] as? [String]).map { $0.contains("fuzzy") }
    }

    private func segments(_ world: World, _ node: Node) throws -> [[String: Any]] {
        var all: [[String: Any]] = []
        for file in try FileManager.default.contentsOfDirectory(atPath: node.folder + "/.wal/log").sorted() {
            let outcome = try world.run("walctl", "dump", "--json", node.folder + "/.wal/log/" + file)
            for line in outcome.lines { all.append(try Status(String(line)).json) }
        }
        return all
    }

    /// What the replica shows, and the position that it has then; nil while that moves.
    private func sample(_ replica: Node, _ name: String) throws -> (seq: Int, bytes: [UInt8])? {
        guard let before = try replica.status()?.appliedSeq else { return nil }
        let bytes = try bytes(ofFile: replica.folder + "/" + name)
        guard try replica.status()?.appliedSeq == before else { return nil }
        return (before, bytes)
    }

    /// In many small writes, and each version in one large one, which no event tells of before it has ended.
    @Test(arguments: [(1000, 4096), (1, 12 << 20)])
    func whatIsNotMarkedIsNeverAMix(_ blocks: Int, _ blockBytes: Int) throws {
        try withWorld { world in
            let mirrored = try Mirrored(world, ["--max-delay", "300ms", "--settle", "10ms"]) { root in
                try Do.write(root / "stamped", Self.words(1, blocks * blockBytes))
            }
            // Where a large file is never shown half patched.
            _ = try world.mountImage("replica", megabytes: 700, ["mkfs.xfs", "-q"])
            let replica = try mirrored.replica()
            mirrored.oracle = { $0.comparesHoles = false }
            try mirrored.expectEqual("at first")
            // In turn: without a rest, one version after the other; with a short one; and with one that is long enough.
            let rest = Atomic<UInt32>(0)
            let isStopped = Atomic<Bool>(false)
            let file = try Do.openFile(mirrored.root / "stamped", O_WRONLY)
            let thread = try WorkerThread.start(name: "stamps") {
                var version: UInt64 = 1
                while !isStopped.load(ordering: .acquiring) {
                    version += 1
                    let block = Self.words(version, blockBytes)
                    for index in 0..<blocks { try? Do.write(file, block, at: index * blockBytes) }
                    usleep(rest.load(ordering: .acquiring))
                }
                close(file)
            }
            var samples: [(seq: Int, runs: [UInt64])] = []
            let start = try #require(try replica.status()).appliedSeq
            for (number, microseconds) in ([0, 9_000, 12_000, 150_000] as [UInt32]).enumerated() {
                rest.store(microseconds, ordering: .releasing)
                let before = Set(samples.map(\.seq)).count
                try until("samples with a rest of \(microseconds) us") {
                    if let sample = try sample(replica, "stamped") {
                        #expect(sample.bytes.count == blocks * blockBytes)
                        samples.append((sample.seq, Self.runs(sample.bytes)))
                    }
                    return Set(samples.map(\.seq)).count >= before + (blocks == 1 ? 9 : 3)
                }
                if number == 0 { try mirrored.expectNote("stamped: was captured while it was written") }
            }
            isStopped.store(true, ordering: .releasing)
            thread.join()
            try mirrored.expectEqual("when the writer has gone")
            try mirrored.expectNoNote("was captured while it was written")
            let all = try segments(world, mirrored.primary)
            var (marked, clean) = (0, 0)
            for sample in samples where sample.seq > start {
                guard let isFuzzy = isFuzzy(all, sample.seq) else { continue }
                if isFuzzy { marked += 1 } else { clean += 1 }
                #expect(
                    isFuzzy || Self.isOfOneMoment(sample.runs),
                    "segment \(sample.seq) is a mix: \(sample.runs.prefix(20))")
            }
            // Else nothing was tested.
            #expect(clean > 0, "\(marked) marked, \(clean) clean")
            #expect(all.contains { ($0["flags"] as? [String])?.contains("fuzzy") == true })
            #expect(isFuzzy(all, .max - 1) == false)
            try mirrored.stop()
        }
    }

    /// A log that is appended to without a pause, with its small and its large time: what is shown is always the beginning
    /// of what it will be.
    @Test(arguments: [0, 6 << 20])
    func aLogUnderWriteArrivesAsAPrefix(_ startBytes: Int) throws {
        try withWorld { world in
            let mirrored = try Mirrored(world, ["--max-delay", "200ms", "--settle", "20ms"]) { root in
                try Do.write(root / "log", (0..<startBytes).map { UInt8(truncatingIfNeeded: $0 / 1000) })
            }
            let replica = try mirrored.replica()
            try mirrored.expectEqual("at first")
            let isStopped = Atomic<Bool>(false)
            let file = try Do.openFile(mirrored.root / "log", O_WRONLY | O_APPEND)
            let thread = try WorkerThread.start(name: "log") {
                var line = 0
                while !isStopped.load(ordering: .relaxed) {
                    line += 1
                    let text = "line \(line) of a log that somebody writes\n"
                    write(file, text, text.utf8.count)
                    if line % 100 == 0 { usleep(5_000) }
                }
                close(file)
            }
            var sizes: Set<Int> = []
            var states: [[UInt8]] = []
            try until("the replica has shown it at several sizes") {
                let state = try bytes(ofFile: replica.folder + "/log")
                if sizes.insert(state.count).inserted { states.append(Array(state.suffix(200_000))) }
                return sizes.count >= 6
            }
            isStopped.store(true, ordering: .relaxed)
            thread.join()
            try mirrored.expectEqual("when the writer has gone")
            let final = try bytes(ofFile: mirrored.source + "/log")
            for (state, size) in zip(states, sizes.sorted()) {
                let end = min(size, final.count)
                #expect(state == Array(final[(end - state.count)..<end]), "\(size) bytes are no prefix")
            }
            try mirrored.stop()
        }
    }

    /// A file that is never quiet holds nothing else up, and is there within the maximum delay and some.
    @Test func aBusyFileDelaysNoOther() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world, ["--max-delay", "500ms"]) { try Do.write($0 / "busy", [0]) }
            let replica = try mirrored.replica()
            try mirrored.expectEqual("at first")
            let isStopped = Atomic<Bool>(false)
            let file = try Do.openFile(mirrored.root / "busy", O_WRONLY)
            let thread = try WorkerThread.start(name: "busy") {
                var count: UInt8 = 0
                while !isStopped.load(ordering: .relaxed) {
                    count &+= 1
                    try? Do.write(file, [UInt8](repeating: count, count: 100_000), at: 0)
                }
                close(file)
            }
            for number in 0..<5 {
                try Do.write(mirrored.root / "other\(number)", "\(number)")
                try until("the other file", seconds: 20) {
                    (try? text(ofFile: replica.folder + "/other\(number)")) == "\(number)"
                }
            }
            try until("the busy file", seconds: 20) { try bytes(ofFile: replica.folder + "/busy").count == 100_000 }
            try mirrored.expectNote("busy: was captured while it was written")
            // A mark takes it as it is.
            try world.catchUp(mirrored.primary, [replica])
            isStopped.store(true, ordering: .relaxed)
            thread.join()
            try mirrored.expectEqual("when the writer has gone")
            try mirrored.expectNoNote("was captured while it was written")
            try mirrored.stop()
        }
    }
}
