import WALLog
import WALTestKit

/// What a run is like: drawn once, so that in some runs a kind of fault is frequent, and in others it is absent.
struct Options {
    var nodeCount: Int
    var syncReplicas: Int
    var seconds: Int
    var slowestMilliseconds: Int
    var slowestSyncMilliseconds: Int
    var slowestApplyMilliseconds: Int
    var slowestWriteMilliseconds: Int
    var pieceBytes: Int
    var retention: Retention
    /// Between two of a kind, on average; a kind that is not named does not come.
    var pauses: [(fault: Fault, milliseconds: Int)]
    /// Promotions end at any of their steps once in so many.
    var operatorDiesOnceIn: Int?
    /// Replicas come one after the other.
    var joinsLate: Bool
    /// At the end the primary and as many replicas as may be lost go for good.
    var losesSome: Bool

    enum Fault: CaseIterable {
        case partition, cut, kill, powerCut, powerCutInSync, promotion, rejoin, switchover
    }

    init(_ random: inout SeededRandom) {
        nodeCount = random.int(in: 3...5)
        syncReplicas = random.int(in: 0...nodeCount - 2)
        seconds = random.int(in: 20...60)
        slowestMilliseconds = [1, 10, 100, 400].randomElement(using: &random)!
        slowestSyncMilliseconds = [1, 20, 200].randomElement(using: &random)!
        slowestApplyMilliseconds = [1, 50, 500].randomElement(using: &random)!
        slowestWriteMilliseconds = [100, 500, 2000].randomElement(using: &random)!
        pieceBytes = [60, 300, 4000].randomElement(using: &random)!
        let budget: UInt64 = [4_000, 20_000, 1 << 30].randomElement(using: &random)!
        retention = Retention(budgetBytes: budget, keepSeconds: random.once(in: 2) ? 0 : 20)
        pauses = []
        for fault in Fault.allCases where fault == .promotion || !random.once(in: 3) {
            pauses.append((fault, [2_000, 5_000, 15_000].randomElement(using: &random)!))
        }
        operatorDiesOnceIn = [nil, 4, 15].randomElement(using: &random)!
        joinsLate = random.once(in: 2)
        losesSome = random.once(in: 2)
    }
}
