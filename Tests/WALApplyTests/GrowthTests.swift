import Glibc
import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// A large file that grows by more than a patch holds in memory. What it has already is neither written nor copied again.
@Suite(.hangLimit) struct GrowthTests {
    private static let more = 18 << 20

    private let primary: PrimaryTree
    private let blocks: PrimaryBlocks
    private var random = SeededRandom(seed: 5)
    private let file: String

    init() throws {
        primary = try PrimaryTree()
        primary.settings.maxInlineBytes = 100_000
        try primary.start()
        blocks = PrimaryBlocks(primary)
        file = primary.path + "/file"
        try Files.write(file, random.bytes(24 << 20))
        try Files.write(primary.path + "/other", random.bytes(Self.more))
        try primary.mark()
    }

    private func makeReplica() throws -> ReplicaTree {
        let replica = try ReplicaTree(of: primary)
        try replica.follow(primary, blocks: blocks)
        return replica
    }

    private func expectEqual(_ replica: ReplicaTree, _ comment: Comment? = nil) throws {
        #expect(try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path)) == [], comment)
        #expect(try replica.digestIsRight(), comment)
        #expect(try replica.catalog.state().isComplete, comment)
        #expect(replica.quarantine.takeDrift().isEmpty, comment)
    }

    @Test mutating func whatIsThereStaysWhereItIs() throws {
        let replica = try makeReplica()
        let inode = try Files.status(replica.path + "/file").st_ino
        let before = replica.written.written
        // New at the end, and some of it in the middle.
        try Files.append(file, random.bytes(Self.more))
        try Files.patch(file, at: 11 << 20, random.bytes(300_000))
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        try expectEqual(replica)
        #expect(try Files.status(replica.path + "/file").st_ino == inode)
        let little = 1 << 20
        #expect(replica.written.written - before <= UInt64(Self.more + little))
        #expect(replica.written.copied <= UInt64(Self.more + little))
    }

    /// What another file has comes from there.
    @Test func ofWhatIsKnown() throws {
        let replica = try makeReplica()
        try Files.append(file, Files.read(primary.path + "/other"))
        try primary.mark()
        let asked = blocks.requests.count
        let before = replica.written.written
        try replica.follow(primary, blocks: blocks)
        try expectEqual(replica)
        #expect(blocks.requests.count - asked <= 2)
        #expect(replica.written.written - before < 1 << 20)
        // Aside, and from there in its place.
        #expect(replica.written.copied <= UInt64(2 * Self.more))
    }

    @Test mutating func aTransferThatWasCutGoesOn() throws {
        let replica = try makeReplica()
        try Files.append(file, random.bytes(Self.more))
        try primary.mark()
        let first = blocks.requests.count
        blocks.answer = { _, number in number == first + 100 ? .interrupt : .serve }
        #expect(throws: ApplyError.self) { try replica.follow(primary, blocks: blocks) }
        #expect(try Files.status(replica.path + "/file").st_size == 24 << 20)
        try replica.restart()
        try replica.applier.recover()
        let second = blocks.requests.count
        try replica.follow(primary, blocks: blocks)
        try expectEqual(replica)
        let total = try #require(try primary.changes(after: 1).compactMap(\.fileContent).last).extents
            .filter { if case .fetch = $0 { true } else { false } }.count
        #expect(second - first == 101 && blocks.requests.count - second == total - 100)
    }

    /// It is built anew then, of what is here and what came, and waits.
    @Test mutating func aBlockThatIsGone() throws {
        let replica = try makeReplica()
        try Files.append(file, random.bytes(Self.more))
        try primary.mark()
        let first = blocks.requests.count
        var isGone = true
        blocks.answer = { request, number in isGone && number >= first + 50 && number < first + 60 ? .gone : .serve }
        let lost = blocks.requests.count
        try replica.follow(primary, blocks: blocks)
        if try !replica.catalog.state().isComplete {
            #expect(try Files.status(replica.path + "/file").st_size == 24 << 20)
        }
        isGone = false
        _ = try replica.applier.fetchMissing(from: blocks)
        try expectEqual(replica)
        #expect(blocks.requests.count > lost)
    }

    @Test mutating func crashAtEveryStep() throws {
        try Files.append(file, random.bytes(Self.more))
        try primary.mark()
        try WALApplyTests.crashAtEveryStep(of: primary, blocks: blocks) { try expectEqual($0, $1) }
    }
}
