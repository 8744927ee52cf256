import Foundation
import Glibc
import Synchronization
import Testing
import WALTestKit

/// A process ends before or after any call that changes something on disk, SQLite's included, and once more while it
/// recovers from that. Both go on, come to equal trees, and what was acknowledged is there.
///
/// A few points of each scenario here; as many as one likes with `Tests/crash`.
@Suite(.longLimit) struct CrashExplorerTests {
    enum Victim: String, CaseIterable, Sendable { case primary, replica }

    private static let random = Mutex(
        { () -> SeededRandom in
            let random = SeededRandom()
            random.announce()
            return random
        }())
    private static let variables = ProcessInfo.processInfo.environment
    /// Ends of each process in each scenario.
    private static let crashes = variables["WALSHIP_CRASHES"].flatMap { Int($0) } ?? 1
    private static let only = variables["WALSHIP_CRASH_SCENARIO"]
    /// Every name of a failpoint that was crashed at, and how often something was.
    private static let seen = Mutex((names: Set<String>(), crashes: 0))

    /// All that was written is there.
    @Test(arguments: CrashScenario.all) func aKilledProcess(scenario: CrashScenario) throws {
        try explore(scenario, .kill)
    }

    /// Only what was synced is there.
    @Test(.enabled(if: World.isRoot, "needs root, to mount file systems"), arguments: CrashScenario.all)
    func aPowerCut(scenario: CrashScenario) throws {
        try explore(scenario, .power)
    }

    /// A call fails, or does half of its work: the process goes on, or ends with an error and goes on when it is started
    /// again.
    @Test(arguments: CrashScenario.all) func anErrorOfACall(scenario: CrashScenario) throws {
        try fail(
            scenario,
            [
                (.io, 1), (.io, 3), (.interrupted, 3), (.tooManyFiles, 3), (.noMemory, 3), (.noSpace, 20), (.quota, 20),
                (.short, 0),
            ])
    }

    /// Likewise of what is read: files of the tree, the log, the catalog. In a fourth of the scenarios, but with `Tests/crash`.
    @Test(arguments: CrashScenario.all) func anErrorOfARead(scenario: CrashScenario) throws {
        guard Self.crashes > 1 || Self.random.withLock({ $0.once(in: 4) }) else { return }
        try fail(scenario, [(.io, 1), (.io, 3), (.interrupted, 3), (.noMemory, 1), (.short, 0)], calls: ["read"])
    }

    private func fail(
        _ scenario: CrashScenario, _ errors: [(Faults.Action, times: Int)], calls: [String] = []
    ) throws {
        try explore(scenario, calls: calls) { victim, trace, random in
            let (action, times) = errors.randomElement(using: &random)!
            let (name, at) = Self.drawn(from: trace, &random) { $0.hasSuffix("before") }
            let context =
                "\(scenario.name): \(times) \(action) of the \(victim.rawValue) from \(at) of \(trace.count), \(name)"
            return Story(context: context, onDisk: nil) { pair in
                try pair.begin([victim: pair.fault(victim, action, at: at, times: times, calls: calls)])
                if try pair.settle(watching: victim, mayFail: true) == .crashed {
                    #expect(action != .short, "\(context)")
                    try pair.restart(victim, [])
                    try #require(try pair.settle(watching: nil) == .equal, "\(context)")
                }
                try pair.expectWhole(context)
            }
        }
    }

    /// What was committed and could not be shown is shown as soon as it can be, also when nothing more comes.
    @Test func whatCouldNotBePublishedIsTriedAgain() throws {
        try withPair(CrashScenario("a mode") { try Do.setMode($0 / "a/1", 0o600) }) { pair in
            let fault = Faults(
                root: pair.folder(of: .replica), action: .noSpace, at: 1, times: 3, calls: ["chmod"], place: "tree")
            try pair.begin([.replica: fault.wrapper])
            try #require(try pair.settle(watching: nil) == .equal)
            try pair.expectWhole("a mode")
        }
    }

    /// A batch of many segments is one transaction of the catalog, and the first of them may leave the log before it ends.
    @Test func whatTheCatalogIsRepairedFromStaysInTheLog() throws {
        try withWorld { world in
            let root = try world.folder("primary")
            let faults = Faults(root: root, action: .kill, at: 2, calls: ["unlink"], place: "log")
            let primary = try Node(
                world, "walship", root, ["--log-budget", "256M", "--log-keep", "0s"], wrapper: faults.wrapper)
            try primary.waitForState("streaming")
            // All of it is found at once.
            primary.child.signal(SIGSTOP)
            for number in 0..<20 {
                try Do.write(Bytes(root) / "noise\(number)", CrashScenario.noise(UInt64(number), 14 << 20))
            }
            primary.child.signal(SIGCONT)
            try until("the end of walship") { !primary.child.isRunning }
            #expect(primary.child.exitStatus == -SIGKILL)
            try primary.restart(wrapper: [])
            try primary.waitForState("streaming")
            try #require(world.run("walctl", "mark", root, "--timeout", "30s").status == 0)
            #expect(try world.run("walctl", "verify", "--deep", root).status == 0)
        }
    }

