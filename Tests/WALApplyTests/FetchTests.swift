import Glibc
import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// Content that is not in the log: fetched, gone, interrupted, and brought by a later segment.
@Suite(.hangLimit) struct FetchTests {
    private let primary: PrimaryTree
    private let replica: ReplicaTree
    private let blocks: PrimaryBlocks
    private var random = SeededRandom(seed: 7)

    init() throws {
        primary = try PrimaryTree()
        primary.settings.maxInlineBytes = 100_000
        try primary.start()
        replica = try ReplicaTree(of: primary)
        blocks = PrimaryBlocks(primary)
    }

    private func expectEqual(_ location: SourceLocation = #_sourceLocation) throws {
        let differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
        #expect(differences == [], sourceLocation: location)
        #expect(try replica.digestIsRight(), sourceLocation: location)
        #expect(try replica.catalog.state().isComplete, sourceLocation: location)
        #expect(try Files.list(replica.stagingPath) == [], sourceLocation: location)
        #expect(replica.quarantine.takeDrift().isEmpty, sourceLocation: location)
    }

    @Test mutating func largeFileIsFetched() throws {
        try Files.write(primary.path + "/large", random.bytes(1_000_000))
        try primary.mark()
        let content = try #require(try primary.changes(after: 1).lazy.compactMap(\.fileContent).first)
        #expect(content.extents.allSatisfy { if case .fetch = $0 { true } else { false } })
        try replica.follow(primary, blocks: blocks)
        #expect(blocks.requests.count == content.extents.count)
        try expectEqual()
    }

    @Test mutating func withoutAnybodyToAskNothingIsApplied() throws {
        try Files.write(primary.path + "/large", random.bytes(1_000_000))
        try Files.write(primary.path + "/small", "small")
        try primary.mark()
        #expect(throws: ApplyError.self) { try replica.follow(primary) }
        #expect(try replica.appliedSeq == 1)
        #expect(!Files.exists(replica.path + "/small"))
        try replica.follow(primary, blocks: blocks)
        try expectEqual()
    }

    @Test mutating func whatLacksBlocksShowsTheVersionBefore() throws {
        try Files.write(primary.path + "/file", "version 1")
        try Files.write(primary.path + "/other", "version 1")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        try Files.write(primary.path + "/file", random.bytes(1_000_000))
        try Files.write(primary.path + "/other", "version 2")
        try primary.mark()
        blocks.answer = { _, number in number == 3 ? .gone : .serve }
        try replica.follow(primary, blocks: blocks)
        #expect(try Files.read(replica.path + "/file") == Array("version 1".utf8))
        #expect(try Files.read(replica.path + "/other") == Array("version 2".utf8))
        #expect(try !replica.catalog.state().isComplete)
        #expect(try replica.catalog.read { try $0.pendingObjects().count } == 1)
        #expect(try replica.digestIsRight())

        // It outlives a restart, and a later segment that changes a part of the file brings the rest.
        try replica.restart()
        try replica.applier.recover()
        #expect(try Files.read(replica.path + "/file") == Array("version 1".utf8))
        try Files.patch(primary.path + "/file", at: 500_000, random.bytes(100))
        try primary.mark()
        blocks.answer = { _, _ in .serve }
        let asked = blocks.requests.count
        try replica.follow(primary, blocks: blocks)
        // The block that was gone, at most; what was fetched before is not asked for again.
        #expect(blocks.requests.count - asked <= 1)
        try expectEqual()
    }

    @Test mutating func whatWasGoneIsAskedForAgain() throws {
        try Files.write(primary.path + "/file", random.bytes(1_000_000))
        try primary.mark()
        blocks.answer = { _, number in number % 2 == 0 ? .gone : .serve }
        try replica.follow(primary, blocks: blocks)
        #expect(!Files.exists(replica.path + "/file"))
        let lacking = try replica.catalog.read { try $0.missingBlocks(of: $0.pendingObjects()[0]).count }
        blocks.answer = { _, _ in .serve }
        let asked = blocks.requests.count
        #expect(try replica.applier.fetchMissing(from: blocks) == 0)
        #expect(blocks.requests.count - asked == lacking)
        try expectEqual()
    }

