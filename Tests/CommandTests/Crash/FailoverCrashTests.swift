import Foundation
import Glibc
import Testing
import WALTestKit

/// A node ends while roles change. It is started again and the command is given again until it succeeds; then the group is
/// whole, and what was acknowledged is there.
@Suite(.longLimit) struct FailoverCrashTests {
    struct Scenario: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let victim: String
        /// Who leads at the end.
        let leader: String
        /// The victim is down.
        var before: @Sendable (Trio) throws -> Void = { _ in }
        /// The victim runs again.
        var during: @Sendable (Trio) throws -> Void = { _ in }
        let command: @Sendable (Trio) -> [String]
        var after: @Sendable (Trio) throws -> Void = { _ in }
    }

    static let scenarios: [Scenario] =
        ["b", "c"].map { victim in
            Scenario(
                testDescription: "promotion, of \(victim)", victim: victim, leader: "b",
                during: { try $0["a"].crash() }, command: { ["promote", $0.address("b"), "--timeout", "20s"] })
        }
        + ["a", "b", "c"].map { victim in
            Scenario(
                testDescription: "switchover, of \(victim)", victim: victim, leader: "b",
                command: { ["switchover", $0.address("a"), $0.address("b"), "--timeout", "20s"] })
        } + [
            Scenario(
                testDescription: "rejoin, of a", victim: "a", leader: "b",
                before: { trio in
                    try trio.promote("b")
                    try trio.write("a", "stray", "of a")
                    try trio.write("a", "file1", "of a")
                    try FileManager.default.removeItem(atPath: trio.folder("a") + "/file2")
                    try trio.write("b", "file3", "of b")
                },
                command: { ["rejoin", $0.folder("a"), "--to", $0.address("b"), "--wait", "--timeout", "4s"] },
                after: { trio in
                    let kept = try trio.quarantine("a")
                    for name in ["files/stray", "files/file1", "LIST", "segments.log"] {
                        #expect(kept.contains { $0.hasSuffix(name) }, "\(name): \(kept)")
                    }
                    #expect(trio.read("a", "file1") == "content 1\n" && trio.read("a", "file2") == "content 2\n")
                })
        ]

    private static let variables = ProcessInfo.processInfo.environment
    private static let crashes = variables["WALSHIP_CRASHES"].flatMap { Int($0) } ?? 1
    private static let only = variables["WALSHIP_CRASH_SCENARIO"]

    @Test(arguments: scenarios) func aKilledNode(scenario: Scenario) throws { try explore(scenario, .kill) }

    @Test(.enabled(if: World.isRoot, "needs root, to mount file systems"), arguments: scenarios)
    func aPowerCut(scenario: Scenario) throws { try explore(scenario, .power) }

    private func explore(_ scenario: Scenario, _ action: Faults.Action) throws {
        if let only = Self.only, only != scenario.testDescription { return }
        var random = SeededRandom()
        random.announce()
        // What there is to be met, after the start.
        var trace: [String] = []
        var started = 0
        try withTrio { trio in
            let path = "\(trio.world.path)/trace"
            func lines() throws -> [String] { try text(ofFile: path).split(separator: "\n").map(String.init) }
            try begin(trio, scenario, Faults(root: trio.folder(scenario.victim), trace: path)) {
                started = try lines().count
            }
            try finish(trio, scenario, "uncut")
            trace = try lines()
        }
        try #require(trace.count > started + 10, "\(started) of \(trace.count) failpoints are passed by the start")
        for _ in 0..<Self.crashes {
            let at = random.int(in: started + 1...trace.count)
            let context = "\(scenario.testDescription): \(action) at \(at) of \(trace.count), \(trace[at - 1])"
            do {
                try withTrio(onDisk: action == .power ? scenario.victim : nil) { trio in
                    let faults = Faults(root: trio.folder(scenario.victim), action: action, at: at)
                    try begin(trio, scenario, faults) {}
                    try finish(trio, scenario, context)
                }
            } catch {
                throw Failed("\(context): \(error)")
            }
        }
    }

    private func begin(_ trio: Trio, _ scenario: Scenario, _ faults: Faults, _ started: () throws -> Void) throws {
        _ = try trio.world.put(trio.folder("a"), "acknowledged", "by both", "--durable", "2")
        let victim = trio[scenario.victim]
        try victim.stop()
        if victim.world.isMounted(victim.folder) { try trio.world.must("sync", "--file-system", victim.folder) }
        try scenario.before(trio)
        try victim.restart(wrapper: faults.wrapper)
        try? until("the victim", seconds: 20) {
            guard victim.child.isRunning else { return true }
            return ["streaming", "fenced"].contains(try victim.status()?.state ?? "")
        }
        try started()
        try scenario.during(trio)
    }

    private func finish(_ trio: Trio, _ scenario: Scenario, _ context: String) throws {
        let victim = trio[scenario.victim]
        func repeated(_ what: String, _ body: () throws -> Outcome) throws {
            var last: Outcome?
            do {
                try until("success of the \(what)", seconds: 90) {
                    try revive(victim)
                    last = try body()
                    return last?.status == 0
                }
            } catch {
                throw Failed("\(error): \(last.map { "\($0)" } ?? "")\n\(victim.child.errors)")
            }
        }
        try repeated("command") { try trio.world.run("walctl", scenario.command(trio)) }
        try repeated("write") {
            try trio.world.walctl(
                ["put", trio.folder(scenario.leader), "afterwards", "--timeout", "10s"], input: Array("1".utf8))
        }
        // Its failpoint may still be ahead.
        if (try? victim.stop()) != nil { try victim.restart(wrapper: []) }
        try revive(victim)
        let isThere = { (name: String) in trio[name].child.isRunning }
        let absent = ["a", "b", "c"].filter { !isThere($0) }
        try trio.waitForRole("primary", of: scenario.leader)
        #expect(try trio.epoch(scenario.leader) > 1, "\(context)")
        try trio.expectEqual(scenario.leader, but: absent, "\(context)")
        for name in ["a", "b", "c"] where isThere(name) {
            #expect(trio.read(name, "acknowledged") == "by both", "\(context): \(name)")
            #expect(trio.read(name, "afterwards") == "1", "\(context): \(name)")
        }
        try scenario.after(trio)
    }

    /// Where it has ended by what was meant to end it.
    private func revive(_ victim: Node) throws {
        guard !victim.child.isRunning else { return }
        guard victim.child.exitStatus == -SIGKILL else {
            throw Failed("\(victim.child.command): exit \(victim.child.exitStatus ?? 0)\n\(victim.child.errors)")
        }
        if victim.world.isMounted(victim.folder) { try victim.world.remount(victim.folder) }
        try victim.restart(wrapper: [])
        try until("the victim", seconds: 60) { try victim.status() != nil }
    }
}
