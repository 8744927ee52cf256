import Glibc
import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// A file that was cut short ends in a block that the primary does not send, for the replica holds it as the first bytes
/// of a longer one.
@Suite(.hangLimit) struct CutTests {
    private let primary: PrimaryTree
    private let replica: ReplicaTree
    private let blocks: PrimaryBlocks
    private var random = SeededRandom(seed: 3)
    private let file: String
    private let copy: String

    init() throws {
        primary = try PrimaryTree()
        try primary.start()
        replica = try ReplicaTree(of: primary)
        blocks = PrimaryBlocks(primary)
        file = primary.path + "/file"
        copy = replica.path + "/file"
        try Files.write(file, random.bytes(12 << 20))
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
    }

    private func expectEqual(drift: [String] = [], _ location: SourceLocation = #_sourceLocation) throws {
        let differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
        #expect(differences == [], sourceLocation: location)
        #expect(try replica.digestIsRight(), sourceLocation: location)
        #expect(try replica.catalog.state().isComplete, sourceLocation: location)
        #expect(replica.quarantine.takeDrift().map(\.path) == drift, sourceLocation: location)
    }

    private func cut(to size: Int) throws {
        let seq = primary.sink.end.seq
        try Files.truncate(file, to: size)
        try primary.mark()
        let content = try #require(try primary.changes(after: seq).compactMap(\.fileContent).first)
        guard case .fetch? = content.extents.last else {
            Issue.record("nothing is left to be fetched: \(content.extents.suffix(2))")
            return
        }
    }

    /// Where it stands; then a shorter one, which is written anew but not from anywhere else.
    @Test func nothingIsAskedForAndNothingWritten() throws {
        let inode = try Files.status(copy).st_ino
        let before = replica.written.written
        try cut(to: 5_000_000)
        try replica.follow(primary, blocks: blocks)
        #expect(try Files.status(copy).st_ino == inode)
        try expectEqual()
        for size in [3_000_000, 1_200_000, 420_000] {
            try cut(to: size)
            try replica.follow(primary)
            try expectEqual()
        }
        #expect(blocks.requests.isEmpty)
        #expect(replica.written.written - before < 1000)
    }

    @Test mutating func whatWasWrittenBeforeTheCutIsAskedFor() throws {
        try Files.patch(file, at: 7_000_000 - 100, random.bytes(50))
        try cut(to: 7_000_000)
        try replica.follow(primary, blocks: blocks)
        #expect(blocks.requests.count == 1)
        try expectEqual()
    }

    /// One after the other, and then as a replica finds them that was away.
    @Test(arguments: [false, true]) mutating func severalInOneBatch(isNew: Bool) throws {
        try cut(to: 9_000_000)
        try Files.patch(file, at: 8_990_000, random.bytes(100))
        try primary.mark()
        try cut(to: 8_995_000)
        try Files.append(file, random.bytes(100_000))
        try primary.mark()
        try cut(to: 1_500_000)
        guard isNew else {
            try replica.follow(primary, blocks: blocks)
            try expectEqual()
            return
        }
        let other = try ReplicaTree(of: primary)
        try other.follow(primary, blocks: blocks)
        #expect(try TreeSnapshot(primary.path).differences(from: TreeSnapshot(other.path)) == [])
    }

    @Test func editedReplicaDoesNotCount() throws {
        try Files.patch(copy, at: 6_000_000, [1, 2, 3])
        try cut(to: 6_500_000)
        try replica.follow(primary, blocks: blocks)
        #expect(blocks.requests.count > 1)
        try expectEqual(drift: ["file"])
    }

    /// The block is in the version that is on disk until the batch is committed, and in both behind that. Nobody is there to
    /// be asked.
    @Test(arguments: [5_000_000, 2_000_000]) func crashAtEveryStep(size: Int) throws {
        try cut(to: size)
        try WALApplyTests.crashAtEveryStep(of: primary) { replica, comment in
            let differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
            #expect(differences == [], comment)
            #expect(replica.quarantine.takeDrift().isEmpty, comment)
        }
    }

    /// A version that was never on this disk says nothing of what is.
    @Test mutating func holesOfAVersionThatWasPassedOver() throws {
        try Files.truncate(file, to: 0)
        try Files.truncate(file, to: 12 << 20)
        try primary.mark()
        try Files.patch(file, at: 11 << 20, random.bytes(100_000))
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        try expectEqual()
    }
}