    @Test mutating func pendingFileIsRenamedLinkedAndRemoved() throws {
        try Files.makeDirectory(primary.path + "/folder")
        for name in ["a", "b", "folder/c", "d"] { try Files.write(primary.path + "/" + name, "version 1 of " + name) }
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        for name in ["a", "b", "folder/c", "d"] { try Files.write(primary.path + "/" + name, random.bytes(300_000)) }
        try primary.mark()
        blocks.answer = { _, _ in .gone }
        try replica.follow(primary, blocks: blocks)
        #expect(try replica.catalog.read { try $0.pendingObjects().count } == 4)
        try Files.rename(primary.path + "/a", primary.path + "/e")
        try Files.link(primary.path + "/b", primary.path + "/link")
        try Files.removeTree(primary.path + "/folder")
        try Files.remove(primary.path + "/d")
        try Files.makeDirectory(primary.path + "/d")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try Files.list(replica.path) == ["b", "d"])
        #expect(try Files.read(replica.path + "/b") == Array("version 1 of b".utf8))
        #expect(replica.quarantine.takeDrift().isEmpty)
        blocks.answer = { _, _ in .serve }
        #expect(try replica.applier.fetchMissing(from: blocks) == 0)
        try expectEqual()
    }

    @Test mutating func brokenTransferGoesOnWhereItWas() throws {
        try Files.makeDirectory(primary.path + "/new")
        try Files.write(primary.path + "/new/large", random.bytes(2_000_000))
        try Files.write(primary.path + "/small", "small")
        try primary.mark()
        let all = try #require(try primary.changes(after: 1).lazy.compactMap(\.fileContent).first { $0.size > 10 })
        blocks.answer = { _, number in number == 12 ? .interrupt : .serve }
        #expect(throws: ApplyError.self) { try replica.follow(primary, blocks: blocks) }
        #expect(try replica.appliedSeq == 1)
        #expect(try Files.list(replica.path) == [])
        // Also when the process has gone in between.
        try replica.restart()
        try replica.applier.recover()
        let second = PrimaryBlocks(primary)
        try replica.follow(primary, blocks: second)
        #expect(second.requests.count == all.extents.count - 12)
        try expectEqual()
    }

    /// A transfer that was cut left a file of the full size, whose rest is a hole that reads as zeros.
    @Test mutating func zerosThatAreDataDoNotBecomeAHole() throws {
        let content = random.bytes(300_000) + [UInt8](repeating: 0, count: 600_000)
        try Files.write(primary.path + "/file", content)
        try primary.mark()
        blocks.answer = { _, number in number == 1 ? .interrupt : .serve }
        #expect(throws: ApplyError.self) { try replica.follow(primary, blocks: blocks) }
        blocks.answer = { _, _ in .serve }
        try replica.follow(primary, blocks: blocks)
        try expectEqual()
        #expect(try Files.status(replica.path + "/file").st_blocks * 512 >= content.count)
    }

    /// A file that depends on what is pending is pending itself, and whole again with it.
    @Test mutating func copyOfWhatIsPendingWaitsToo() throws {
        let content = random.bytes(400_000)
        try Files.write(primary.path + "/one", content)
        try primary.mark()
        try Files.write(primary.path + "/two", content)
        try primary.mark()
        #expect(try primary.changes(after: 2).compactMap(\.fileContent).first?.extents.count == 1)
        blocks.answer = { _, _ in .gone }
        try replica.follow(primary, blocks: blocks)
        #expect(try replica.catalog.read { try $0.pendingObjects().count } == 2)
        blocks.answer = { _, _ in .serve }
        #expect(try replica.applier.fetchMissing(from: blocks) == 0)
        try expectEqual()
    }

    /// Random work with a source that fails in every way.
    @Test(arguments: 0..<2) func replicaComesToTheSameTreeOverABadSource(round: Int) throws {
        var random = SeededRandom()
        random.announce()
        random = SeededRandom(seed: random.seed &+ UInt64(round))
        primary.stop()
        primary.settings.maxInlineBytes = 10_000
        primary.captureEagerly()
        try primary.start()
        var tree = RandomTree(primary.path, outside: primary.outside, random: random, makesLinks: false)
        for turn in 0..<40 {
            for _ in 0..<tree.random.int(in: 1...15) { tree.step() }
            try primary.mark()
            var tries = 0
            blocks.answer = { _, _ in
                switch tree.random.int(in: 0..<200) {
                case 0..<20: .gone
                case 20: .interrupt
                default: .serve
                }
            }
            let seq = try replica.appliedSeq
            var waiting = primary.sink.segments.filter { $0.header.seq > seq }[...]
            while !waiting.isEmpty {
                let count = tree.random.int(in: 1...waiting.count)
                do {
                    try replica.apply(Array(waiting.prefix(count)), blocks: blocks)
                    waiting = waiting.dropFirst(count)
                } catch ApplyError.interrupted {
                    tries += 1
                    guard tries < 100 else { throw ApplyError.interrupted }
                    if tree.random.once(in: 3) {
                        try replica.restart()
                        try replica.applier.recover()
                    }
                }
            }
            #expect(replica.quarantine.takeDrift().isEmpty, "turn \(turn); \(random.reproduce)")
            #expect(try replica.digestIsRight(), "turn \(turn); \(random.reproduce)")
            guard tree.random.once(in: 3) else { continue }
            blocks.answer = { _, _ in .serve }
            #expect(try replica.applier.fetchMissing(from: blocks) == 0, "turn \(turn); \(random.reproduce)")
            let differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
            #expect(
                differences.isEmpty,
                "turn \(turn): \(differences.prefix(5)); \(random.reproduce); \(tree.history.suffix(50))")
            if !differences.isEmpty { return }
        }
    }
}

extension Change {
    var fileContent: FileContent? {
        if case .put(_, _, .file(let content)) = self { content } else { nil }
    }
}
