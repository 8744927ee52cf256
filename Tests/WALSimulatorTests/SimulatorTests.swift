import Foundation
import Testing
import WALTestKit

/// Groups of nodes under faults of every kind; a few hundred runs here, any number with `Tests/simulate`.
///
/// A run that fails names its seed. `WALSHIP_SEED` alone runs that one and tells what happens in it.
@Suite(.serialized, .longLimit) struct SimulatorTests {
    private static let variables = ProcessInfo.processInfo.environment
    private static let seed = variables[SeededRandom.variable].flatMap { UInt64($0) }
    private static let count = variables["WALSHIP_SIMULATIONS"].flatMap { Int($0) }
    /// In so many runs a mutation must be caught.
    private static let mutationSeeds = variables["WALSHIP_MUTATION_SEEDS"].flatMap { Int($0) } ?? 3000
    /// Where to begin with that.
    private static let mutationSeed = variables["WALSHIP_MUTATION_SEED"].flatMap { UInt64($0) }

    /// Those that are soon caught, or the one that is named.
    private static let mutations = Mutation.allCases.filter { mutation in
        variables["WALSHIP_MUTATION"].map { $0 == mutation.rawValue } ?? (mutation.firstSeed != nil)
    }

    private func withFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
        let base = FileManager.default.isWritableFile(atPath: "/dev/shm") ? "/dev/shm" : "/tmp"
        let folder = "\(base)/walship-simulator-\(UInt64.random(in: 0...UInt64.max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        return try body(folder)
    }

    private struct Sums {
        var runs = 0
        var steps = 0
        var crashes = 0
        var epochs = 0
        var safe = 0
        var acks = 0
    }

    @Test func runs() throws {
        let isReplay = Self.seed != nil && Self.count == nil
        // The same in each `swift test`, others with each Tests/simulate.
        let first = Self.seed ?? (Self.count == nil ? 1 : UInt64.random(in: 0...UInt64.max / 2))
        var sums = Sums()
        var failures = 0
        try withFolder { folder in
            for seed in first..<first + UInt64(isReplay ? 1 : Self.count ?? 250) {
                let world = try World(seed: seed, folder: folder, isTraced: isReplay)
                do {
                    try world.run()
                } catch {
                    failures += 1
                    Issue.record("seed \(seed): \(error); run again with \(SeededRandom.variable)=\(seed)")
                }
                if isReplay { print(world.trace.joined(separator: "\n")) }
                sums.runs += 1
                sums.steps += world.steps
                sums.crashes += world.crashes
                sums.epochs += world.checks.epochs
                sums.safe += world.checks.safe.count
                sums.acks += world.checks.acks
                if failures == 10 { break }
            }
        }
        print(
            "simulator: \(sums.runs) runs from seed \(first), \(sums.steps) steps, \(sums.crashes) crashes, "
                + "\(sums.epochs) epochs, \(sums.acks) acknowledgements, \(sums.safe) writes called safe: "
                + (failures == 0 ? "nothing lost" : "\(failures) failed"))
    }

    /// A run depends on nothing but its seed.
    @Test func oneSeedIsOneRun() throws {
        try withFolder { folder in
            for seed in 1...3 as ClosedRange<UInt64> {
                let traces = try (0..<2).map { _ in
                    let world = try World(seed: seed, folder: folder, isTraced: true)
                    try world.run()
                    return world.trace
                }
                #expect(traces[0].count > 20)
                #expect(traces[0] == traces[1], "seed \(seed)")
            }
        }
    }

    /// The same runs with one thing broken: soon one of them must fail.
    @Test(arguments: mutations)
    func aMutationIsCaught(mutation: Mutation) throws {
        try withFolder { folder in
            let first = Self.mutationSeed ?? mutation.firstSeed ?? 1
            for seed in first..<first + UInt64(Self.mutationSeeds) {
                let world = try World(seed: seed, mutation: mutation, folder: folder)
                do {
                    try world.run()
                } catch {
                    print("simulator: \(mutation.rawValue) is caught by seed \(seed): \(error)")
                    return
                }
            }
            Issue.record("\(mutation.rawValue) is not caught in \(Self.mutationSeeds) runs")
        }
    }
}
