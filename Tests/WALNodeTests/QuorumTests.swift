import Testing
import WALNode

/// Of all groups of a few replicas: sets of the sizes that are asked for have a replica in common wherever they must.
@Suite struct QuorumTests {
    private static let groups = (1...6).flatMap { replicas in (0...replicas + 1).map { (replicas, $0) } }

    private static func sets(of count: Int, among replicas: Int) -> [UInt32] {
        (0..<(UInt32(1) << replicas)).filter { $0.nonzeroBitCount == count }
    }

    private static func meet(_ one: Int, _ other: Int, among replicas: Int) -> Bool {
        sets(of: one, among: replicas).allSatisfy { left in
            sets(of: other, among: replicas).allSatisfy { left & $0 != 0 }
        }
    }

    @Test(arguments: groups) func setsMeet(replicas: Int, needed: Int) {
        let quorum = Quorum(replicas: replicas, needed: needed)
        let acknowledged = quorum.acknowledgements
        #expect((1...replicas).contains(quorum.promises) && (1...replicas).contains(quorum.plannedPromises))
        // One of those who promise has what was acknowledged.
        #expect(Self.meet(quorum.promises, acknowledged, among: replicas))
        // Nobody else can be promoted at the same time, by promises for the same number.
        #expect(Self.meet(quorum.promises, quorum.promises, among: replicas))
        #expect(Self.meet(quorum.plannedPromises, quorum.promises, among: replicas))
        // One of those who promise knows of the change.
        #expect(Self.meet(quorum.notes, replicas - acknowledged + 1, among: replicas))
        // Not more than that.
        #expect(quorum.promises <= replicas / 2 + 1 || !Self.meet(quorum.promises - 1, acknowledged, among: replicas))
    }

    /// Replicas come one at a time. Somebody may know the group without the last of them, and somebody the group with it.
    @Test(arguments: groups) func groupsThatDifferByOne(replicas: Int, needed: Int) {
        for more in 0...replicas + 1 {
            let one = Quorum(replicas: replicas, needed: needed).promises
            let other = Quorum(replicas: replicas + 1, needed: more).promises
            let haveMet = Self.sets(of: one, among: replicas).allSatisfy { left in
                Self.sets(of: other, among: replicas + 1).allSatisfy { left & $0 != 0 }
            }
            #expect(haveMet, "\(needed) and \(more)")
        }
    }

    @Test func aGroupOfNobody() {
        let quorum = Quorum(replicas: 0, needed: 2)
        #expect(quorum.acknowledgements == 0 && quorum.notes == 0)
    }
}
