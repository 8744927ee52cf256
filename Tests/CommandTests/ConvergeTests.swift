import Foundation
import Glibc
import Testing
import WALTestKit
import WALTreeKit

/// Random work on a primary with two replicas, all of which are killed and started again meanwhile, comes to three equal
/// trees. For as long as one likes with `Tests/converge`.
@Suite(.longLimit) struct ConvergeTests {
    /// How a round ends: what may help the primary to see its own tree before it is compared with the others.
    private enum Ending {
        /// Scans at their interval. They find what no event told of.
        case scans
        /// Nothing but events, so nothing is written without one.
        case events
        /// A start. It would hide what the primary has missed, so most rounds end otherwise.
        case start

        /// A test of one round is to see them all in time.
        init(round: Int, seed: UInt64) {
            self = [.start, .scans, .events, .scans][(round + Int(seed % 4)) % 4]
        }
    }

    /// Work between two comparisons, in operations: so many a failure has to be looked for in.
    private static let operationsPerRound = 400
    /// Until the replicas must be equal. Several scans.
    private static let seconds = 60.0

    private struct Settings {
        var rounds: Int?
        var seconds: Double
        var keep: String?

        init() {
            let variables = ProcessInfo.processInfo.environment
            rounds = variables["WALSHIP_CONVERGE_ROUNDS"].flatMap { Int($0) }
            seconds = variables["WALSHIP_CONVERGE_SECONDS"].flatMap { Double($0) } ?? 1
            keep = variables["WALSHIP_CONVERGE_KEEP"]
        }
    }

    @Test func threeTreesBecomeEqual() throws {
        let settings = Settings()
        var random = SeededRandom()
        random.announce()
        try withWorld { world in
            let source = try world.folder("source")
            // Whoever writes to a file by a name that is gone before anybody looked, while another name of it stays, is
            // heard of at the next scan only. Without links, events tell of everything.
            let makesLinks = !random.once(in: 3)
            var tree = RandomTree(
                source, outside: try world.folder("outside"), random: SeededRandom(seed: random.next()),
                makesLinks: makesLinks)
            for _ in 0..<100 { tree.step() }
            let port = try freePort()
            let primary = try world.primary(
                source, port: port, "--devices", "--scan-interval", "3s", "--max-delete", "100%")
            let replicas = try ["one", "two"].map { try world.replica($0, from: port) }
            let end = Date(timeIntervalSinceNow: settings.seconds)
            var round = 0
            do {
                repeat {
                    round += 1
                    let ending = Ending(round: round, seed: random.seed)
                    // Whole rounds: where the clock has no part in what is done, the seed alone says what that is.
                    tree.makesSilentWrites = ending != .events
                    try work(&tree, &random, primary, replicas)
                    try tree.clearOutside()
                    if ending == .start {
                        try primary.stop()
                        try primary.restart()
                    }
                    let isStrict = ending == .start || (ending == .events && !makesLinks)
                    try world.waitUntilEqual(primary, port: port, replicas, seconds: isStrict ? 0 : Self.seconds)
                    guard ending == .scans else { continue }
                    // Pages that were written to before, and read since.
                    tree.writeMappings()
                    try world.waitUntilEqual(primary, port: port, replicas, seconds: Self.seconds)
                } while settings.rounds.map { round < $0 } ?? (Date() < end)
            } catch {
                for node in [primary] + replicas { try? node.crash() }
                let kept = try settings.keep.map { try keep(world, in: "\($0)/\(random.seed)", tree) }
                throw Failed(
                    "round \(round), which ended with \(Ending(round: round, seed: random.seed)): \(error)\nlast operations:\n"
                        + tree.history.suffix(40).joined(separator: "\n")
                        + "\n" + (kept.map { "kept in \($0); " } ?? "")
                        + "replay with Tests/converge --rounds \(round) --seed \(random.seed)")
            }
            for node in [primary] + replicas { try node.stop() }
            // The script looks for this.
            print("converge: \(round) rounds, \(tree.history.count) operations, seed \(random.seed): equal")
        }
    }

    private func work(
        _ tree: inout RandomTree, _ random: inout SeededRandom, _ primary: Node, _ replicas: [Node]
    ) throws {
        for _ in 0..<Self.operationsPerRound {
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

    /// The trees with their states and all that the nodes have said.
    private func keep(_ world: World, in folder: String, _ tree: RandomTree) throws -> String {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try world.must("cp", "-a", world.path + "/source", world.path + "/one", world.path + "/two", folder)
        try world.must("cp", "-a", world.path + "/output", folder)
        try tree.history.joined(separator: "\n").write(
            toFile: folder + "/operations", atomically: false, encoding: .utf8)
        return folder
    }
}
