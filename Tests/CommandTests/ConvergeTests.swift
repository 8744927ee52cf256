import Foundation
import Testing
import WALTestKit
import WALTreeKit

/// Random work on a primary with two replicas, all of which are killed and started again meanwhile, comes to three equal
/// trees. For as long as one likes with `Tests/converge`.
@Suite(.timeLimit(.minutes(1440))) struct ConvergeTests {
    private static let secondsVariable = "WALSHIP_CONVERGE_SECONDS"
    /// Work between two comparisons, in operations: so many a failure has to be looked for in.
    private static let operationsPerRound = 400

    @Test func threeTreesBecomeEqual() throws {
        let seconds = ProcessInfo.processInfo.environment[Self.secondsVariable].flatMap { Double($0) } ?? 10
        var random = SeededRandom()
        random.announce()
        let replay = "Tests/converge --seconds \(Int(seconds)) --seed \(random.seed)"
        try withWorld { world in
            let source = try world.folder("source")
            var tree = RandomTree(
                source, outside: try world.folder("outside"), random: SeededRandom(seed: random.next()),
                makesLinks: true)
            for _ in 0..<100 { tree.step() }
            let port = try freePort()
            // Writes through a mapping raise no event.
            let primary = try world.primary(source, port: port, "--devices", "--scan-interval", "3s")
            let replicas = try ["one", "two"].map { try world.replica($0, from: port) }
            let end = Date(timeIntervalSinceNow: seconds)
            var rounds = 0
            repeat {
                rounds += 1
                try work(&tree, &random, primary, replicas, until: end)
                try expectEqual(world, primary, port, replicas, tree, "round \(rounds); replay with \(replay)")
            } while Date() < end
            for node in [primary] + replicas { try node.stop() }
        }
    }

    private func work(
        _ tree: inout RandomTree, _ random: inout SeededRandom, _ primary: Node, _ replicas: [Node], until end: Date
    ) throws {
        for _ in 0..<Self.operationsPerRound where Date() < end {
            tree.step()
            guard random.once(in: 60) else { continue }
            let node = ([primary] + replicas).randomElement(using: &random)!
            if random.once(in: 2) {
                try node.crash()
            } else {
                try node.stop()
            }
            for _ in 0..<random.int(in: 0..<20) { tree.step() }
            try node.restart()
        }
    }

    private func expectEqual(
        _ world: World, _ primary: Node, _ port: Int, _ replicas: [Node], _ tree: RandomTree, _ comment: String
    ) throws {
        // What was written through a mapping is found by the scan at a start.
        try primary.stop()
        try primary.restart()
        try world.catchUp(primary, replicas)
        for replica in replicas {
            let differences = try Oracle.differences(primary.folder, replica.folder) { $0.hasNamesOutside = true }
            guard differences.isEmpty else {
                throw Failed(
                    "\(replica.folder) is not equal in \(comment)\n\(differences.prefix(20).joined(separator: "\n"))\n"
                        + "last operations:\n\(tree.history.suffix(40).joined(separator: "\n"))")
            }
            let verify = try world.run("walctl", "verify", "--deep", replica.folder, "--against", "127.0.0.1:\(port)")
            #expect(verify.status == 0, "\(verify) \(comment)")
        }
    }
}