    /// The proof that a power cut shows a sync that is missing.
    @Test(.enabled(if: World.isRoot, "needs root, to mount file systems"), arguments: [false, true])
    func onlyWhatIsSyncedIsAcknowledged(isLie: Bool) throws {
        try withPair(CrashScenario("small commit") { try Do.write($0 / "new", "new") }, onDisk: .replica) { pair in
            try pair.world.must("mount", "-o", "remount,commit=600", pair.folder(of: .replica))
            try pair.begin([.replica: Faults(root: pair.folder(of: .replica), lies: isLie).wrapper])
            try #require(try pair.settle(watching: nil) == .equal)
            let (acknowledged, there) = try pair.cutPowerOfReplica()
            #expect(acknowledged > 1)
            #expect((there >= acknowledged) == !isLie, "\(acknowledged) was acknowledged, \(there) is there")
        }
    }

    private func explore(_ scenario: CrashScenario, _ action: Faults.Action) throws {
        try explore(scenario) { victim, trace, random in
            let (name, at) = Self.drawn(from: trace, &random) { _ in true }
            let again = random.once(in: 2) ? random.int(in: 1...trace.count) : nil
            let place = "\(scenario.name): \(action) of the \(victim.rawValue) at \(at) of \(trace.count), \(name)"
            let context = place + (again.map { ", and at \($0) when it is started again" } ?? "")
            return Story(context: context, onDisk: action == .power ? victim : nil) { pair in
                try crash(pair, victim, action, at: at, again: again, context, name)
            }
        }
    }

    /// One thing that happens to a pair, with what tells of it in an error, and who has a file system of its own.
    private struct Story {
        let context: String
        let onDisk: Victim?
        let body: (CrashPair) throws -> Void
    }

    private func explore(
        _ scenario: CrashScenario, calls: [String] = [], _ draw: (Victim, [String], inout SeededRandom) -> Story
    ) throws {
        if let only = Self.only, only != scenario.name { return }
        var random = Self.random.withLock { SeededRandom(seed: $0.next()) }
        // What there is to be met.
        let traces = try withPair(scenario) { pair in
            try pair.begin([.primary: pair.traced(.primary, calls), .replica: pair.traced(.replica, calls)])
            try #require(try pair.settle(watching: nil) == .equal)
            return try Victim.allCases.map { ($0, try pair.trace(of: $0)) }
        }
        for (victim, trace) in traces {
            // Of some calls there are few.
            try #require(trace.count > (calls.isEmpty ? 20 : 5), "\(victim) passes \(trace.count) failpoints")
            for _ in 0..<Self.crashes {
                let story = draw(victim, trace, &random)
                do {
                    try withPair(scenario, onDisk: story.onDisk, story.body)
                } catch {
                    throw Failed("\(story.context): \(error)")
                }
            }
        }
    }

    /// A failpoint and its number. Any of the names is as likely as any other, however often it is passed.
    private static func drawn(
        from trace: [String], _ random: inout SeededRandom, _ isWanted: (String) -> Bool
    ) -> (name: String, at: Int) {
        let name = Set(trace.filter(isWanted)).sorted().randomElement(using: &random)!
        return (name, trace.indices.filter { trace[$0] == name }.randomElement(using: &random)! + 1)
    }

    private static func count(_ crash: String) {
        let (names, crashes) = seen.withLock { seen in
            seen.names.insert(crash)
            seen.crashes += 1
            return (seen.names.count, seen.crashes)
        }
        if crashes % 50 == 0 { print("crash explorer: \(crashes) ends at \(names) failpoints") }
    }

    private func crash(
        _ pair: CrashPair, _ victim: Victim, _ action: Faults.Action, at: Int, again: Int?, _ context: String,
        _ name: String
    ) throws {
        try pair.begin([victim: pair.fault(victim, action, at: at)])
        // The order of what two threads do differs, so it may have come to its end before.
        if try pair.settle(watching: victim) == .crashed {
            Self.count("\(action) \(victim.rawValue) \(name)")
            try pair.restartAlone(victim, again == nil ? [] : pair.fault(victim, action, at: again ?? 0), context)
            if try pair.settle(watching: victim) == .crashed {
                Self.count("\(action) \(victim.rawValue) again")
                try pair.restartAlone(victim, [], context)
                try #require(try pair.settle(watching: nil) == .equal, "\(context)")
            } else if again != nil {
                try pair.disarm(victim, context)
            }
        } else {
            try pair.disarm(victim, context)
        }
        try pair.expectWhole(context)
    }

