import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// A primary whose catalog fell behind its log goes on as if it had not.
@Suite(.hangLimit) struct ReplayTests {
    /// The times of what was replayed say nothing of what was written after it was captured.
    @Test func aWriteWhoseTimeIsSetBackIsSeen() throws {
        let primary = try PrimaryTree()
        let file = primary.path + "/file"
        try Files.write(file, "first")
        try primary.start()
        primary.stop()
        try primary.reopenCatalog { try copy(primary.catalogPath, primary.catalogPath + ".old") }
        let seq = primary.sink.end.seq
        try primary.start()
        try Files.write(file, "other")
        try Files.setTime(file, 7, 7)
        try primary.mark()
        primary.stop()
        try primary.reopenCatalog { try copy(primary.catalogPath + ".old", primary.catalogPath) }
        try Files.write(file, "third")
        try Files.setTime(file, 7, 7)
        try primary.catalog.write { transaction in
            for segment in primary.sink.segments where segment.header.seq > seq {
                try Replay.apply(try ChangeSet(segment), to: transaction)
            }
        }
        try primary.start()
        try primary.mark()
        #expect(try primary.check().map(\.path) == [])
    }

    @Test(arguments: 0..<2) func catalogBehindTheLog(round: Int) throws {
        var random = SeededRandom()
        random.announce()
        random = SeededRandom(seed: random.seed &+ UInt64(round))
        let primary = try PrimaryTree()
        primary.captureEagerly()
        try primary.start()
        let replica = try ReplicaTree(of: primary)
        var tree = RandomTree(primary.path, outside: primary.outside, random: random, makesLinks: false)
        for _ in 0..<100 { tree.step() }
        try primary.mark()
        primary.stop()
        // The catalog as of now, while the log goes on.
        let seq = primary.sink.end.seq
        try primary.reopenCatalog { try copy(primary.catalogPath, primary.catalogPath + ".old") }
        try primary.start()
        for _ in 0..<10 {
            for _ in 0..<10 { tree.step() }
            try primary.mark()
        }
        primary.stop()
        try primary.reopenCatalog {
            try copy(primary.catalogPath + ".old", primary.catalogPath)
        }
        #expect(try primary.catalog.state().position.seq == seq)
        for _ in 0..<20 { tree.step() }

        try primary.catalog.write { transaction in
            for segment in primary.sink.segments where segment.header.seq > seq {
                try Replay.apply(try ChangeSet(segment), to: transaction)
            }
        }
        #expect(try primary.catalog.state().position == primary.sink.end)
        #expect(try primary.catalog.read { try $0.isIndexRight() }, "\(random.reproduce)")
        let end = primary.sink.end.seq
        try primary.start()
        try primary.mark()
        #expect(try primary.check().map(\.path) == [], "\(random.reproduce)")
        #expect(try primary.catalog.read { try $0.isIndexRight() }, "\(random.reproduce)")
        let made = try primary.changes(after: end).compactMap {
            if case .put(let object, _, _) = $0 { object } else { nil }
        }
        #expect(Set(made).count == made.count, "\(random.reproduce)")
        try replica.follow(primary, blocks: PrimaryBlocks(primary))
        let differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
        #expect(differences.isEmpty, "\(differences.prefix(5)); \(random.reproduce)")
        #expect(try replica.digestIsRight())
    }

    /// Between replay and scan nothing is known to have changed, so an unchanged tree says nothing.
    @Test func replayOfAnUnchangedTreeEmitsNothing() throws {
        let primary = try PrimaryTree()
        try primary.start()
        primary.stop()
        try primary.reopenCatalog { try copy(primary.catalogPath, primary.catalogPath + ".old") }
        try primary.start()
        try Files.makeDirectory(primary.path + "/folder")
        for index in 0..<20 { try Files.write(primary.path + "/folder/f\(index)", "\(index)") }
        try primary.mark()
        primary.stop()
        let end = primary.sink.end
        try primary.reopenCatalog {
            try copy(primary.catalogPath + ".old", primary.catalogPath)
        }
        try primary.catalog.write { transaction in
            for segment in primary.sink.segments.dropFirst() {
                try Replay.apply(try ChangeSet(segment), to: transaction)
            }
        }
        try primary.start()
        try primary.mark()
        #expect(primary.sink.end == end)
    }

    /// A closed catalog.
    private func copy(_ path: String, _ new: String) throws {
        for suffix in ["", "-wal", "-shm"] {
            try? Files.remove(new + suffix)
            if Files.exists(path + suffix) { try Files.write(new + suffix, try Files.read(path + suffix)) }
        }
    }
}
