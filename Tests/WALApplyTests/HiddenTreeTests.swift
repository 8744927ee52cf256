import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// A first sync: the tree is built unseen, in pieces, and shown as a whole.
@Suite(.hangLimit) struct HiddenTreeTests {
    private let primary: PrimaryTree
    private let random: SeededRandom

    init() throws {
        primary = try PrimaryTree()
        random = SeededRandom()
        random.announce()
        var tree = RandomTree(primary.path, outside: primary.outside, random: random, makesLinks: true)
        for _ in 0..<250 { tree.step() }
        try primary.start()
    }

    /// The tree as a primary lists it: a directory, then what is in it, content always to be fetched.
    private func listing(piece: Int) throws -> [ChangeSet] {
        var pieces: [ChangeSet] = []
        try primary.catalog.read { transaction in
            var told: Set<ObjectID> = []
            var writer = ChangeWriter()
            func finish() throws {
                let body = writer.body.bytes
                var changes: [Change] = []
                try body.withUnsafeBytes { raw in
                    var reader = ChangeReader(raw, entryCount: writer.entryCount)
                    while let change = try reader.next() { changes.append(change) }
                }
                pieces.append(
                    ChangeSet(
                        changes: changes, body: body, position: transaction.state.position, treeDigest: nil,
                        lastObject: transaction.state.lastObject))
                writer.removeAll()
            }
            writer.list(try transaction.object(.root)!)
            var waiting: [ObjectID] = [.root]
            while let parent = waiting.popLast() {
                for child in try transaction.children(of: parent) {
                    if told.insert(child.object).inserted { writer.list(try transaction.object(child.object)!) }
                    writer.bind(parent: parent, child.name, child.object)
                    if child.kind == .directory { waiting.append(child.object) }
                    if writer.entryCount > UInt32(piece) { try finish() }
                }
            }
            try finish()
        }
        return pieces
    }

    @Test(arguments: [3, 50, 100_000]) func treeIsShownAsAWhole(piece: Int) throws {
        let replica = try ReplicaTree()
        try replica.applier.hide()
        for set in try listing(piece: piece) {
            try replica.applier.applyHidden([set], blocks: PrimaryBlocks(primary))
            #expect(try Files.list(replica.path) == [])
        }
        let state = try primary.catalog.state()
        try replica.applier.show(
            at: try Directory.open(path: replica.path), position: state.position, treeDigest: state.treeDigest,
            lastObject: state.lastObject)
        let differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
        #expect(differences.isEmpty, "\(differences.prefix(5)); \(random.reproduce)")
        #expect(try replica.digestIsRight())
        #expect(try Files.list(replica.stagingPath) == [])
        // And it goes on from there.
        try Files.write(primary.path + "/after", "after")
        try primary.mark()
        try replica.follow(primary)
        #expect(try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path)) == [])
    }

    /// A file that is gone on the way waits, and the rest is shown.
    @Test func whatWasGoneIsFetchedLater() throws {
        try Files.write(primary.path + "/wanted", [UInt8](repeating: 7, count: 100_000))
        try primary.mark()
        let wanted = try primary.catalog.read { try $0.resolve([Name("wanted")]) }
        let replica = try ReplicaTree()
        try replica.applier.hide()
        let blocks = PrimaryBlocks(primary)
        blocks.answer = { request, _ in request.object == wanted ? .gone : .serve }
        for set in try listing(piece: 50) { try replica.applier.applyHidden([set], blocks: blocks) }
        let state = try primary.catalog.state()
        try replica.applier.show(
            at: try Directory.open(path: replica.path), position: state.position, treeDigest: state.treeDigest,
            lastObject: state.lastObject)
        #expect(!Files.exists(replica.path + "/wanted"))
        #expect(try !replica.catalog.state().isComplete)
        blocks.answer = { _, _ in .serve }
        #expect(try replica.applier.fetchMissing(from: blocks) == 0)
        #expect(try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path)) == [])
    }
}