    private func withPair<Value>(
        _ scenario: CrashScenario, onDisk victim: Victim? = nil, _ body: (CrashPair) throws -> Value
    ) throws -> Value {
        var result: Value?
        try withWorld { world in result = try body(CrashPair(world, scenario, onDisk: victim)) }
        return result!
    }
}

/// A primary and its replica in a ``CrashScenario``.
final class CrashPair {
    typealias Victim = CrashExplorerTests.Victim

    enum End { case crashed, equal }

    let world: World
    private let scenario: CrashScenario
    private let onDisk: Victim?
    private let port: Int
    private let folders: [Victim: String]
    private var nodes: [Victim: Node] = [:]
    private var isChangeCut = false
    /// The last position that a mark returned, and what the replica had acknowledged by then.
    private var marked: String?
    private var acknowledged = 0

    /// `onDisk` has a file system of its own.
    init(_ world: World, _ scenario: CrashScenario, onDisk: Victim? = nil) throws {
        self.world = world
        self.scenario = scenario
        self.onDisk = onDisk
        port = try freePort()
        var folders: [Victim: String] = [:]
        for who in Victim.allCases {
            folders[who] =
                who == onDisk
                ? try world.mountExt4(who.rawValue, megabytes: 512) : try world.folder(who.rawValue)
        }
        self.folders = folders
        try scenario.before(Bytes(folders[.primary]!))
        guard !scenario.isFirstSync else { return }
        let primary = try start(.primary, scenario.primaryArguments)
        let replica = try start(.replica, scenario.replicaArguments)
        try world.catchUp(primary, [replica])
        for node in [replica, primary] { try node.stop() }
    }

    @discardableResult
    private func start(_ who: Victim, _ more: [String], _ wrapper: [String] = []) throws -> Node {
        let own =
            who == .primary
            ? ["--listen", "127.0.0.1:\(port)", "--name", "primary"]
            : ["--from", "127.0.0.1:\(port)", "--name", "replica"]
        let node = try Node(
            world, who == .primary ? "walship" : "walrecv", folders[who]!, own + more, wrapper: wrapper)
        nodes[who] = node
        return node
    }

    func folder(of who: Victim) -> String { folders[who]! }

    /// What the replica has acknowledged before, and what it has afterwards, with nobody to ask for more; -1 for nothing.
    func cutPowerOfReplica() throws -> (acknowledged: Int, there: Int) {
        let replica = nodes[.replica]!
        try nodes[.primary]!.stop()
        try world.powerOff(replica.folder)
        try replica.crash()
        try world.remount(replica.folder)
        try replica.restart(wrapper: [])
        let there = try? poll("the replica", seconds: 20) { try replica.status()?["durable_seq"] as? Int }
        return (acknowledged, there ?? -1)
    }

    func fault(
        _ victim: Victim, _ action: Faults.Action, at: Int, times: Int = 1, calls: [String] = []
    ) -> [String] {
        Faults(root: folders[victim]!, action: action, at: at, times: times, calls: calls).wrapper
    }

    func traced(_ victim: Victim, _ calls: [String] = []) -> [String] {
        Faults(root: folders[victim]!, calls: calls, trace: "\(world.path)/trace.\(victim.rawValue)").wrapper
    }

    func trace(of victim: Victim) throws -> [String] {
        try text(ofFile: "\(world.path)/trace.\(victim.rawValue)").split(separator: "\n").map(String.init)
    }

    /// The scenario begins.
    func begin(_ wrappers: [Victim: [String]]) throws {
        try scenario.offline(Bytes(folders[.primary]!))
        try scenario.replicaOffline(Bytes(folders[.replica]!))
        // What was before is on the disk since long.
        if let onDisk { try world.must("sync", "--file-system", folders[onDisk]!) }
        try start(.primary, scenario.primaryArguments + scenario.laterArguments, wrappers[.primary] ?? [])
        try start(.replica, scenario.replicaArguments, wrappers[.replica] ?? [])
        if !scenario.isFirstSync {
            // What happens is to be seen by its events, as long as somebody is there to see them.
            try? until("the pair", seconds: 20) {
                try nodes.values.contains { !$0.child.isRunning }
                    || nodes[.primary]!.status()?.replica("replica")?["state"] as? String == "streaming"
            }
        }
        do {
            try scenario.change(Bytes(folders[.primary]!))
        } catch {
            // The power is off already. What of it is lost nobody has promised to keep; it is done when it is on again.
            guard onDisk == .primary else { throw error }
            isChangeCut = true
        }
    }

