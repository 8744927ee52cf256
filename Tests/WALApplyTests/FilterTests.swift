import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// A filter that changes on the way from a primary to a replica.
@Suite(.hangLimit) struct FilterTests {
    private static let filters = [
        [], ["- n1*", "- *3*/"], ["+ /n2*/", "- */n2*", "- /n[3-5]*/**/m*", "- n[6-8]/"], ["- */"], ["- /*"],
        ["- /m*/**/n*", "- n[0-5]/*[02468]", "+ /n?/n*", "- /n*/n*"],
    ].map { try! Filter(lines: $0) }

    private func differences(_ replica: ReplicaTree) throws -> [String] {
        try replica.catalog.read { transaction in
            try TreeCheck(isDeep: true, ignoresSpecial: false, progress: CaptureProgress())
                .run(transaction, root: try Directory.open(path: replica.path)).differences.map(\.path)
        }
    }

    /// Whatever the filter was, the replica holds what it is now, and the same digest says so.
    @Test(arguments: 0..<3) func replicaFollowsEveryFilter(round: Int) throws {
        let random = SeededRandom()
        random.announce("FilterTests")
        let primary = try PrimaryTree()
        primary.settings.acceptsDeletions = true
        try primary.start()
        let replica = try ReplicaTree(of: primary)
        var tree = RandomTree(primary.path, outside: primary.outside, random: random, makesLinks: false)
        for turn in 0..<16 {
            for _ in 0..<25 { tree.step() }
            try primary.mark()
            if tree.random.once(in: 3) { continue }
            try replica.follow(primary, blocks: PrimaryBlocks(primary))
            #expect(try differences(replica) == [], "turn \(turn) \(random.reproduce)")
            #expect(try replica.digestIsRight(), "turn \(turn) \(random.reproduce)")
            let filters = try [primary.catalog, replica.catalog].map { try $0.read { try $0.filter() } }
            #expect(filters[0] == filters[1] && filters[0] == (primary.settings.filter ?? .none))
            #expect(
                try primary.catalog.state().treeDigest == replica.catalog.state().treeDigest,
                "turn \(turn) \(random.reproduce)")
            #expect(replica.quarantine.takeDrift().isEmpty, "nobody else wrote; \(random.reproduce)")
            #expect(primary.stop() == nil)
            for _ in 0..<10 { tree.step() }
            primary.settings.filter = Self.filters[tree.random.int(in: 0..<Self.filters.count)]
            try primary.start()
        }
        #expect(primary.stop() == nil)
    }

    /// A primary whose catalog fell behind its log learns the filter from there.
    @Test func replayKnowsTheFilter() throws {
        let primary = try PrimaryTree()
        try Files.write(primary.path + "/a", "a")
        try Files.write(primary.path + "/b", "b")
        try primary.start()
        primary.stop()
        let other = try Catalog(path: primary.outside + "/copy.sqlite")
        defer { try? other.close() }
        try other.write { copy in
            try primary.catalog.read { catalog in
                try catalog.forEachObject { try copy.insert($0) }
                try catalog.forEachName { try copy.bind($0, to: $1) }
                copy.state = catalog.state
            }
        }
        primary.settings.filter = try Filter(lines: ["- a"])
        try primary.start()
        primary.stop()
        for segment in primary.sink.segments.dropFirst() {
            try other.write { try Replay.apply(try ChangeSet(segment), to: $0) }
        }
        #expect(try other.read { try $0.filter() }.lines == ["- a"])
        #expect(try other.state().treeDigest == primary.catalog.state().treeDigest)
        #expect(try other.read { try $0.recomputedDigest() } == primary.catalog.state().treeDigest)
    }
}
