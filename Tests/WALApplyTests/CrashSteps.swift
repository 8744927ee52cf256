import Testing
import WALApply
import WALSystem
import WALTreeKit

/// The last segment of a primary is applied by one replica after the other. Each crashes before another of its steps, once
/// more where it recovers from that, and then follows to the end, where it is `expectWhole`.
func crashAtEveryStep(
    of primary: PrimaryTree, blocks: (any BlockSource)? = nil,
    expectWhole: (ReplicaTree, _ comment: Comment) throws -> Void
) throws {
    struct Crash: Error {}
    func makeReplica() throws -> ReplicaTree {
        let replica = try ReplicaTree(of: primary)
        try replica.apply(Array(primary.sink.segments.dropFirst().dropLast()), blocks: blocks)
        return replica
    }
    var steps = 0
    let whole = try makeReplica()
    whole.applier.fault = { steps += 1 }
    try whole.follow(primary, blocks: blocks)
    #expect(steps > 3)
    for step in 1...steps {
        let replica = try makeReplica()
        for _ in 0..<2 {
            var left = step
            replica.applier.fault = {
                left -= 1
                if left == 0 { throw Crash() }
            }
            do {
                try replica.applier.recover()
                try replica.follow(primary, blocks: blocks)
            } catch is Crash {}
            try replica.restart()
        }
        try replica.applier.recover()
        try replica.follow(primary, blocks: blocks)
        try expectWhole(replica, "step \(step)")
        try replica.applier.finish()
        #expect(try Files.list(replica.stagingPath) == [], "step \(step)")
    }
}