    func restart(_ victim: Victim, _ wrapper: [String]) throws {
        if victim == onDisk { try world.remount(folders[victim]!) }
        // As far as it was not done before.
        if isChangeCut { try? scenario.change(Bytes(folders[.primary]!)) }
        isChangeCut = false
        try nodes[victim]!.restart(wrapper: wrapper)
    }

    /// Likewise; a replica has by itself what it has acknowledged, with nobody to ask for it once more.
    func restartAlone(_ victim: Victim, _ wrapper: [String], _ context: String) throws {
        guard victim == .replica else { return try restart(victim, wrapper) }
        let primary = nodes[.primary]!
        let told =
            try poll("the primary", seconds: 20) { try primary.status() }
            .replica("replica")?["durable_seq"] as? Int ?? 0
        primary.child.signal(SIGSTOP)
        defer { primary.child.signal(SIGCONT) }
        try restart(victim, wrapper)
        let replica = nodes[victim]!
        var last: Status?
        var there: Int { last?["durable_seq"] as? Int ?? -1 }
        try? until("what was acknowledged", seconds: 30) {
            last = (try? replica.status()) ?? last
            return there >= told || !replica.child.isRunning
        }
        #expect(
            there >= told || !replica.child.isRunning,
            """
            \(context): \(told) was acknowledged, \(there) is there alone: \(last?.json ?? [:])
            \(replica.child.errors)
            """)
    }

    /// Starts it again without what it has not come to yet, and might come to while it is asked whether all is well.
    func disarm(_ victim: Victim, _ context: String) throws {
        _ = try nodes[victim]!.child.terminate()
        try restart(victim, [])
        try #require(try settle(watching: nil) == .equal, "\(context)")
    }

    /// Until all that is in the primary's tree is on the replica, or the victim has ended.
    /// By a signal, or, where it `mayFail`, with an error.
    func settle(watching victim: Victim?, mayFail: Bool = false) throws -> End {
        let child = victim.map { nodes[$0]!.child }
        let primary = folders[.primary]!
        let replica = folders[.replica]!
        var last = ""
        do {
            return try poll("the replica", seconds: 90) {
                if let child, !child.isRunning {
                    // 5 says that the disk is full.
                    let hasFailed = mayFail && [1, 5].contains(child.exitStatus) && !child.errors.isEmpty
                    guard child.exitStatus == -SIGKILL || hasFailed else {
                        throw Failed("\(child.command): exit \(child.exitStatus ?? 0)\n\(child.errors)")
                    }
                    return .crashed
                }
                for node in nodes.values where !node.child.isRunning && node.child !== child {
                    throw Failed("\(node.child.command) has ended by itself:\n\(node.child.errors)")
                }
                let mark = try world.run("walctl", "mark", primary, "--timeout", "5s")
                last = "\(mark)"
                guard mark.status == 0 else { return nil }
                marked = mark.output.trimmingCharacters(in: .newlines)
                let wait = try world.run("walctl", "wait", replica, marked!, "--timeout", "1s")
                last = "\(wait)"
                if let seq = (try? nodes[.primary]!.status())?.replica("replica")?["durable_seq"] as? Int {
                    acknowledged = max(acknowledged, seq)
                }
                return wait.status == 0 ? .equal : nil
            }
        } catch {
            throw Failed("\(error): \(last)" + nodes.values.map { "\($0.folder):\n\($0.child.errors)" }.joined())
        }
    }

    func expectWhole(_ context: String) throws {
        let primary = nodes[.primary]!
        let replica = nodes[.replica]!
        // What was promised is on the history that both have now.
        if let marked {
            let wait = try world.run("walctl", "wait", replica.folder, marked, "--timeout", "30s")
            #expect(wait.status == 0, "\(context): \(wait)")
        }
        // Whose catalog is made anew after what it took for damage begins at 0 for a moment.
        var durable = -1
        try? until("what was acknowledged", seconds: 30) {
            durable = try replica.status()?["durable_seq"] as? Int ?? -1
            return durable >= acknowledged
        }
        #expect(durable >= acknowledged, "\(context): \(acknowledged) was acknowledged, \(durable) is there")
        let verify = try world.run("walctl", "verify", "--deep", replica.folder, "--against", "127.0.0.1:\(port)")
        #expect(verify.status == 0, "\(context): \(verify)")
        #expect(try world.run("walctl", "verify", "--deep", primary.folder).status == 0, "\(context)")
        var excluded: [String] = []
        for (option, pattern) in zip(scenario.laterArguments, scenario.laterArguments.dropFirst())
        where option == "--exclude" { excluded.append("--exclude=/" + pattern) }
        let difference = try world.run(
            "rsync",
            ["-aHAXcni", "--delete", "--exclude=/.wal"] + excluded + [primary.folder + "/", replica.folder + "/"])
        #expect(difference.status == 0 && difference.output.isEmpty, "\(context): \(difference)")
    }
}
