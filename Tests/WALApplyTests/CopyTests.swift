import Glibc
import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// Content that comes from other files of the replica, while those change, move and go in the same batch.
@Suite(.hangLimit) struct CopyTests {
    private let primary: PrimaryTree
    private let replica: ReplicaTree
    private let blocks: PrimaryBlocks
    private var random = SeededRandom(seed: 13)
    private let original: [UInt8]

    init() throws {
        primary = try PrimaryTree()
        try primary.start()
        replica = try ReplicaTree(of: primary)
        blocks = PrimaryBlocks(primary)
        original = random.bytes(5 << 20)
        try Files.write(primary.path + "/m", original)
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
    }

    private func path(_ name: String) -> String { primary.path + "/" + name }

    private func expectEqual(_ location: SourceLocation = #_sourceLocation) throws {
        let differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
        #expect(differences == [], sourceLocation: location)
        #expect(try replica.digestIsRight(), sourceLocation: location)
        #expect(try replica.catalog.state().isComplete, sourceLocation: location)
        #expect(replica.quarantine.takeDrift().isEmpty, sourceLocation: location)
        // The patches of the last batch stay until the next one.
        try replica.applier.finish()
        #expect(try Files.list(replica.stagingPath) == [], sourceLocation: location)
    }

    /// Each of these is one segment, or all of them are one batch.
    @Test(arguments: [false, true])
    mutating func sourceMovesChangesAndGoes(isOneBatch: Bool) throws {
        let before = blocks.requests.count
        func step() throws {
            try primary.mark()
            if !isOneBatch { try replica.follow(primary, blocks: blocks) }
        }
        // Copied, moved, and both edited.
        try Files.write(path("copy"), original)
        try Files.rename(path("m"), path("moved"))
        try Files.patch(path("moved"), at: 1_000_000, random.bytes(4096))
        try Files.patch(path("copy"), at: 3_000_000, random.bytes(4096))
        try step()
        // Copied and emptied.
        try Files.write(path("a"), try Files.read(path("copy")))
        try Files.write(path("copy"), "empty")
        try step()
        // Copied with bytes put in, and removed.
        try Files.write(path("b"), [1, 2, 3] + (try Files.read(path("a"))))
        try Files.remove(path("a"))
        try step()
        // From the version that the batch itself has made, twice, and into what it copied from.
        try Files.write(path("c"), (try Files.read(path("b"))) + random.bytes(1000))
        try step()
        try Files.write(path("d"), Array(try Files.read(path("c")).dropFirst(2_000_000)))
        try Files.write(path("b"), Array(try Files.read(path("c")).dropFirst(1_000_000)))
        try step()
        // Renamed over what it was made from.
        try Files.write(path("e"), [7] + (try Files.read(path("moved"))))
        try Files.rename(path("e"), path("moved"))
        try step()
        try replica.follow(primary, blocks: blocks)
        #expect(blocks.requests.count == before)
        try expectEqual()
    }

    /// A backup is put back in part: the file is patched where it stands, as by any other change.
    @Test mutating func aPieceOfAnotherFileIsPatchedIn() throws {
        try Files.write(path("backup"), original)
        try Files.patch(path("m"), at: 2_000_000, random.bytes(4096))
        try primary.mark()
        let first = try Files.status(replica.path + "/m").st_ino
        try replica.follow(primary, blocks: blocks)
        let isPatched = try Files.status(replica.path + "/m").st_ino == first
        let second = try Files.status(replica.path + "/m").st_ino
        // In the same batch the backup goes.
        try Files.patch(path("m"), at: 2_000_000, Array(original[2_000_000..<2_004_096]))
        try Files.remove(path("backup"))
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        let third = try Files.status(replica.path + "/m").st_ino
        #expect(isPatched == (third == second))
        try expectEqual()
    }

    @Test mutating func zerosInAHoleArePatchedIn() throws {
        try Files.write(path("file"), random.bytes(5_000_000))
        try Files.truncate(path("file"), to: 6_000_000)
        try primary.mark()
        try replica.follow(primary)
        let inode = try Files.status(replica.path + "/file").st_ino
        try Files.patch(path("file"), at: 5_500_000, [UInt8](repeating: 0, count: 50_000))
        try primary.mark()
        try replica.follow(primary)
        try expectEqual()
        #expect(try Files.status(replica.path + "/file").st_ino == inode)
        #expect(try Files.status(replica.path + "/file").st_blocks * 512 >= 5_050_000)
    }

    /// The same as with a piece of another file, but somebody edited the backup on the replica.
    @Test mutating func aPieceOfAnEditedFileIsNotPatchedIn() throws {
        try Files.write(path("backup"), original)
        try Files.patch(path("m"), at: 2_000_000, random.bytes(4096))
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        try Files.patch(replica.path + "/backup", at: 2_000_000, random.bytes(4096))
        try Files.patch(path("m"), at: 2_000_000, Array(original[2_000_000..<2_004_096]))
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try Files.read(replica.path + "/m") == original)
    }

    /// What the source lacks its copies lack, also when the source is gone by the end of the batch.
    @Test(arguments: [false, true])
    mutating func sourceLacksBlocks(isRemoved: Bool) throws {
        primary.stop()
        primary.settings.maxInlineBytes = 600_000
        try primary.start()
        let content = random.bytes(3 << 20)
        try Files.write(path("large"), content)
        try primary.mark()
        blocks.answer = { _, number in number % 3 == 1 ? .gone : .serve }
        try replica.follow(primary, blocks: blocks)
        #expect(try replica.catalog.read { try $0.pendingObjects().count } == 1)
        try Files.write(path("second"), [1] + content)
        if isRemoved { try Files.remove(path("large")) }
        try primary.mark()
        blocks.answer = { _, _ in .gone }
        try replica.follow(primary, blocks: blocks)
        #expect(!Files.exists(replica.path + "/second"))
        #expect(try replica.catalog.read { try $0.pendingObjects().count } == (isRemoved ? 1 : 2))
        blocks.answer = { _, _ in .serve }
        #expect(try replica.applier.fetchMissing(from: blocks) == 0)
        try expectEqual()
    }
}
