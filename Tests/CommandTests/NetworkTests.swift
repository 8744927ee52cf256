import Foundation
import Glibc
import Testing
import WALTestKit

/// Lines as bad as lines are: trees become equal, nobody believes what nobody has said, and no connection hangs longer than
/// it may.
@Suite(.hangLimit, .ownThread) struct NetworkTests {
    /// Silence after which a connection is given up (walship-protocol(7)), and time for whoever is busy.
    private static let silence = 15.0 + 30

    enum Session: CaseIterable {
        case firstSync, segments
    }

    /// Cut behind the first byte, the second and so on, the session goes on from there. `swift test` takes a few of the
    /// bytes, each time others; `Tests/network` all.
    @Test(arguments: Session.allCases, Proxy.Direction.allCases)
    func cutAfterEveryByte(session: Session, direction: Proxy.Direction) throws {
        let isEvery = ProcessInfo.processInfo.environment["WALSHIP_EVERY_BYTE"] != nil
        var random = SeededRandom()
        random.announce("cutAfterEveryByte(\(session), \(direction))")
        try withWorld { world in
            let source = try world.folder("source")
            for index in 0..<5 { try writeFile("\(source)/file-\(index)", random.bytes(1000)) }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            let mirror = world.path + "/mirror"
            func run(cutAfter bytes: Int?) throws {
                try writeFile("\(source)/file-\(random.int(in: 0..<5))", random.bytes(1000))
                let position = try world.mark(primary)
                if session == .firstSync { _ = try? FileManager.default.removeItem(atPath: mirror) }
                _ = try world.folder("mirror")
                proxy.resetCounts()
                if let bytes { proxy.cutNext(direction, after: bytes) }
                try world.must("walrecv", mirror, "--from", proxy.address, "--until", position)
                #expect(
                    try world.difference(source, mirror) == "", "cut after \(bytes ?? -1) bytes, \(random.reproduce)")
            }
            try run(cutAfter: nil)
            try run(cutAfter: nil)
            let length = Int(direction == .down ? proxy.down : proxy.up)
            #expect(length > 200)
            let step = isEvery ? 1 : max(length / 10, 1)
            var cuts = 0
            for bytes in stride(from: random.int(in: 0..<step), to: length, by: step) {
                try run(cutAfter: bytes)
                cuts += 1
            }
            // Some sessions are shorter than the one that was measured: a replica that has little to say says it at once.
            #expect(proxy.cuts >= cuts / 2)
            print("network: \(session), \(direction): cut after \(proxy.cuts) of \(length) bytes")
            try primary.stop()
        }
    }

    /// A byte at a time, which is what a frame must bear.
    @Test func byteByByte() throws {
        try withWorld { world in
            let random = SeededRandom()
            random.announce()
            let source = try world.folder("source")
            var workload = try Workload(source, random)
            try workload.run(20)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            proxy.setWeather(.init(pieceBytes: 1))
            let replica = try world.replica("replica", from: proxy.port)
            try world.catchUp(primary, [replica])
            try workload.run(20)
            try world.expectEqual(primary, port: port, [replica], random.reproduce)
            #expect(proxy.down > 10_000)
        }
    }

    /// Half a second there and half a second back.
    @Test func aLongLine() async throws {
        try await withWorld { world in
            let random = SeededRandom()
            random.announce()
            let source = try world.folder("source")
            var workload = try Workload(source, random)
            try workload.run(50)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            proxy.setWeather(.init(delay: 1_000_000))
            let replica = try world.replica("replica", from: proxy.port)
            for _ in 0..<10 {
                try workload.run(20)
                try await Task.sleep(for: .milliseconds(300))
            }
            let position = try world.mark(primary)
            try await eventually("end of the line") {
                try world.run("walctl", "wait", replica.folder, position, "--timeout", "0s").status == 0
            }
            proxy.setWeather(.fair)
            try world.expectEqual(primary, port: port, [replica], random.reproduce)
        }
    }

    enum Damage: CaseIterable {
        case duplicates, reorders, flips
    }

    /// What TCP does not let through, and routers and cards now and then do.
    @Test(arguments: Damage.allCases) func bytesThatNobodyHasSent(damage: Damage) async throws {
        try await withWorld { world in
            let random = SeededRandom()
            random.announce("bytesThatNobodyHasSent(\(damage))")
            let source = try world.folder("source")
            var workload = try Workload(source, random)
            try workload.run(100)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            var weather = Proxy.Weather(pieceBytes: 700)
            switch damage {
            case .duplicates: weather.duplicates = 30
            case .reorders: weather.reorders = 30
            case .flips: weather.flips = 30
            }
            proxy.setWeather(weather, seed: random.seed)
            let replica = try world.replica("replica", from: proxy.port)
            // Each is the end of a connection, and the next one begins up to 5 s later.
            try await eventually("harm enough", seconds: 300) {
                try workload.run(4)
                return proxy.harms >= 12
            }
            proxy.setWeather(.fair)
            try await eventually("streaming") { try replica.status()?.state == "streaming" }
            try world.expectEqual(primary, port: port, [replica], random.reproduce)
            for node in [primary, replica] {
                let status = try #require(try node.status())
                #expect(status["epoch"] as? Int == 1, "\(node.folder), \(random.reproduce)")
                #expect(try FileManager.default.contentsOfDirectory(atPath: node.folder + "/.wal/quarantine") == [])
            }
            let log = try world.must("walctl", "log", source, "--json").split(separator: "\n")
            let numbers = try log.map { try Status(String($0))["seq"] as? Int }
            #expect(numbers == Array(1...numbers.count))
            for node in [replica, primary] { try node.stop() }
        }
    }

    /// Nothing arrives any more, and nobody says so.
    @Test(arguments: [[Proxy.Direction.down], [.up], [.down, .up]])
    func aDeadLine(directions: [Proxy.Direction]) async throws {
        try await withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("replica", from: proxy.port)
            try world.catchUp(primary, [replica])
            let connections = proxy.connections
            proxy.swallow(directions)
            try writeFile(source + "/later", "later")
            let position = try world.mark(primary)
            try await eventually("another connection", seconds: Self.silence) { proxy.connections > connections }
            try await eventually("the file") {
                try world.run("walctl", "wait", replica.folder, position, "--timeout", "0s").status == 0
            }
            #expect((primary.child.errors + replica.child.errors).contains("nothing heard for 15 s"))
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    enum Side: CaseIterable {
        case primary, replica
    }

    /// A machine that swaps, a laptop that sleeps: the other side notices, and both go on where they were.
    @Test(arguments: Side.allCases) func stoppedForAMinute(side: Side) async throws {
        try await withWorld { world in
            let random = SeededRandom()
            random.announce("stoppedForAMinute(\(side))")
            let source = try world.folder("source")
            var workload = try Workload(source, random)
            try workload.run(50)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            let (stopped, other) = side == .primary ? (primary, replica) : (replica, primary)
            stopped.child.signal(SIGSTOP)
            let start = ContinuousClock.now
            try workload.run(100)
            try await eventually("word of the silence", seconds: Self.silence) {
                let status = try other.status()
                return side == .primary
                    ? status?.state == "connecting" : status?.replica("replica")?["state"] as? String == "disconnected"
            }
            try await Task.sleep(until: start + .seconds(60))
            stopped.child.signal(SIGCONT)
            try await eventually("connection") { try replica.status()?.state == "streaming" }
            try workload.run(20)
            try world.expectEqual(primary, port: port, [replica], random.reproduce)
            for node in [replica, primary] { try node.stop() }
        }
    }

    /// Two machines and a cable, which is pulled out while much is on its way.
    @Test(.enabled(if: World.isRoot, "network namespaces need root"))
    func theCableIsPulledOut() async throws {
        try await withWorld { world in
            var random = SeededRandom()
            random.announce()
            let cable = try Cable(world)
            // More than a minute for what there is.
            try cable.limit(megabits: 1)
            let source = try world.folder("source")
            try writeNoise(source + "/large", bytes: 10 << 20, &random)
            let primary = try Node(
                world, "walship", source, ["--listen", "\(cable.hosts[0]):7420", "--name", "primary", "--insecure"],
                wrapper: cable.enter(0))
            let replica = try Node(
                world, "walrecv", try world.folder("replica"),
                ["--from", "\(cable.hosts[0]):7420", "--name", "replica"], wrapper: cable.enter(1))
            // In the first sync, and then in the stream.
            try await eventually("the first sync") { try replica.status()?.state == "syncing" }
            for round in 0..<2 {
                try cable.set("down")
                for index in 0..<20 { try writeFile("\(source)/small-\(round)-\(index)", random.bytes(10_000)) }
                try await eventually("word of the silence", seconds: Self.silence) {
                    try primary.status()?.replica("replica")?["state"] as? String == "disconnected"
                        && replica.status()?.state == "connecting"
                }
                if round == 0 { try cable.removeLimit() }
                try cable.set("up")
                let position = try world.mark(primary)
                try await eventually("what was written meanwhile") {
                    try world.run("walctl", "wait", replica.folder, position, "--timeout", "0s").status == 0
                }
                #expect(try world.difference(source, replica.folder) == "", "\(random.reproduce)")
            }
            for node in [replica, primary] { try node.stop() }
        }
    }
}
