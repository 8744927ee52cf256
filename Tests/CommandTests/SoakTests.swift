import Foundation
import Glibc
import Testing
import WALTestKit
import WALTreeKit

/// A pair that lives through a bad day: random work, kills of either side, lines that are cut, slow, dead and wrong. At the
/// end, and every minute, the trees are equal. `Tests/soak` makes it as long as one likes; what grows without end is seen in
/// its figures.
@Suite(.longLimit, .ownThread) struct SoakTests {
    /// Seconds of work between two comparisons.
    private static let interval = 60.0

    /// What has happened so far.
    private struct Figures {
        var operations = 0
        var crashes = 0
        var stops = 0
        var lines = 0
        var comparisons = 0
        /// Highest of all processes of each side, in bytes.
        var memory: [String: UInt64] = [:]
        /// Open files of each side when the trees were equal: the most that were seen, and the last.
        var descriptors: [String: (most: Int, last: Int)] = [:]
        var shipped: UInt64 = 0

        mutating func look(at node: Node) {
            memory[node.program] = max(memory[node.program] ?? 0, node.child.peakResidentBytes)
        }

        mutating func count(_ node: Node) throws {
            let count = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(node.child.pid)/fd").count
            descriptors[node.program] = (max(descriptors[node.program]?.most ?? 0, count), count)
        }

        /// Several times what they take; what grows without end comes there in a run that is long enough.
        func expectBounded() {
            for (program, bytes) in memory { #expect(bytes < 512 << 20, "\(program)") }
            for (program, count) in descriptors { #expect(count.last < 1000, "\(program)") }
        }
    }

    @Test func equalAfterABadDay() async throws {
        let variables = ProcessInfo.processInfo.environment
        let seconds = variables["WALSHIP_SOAK_SECONDS"].flatMap { Double($0) } ?? 10
        var random = SeededRandom()
        random.announce()
        try await withWorld { world in
            let source = try world.folder("source")
            var tree = RandomTree(
                source, outside: try world.folder("outside"), random: SeededRandom(seed: random.next()),
                makesLinks: true, makesSilentWrites: true)
            for _ in 0..<100 { tree.step() }
            let port = try freePort()
            let primary = try world.primary(
                source, port: port, "--devices", "--scan-interval", "10s", "--max-delete", "100%")
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("replica", from: proxy.port)
            var figures = Figures()
            let start = Date()
            let end = start.addingTimeInterval(seconds)
            while Date() < end {
                let next = min(end, Date(timeIntervalSinceNow: Self.interval))
                while Date() < next {
                    for _ in 0..<random.int(in: 1...60) {
                        tree.step()
                        figures.operations += 1
                    }
                    try await Task.sleep(for: .milliseconds(random.int(in: 0...400)))
                    try strike(&random, primary, replica, proxy, &figures)
                }
                proxy.open()
                proxy.setWeather(.fair)
                try tree.clearOutside()
                do {
                    try world.waitUntilEqual(primary, port: port, [replica], seconds: 90)
                } catch {
                    throw Failed(
                        "\(error)\nafter \(figures.operations) operations, \(random.reproduce)\nlast operations:\n"
                            + tree.history.suffix(40).joined(separator: "\n"))
                }
                figures.comparisons += 1
                figures.shipped = proxy.down
                for node in [primary, replica] {
                    figures.look(at: node)
                    try figures.count(node)
                }
                report(figures, since: start, source)
                figures.expectBounded()
            }
            if seconds >= 600 {
                #expect(figures.crashes > 0 && figures.stops > 0 && figures.lines > 10, "a day without misfortunes")
            }
            for node in [replica, primary] { try node.stop() }
            // The script looks for this.
            print("soak: \(figures.operations) operations, seed \(random.seed): equal")
        }
    }

    /// One misfortune, or none.
    private func strike(
        _ random: inout SeededRandom, _ primary: Node, _ replica: Node, _ proxy: Proxy, _ figures: inout Figures
    ) throws {
        let node = random.once(in: 2) ? primary : replica
        switch random.int(in: 0..<40) {
        case 0:
            figures.look(at: node)
            try node.crash()
            try node.restart()
            figures.crashes += 1
        case 1:
            figures.look(at: node)
            try node.stop()
            try node.restart()
            figures.stops += 1
        case 2: proxy.cut()
        case 3: proxy.cut(afterDown: UInt64(random.int(in: 1...200_000)), staysOpen: true)
        case 4: proxy.swallow([[.down], [.up], [.down, .up]].randomElement(using: &random)!)
        case 5: proxy.setWeather(.init(pieceBytes: random.int(in: 1...2000), delay: UInt32(random.int(in: 0...2000))))
        case 6: proxy.setWeather(.init(pieceBytes: 1000, duplicates: 300, reorders: 300, flips: 300))
        case 7...12: proxy.setWeather(.fair)
        case 13...20: proxy.open()
        default: return
        }
        figures.lines = proxy.connections
    }

    private func report(_ figures: Figures, since start: Date, _ source: String) {
        func mebibytes(_ program: String) -> UInt64 { (figures.memory[program] ?? 0) >> 20 }
        func files(_ program: String) -> String {
            figures.descriptors[program].map { "\($0.last) (\($0.most) at most)" } ?? "?"
        }
        let log = (try? FileManager.default.contentsOfDirectory(atPath: source + "/.wal/log")) ?? []
        print(
            """
            soak: \(Int(Date().timeIntervalSince(start))) s: \(figures.operations) operations, \(figures.crashes) kills, \
            \(figures.stops) stops, \(figures.lines) connections, \(figures.comparisons) times equal; \
            \(figures.shipped >> 20) MiB shipped, \(log.count) log files; peak memory \(mebibytes("walship")) and \
            \(mebibytes("walrecv")) MiB; open files \(files("walship")) and \(files("walrecv"))
            """)
        fflush(nil)
    }
}
