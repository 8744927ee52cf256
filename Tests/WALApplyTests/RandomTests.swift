import Glibc
import Testing
import WALApply
import WALCapture
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// Capture and apply together: whatever is done to a primary, the replica comes to the same tree.
@Suite(.hangLimit) struct RandomTests {
    private static let base = {
        let random = SeededRandom()
        random.announce("RandomTests")
        return random
    }()

    /// Segments are applied in batches of any size, marks come between any two operations.
    ///
    /// The odd rounds make hard links too. What is written by a name that is new and gone again before anybody looked is
    /// seen at the next scan only, so there a scan may be asked for before the trees must be equal.
    @Test(arguments: 0..<4) func replicaComesToTheSameTree(round: Int) throws {
        let random = SeededRandom(seed: Self.base.seed &+ UInt64(round))
        let primary = try PrimaryTree()
        primary.captureEagerly()
        try primary.start()
        let replica = try ReplicaTree(of: primary)
        var tree = RandomTree(primary.path, outside: primary.outside, random: random, makesLinks: round % 2 == 1)
        for turn in 0..<40 {
            for _ in 0..<tree.random.int(in: 1...25) { tree.step() }
            if tree.random.once(in: 6) { continue }
            try primary.mark()
            if tree.random.once(in: 3) { continue }
            var waiting = primary.sink.segments.filter { $0.header.seq > (try! replica.appliedSeq) }[...]
            while !waiting.isEmpty {
                let count = tree.random.int(in: 1...waiting.count)
                do {
                    // Where the end of a file that was cut short lies in a version that never was on this disk, it is
                    // asked for.
                    try replica.apply(Array(waiting.prefix(count)), blocks: PrimaryBlocks(primary))
                } catch {
                    Issue.record("turn \(turn): \(error); \(Self.base.reproduce); \(tree.history.suffix(60))")
                    throw error
                }
                waiting = waiting.dropFirst(count)
            }
            var differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
            if !differences.isEmpty, round % 2 == 1 {
                primary.mailbox!.rescan()
                try primary.mark()
                try replica.follow(primary, blocks: PrimaryBlocks(primary))
                differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
            }
            #expect(
                differences.isEmpty,
                "turn \(turn): \(differences.prefix(10)); \(Self.base.reproduce); \(tree.history.suffix(60))")
            #expect(try replica.digestIsRight(), "\(Self.base.reproduce)")
            #expect(replica.quarantine.takeDrift().isEmpty, "turn \(turn): nobody else wrote; \(Self.base.reproduce)")
            if !differences.isEmpty { return }
            if tree.random.once(in: 8) {
                try replica.restart()
                try replica.applier.recover()
            }
        }
        #expect(primary.stop() == nil)
    }
}
