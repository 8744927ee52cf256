import Testing
import WALFormat
import WALTestKit
import WALWire

/// Connections that break anywhere, until the whole log has arrived: each segment once, in order and byte for byte.
@Suite struct SimulationTests {
    private func start(
        seed: UInt64, _ segments: [Segment] = SmallLog.segments, published: Int? = nil,
        replica: ReplicaModel = ReplicaModel()
    ) -> Simulation {
        // A replica that reconciled at the start of the history: it streams and need not reconcile first.
        var replica = replica
        if replica.position == .start, replica.flags.isEmpty {
            replica.base = segments[0].position
        }
        return Simulation(
            seed: seed, primary: PrimaryModel(segments: segments, published: published ?? segments.count),
            replica: replica)
    }

    private func check(_ simulation: Simulation) throws {
        let replica = simulation.replica
        guard simulation.isDone else { throw SimulationFailure("replica is at \(replica.position.short)") }
        let expected = simulation.primary.segments[Int(replica.base.seq)...].map(\.bytes)
        guard replica.log.map(\.bytes) == expected else {
            throw SimulationFailure("the log differs from the primary's after \(replica.base.short)")
        }
    }

    /// The segments behind the one that every replica of these tests has.
    private var missingBytes: Int { SmallLog.byteCount - SmallLog.segments[0].bytes.count }

    @Test func logIsSmallAndHasBlocksToGoOnFrom() throws {
        let segments = SmallLog.segments
        #expect(segments.map(\.header.blockCount) == [1, 3, 2, 1, 0, 1])
        #expect(SmallLog.byteCount < 6000)
        for segment in segments { #expect(try Segment(verifying: segment.bytes).position == segment.position) }
    }

    @Test func oneConnectionShipsEachByteOnce() throws {
        for seed in 0..<50 as Range<UInt64> {
            var simulation = start(seed: seed)
            try simulation.connect()
            try check(simulation)
            #expect(simulation.shippedBytes == missingBytes, "seed \(seed)")
            #expect(simulation.replica.consumedBytes == UInt64(missingBytes), "seed \(seed)")
        }
    }

    /// One cut behind each byte that goes to the receiver: the second connection ships what is missing and nothing else.
    @Test func cutAtEveryByteTowardsTheReceiver() throws {
        var whole = start(seed: 1)
        try whole.connect()
        for offset in 0...whole.carried.bytesDown {
            var simulation = start(seed: 1)
            try simulation.connect(.bytesDown(offset))
            #expect(simulation.carried.bytesDown == offset)
            let held = Int(simulation.replica.appendedBytes) + simulation.replica.partial.count
            try simulation.connect()
            #expect(throws: Never.self, "cut at \(offset)") { try check(simulation) }
            #expect(simulation.shippedBytes == missingBytes - held, "cut at \(offset)")
            #expect(simulation.connections == 2)
        }
    }

    @Test func cutAtEveryByteTowardsTheSender() throws {
        var whole = start(seed: 2)
        try whole.connect()
        for offset in 0...whole.carried.bytesUp {
            var simulation = start(seed: 2)
            try simulation.connect(.bytesUp(offset))
            let held = Int(simulation.replica.appendedBytes) + simulation.replica.partial.count
            try simulation.connect()
            #expect(throws: Never.self, "cut at \(offset)") { try check(simulation) }
            #expect(simulation.shippedBytes == missingBytes - held, "cut at \(offset)")
        }
    }

    @Test func cutAtEveryFrame() throws {
        var whole = start(seed: 3)
        try whole.connect()
        for frames in 1...whole.carried.framesDown {
            var simulation = start(seed: 3)
            try simulation.connect(.framesDown(frames))
            try simulation.connect()
            #expect(throws: Never.self, "cut after \(frames) frames") { try check(simulation) }
        }
    }

    /// Nobody is told that the line is dead: both ends find out by themselves.
    @Test func silenceAnywhere() throws {
        var whole = start(seed: 4)
        try whole.connect()
        for offset in stride(from: 0, through: whole.carried.bytesDown, by: 13) {
            var simulation = start(seed: 4)
            try simulation.connect(.silence(offset))
            try simulation.connect()
            #expect(throws: Never.self, "silent after \(offset)") { try check(simulation) }
        }
    }

    /// Anything at once: a log that grows and is pruned, replicas in every state that are killed, lines that are cut.
    @Test func randomCuts() throws {
        var random = SeededRandom()
        random.announce()
        var syncs = 0
        var resumed = 0
        var connections = 0
        for _ in 0..<3000 {
            let seed = random.next()
            do {
                let simulation = try run(seed: seed, &resumed)
                syncs += simulation.replica.syncs
                connections += simulation.connections
                #expect(simulation.replica.badSegments == 0)
            } catch {
                Issue.record("\(error): seed \(seed), \(random.reproduce)")
            }
        }
        // The cases are there.
        #expect(connections > 6000)
        #expect(syncs > 500)
        #expect(resumed > 500)
    }

    private func run(seed: UInt64, _ resumed: inout Int) throws -> Simulation {
        var random = SeededRandom(seed: ~seed)
        var simulation = start(
            seed: seed, published: random.int(in: 1...SmallLog.segments.count), replica: anyReplica(&random))
        for _ in 0..<random.int(in: 0...8) where !simulation.isDone {
            let cut: Cut =
                switch random.int(in: 0..<8) {
                case 0: .bytesUp(random.int(in: 0...300))
                case 1: .framesDown(random.int(in: 1...20))
                case 2: .silence(random.int(in: 0...2000))
                case 3: .bytesDown(random.int(in: 0...200))
                default: .bytesDown(random.int(in: 200...3000))
                }
            try simulation.connect(cut)
            if !simulation.replica.partial.isEmpty { resumed += 1 }
            if random.once(in: 5) { simulation.replica.crash() }
            if random.once(in: 8) {
                let first = random.int(in: Int(simulation.primary.first)...simulation.primary.published)
                simulation.primary.first = UInt64(first)
            }
        }
        try simulation.connect()
        try check(simulation)
        return simulation
    }

    private func anyReplica(_ random: inout SeededRandom) -> ReplicaModel {
        var replica = ReplicaModel()
        switch random.int(in: 0..<5) {
        case 0:
            replica.history = .none
            replica.promisedEpoch = 0
            replica.flags = .empty
        case 1: replica.flags = .needsSync
        default: break
        }
        return replica
    }

    // MARK: What the replica has begun is not what the primary ships

    /// A deposed primary shipped the start of a third segment; the new primary's third is another one.
    private func forked(_ fork: [Segment]) throws -> Simulation {
        var simulation = start(seed: 5, fork)
        let old = SmallLog.segments
        simulation.replica.log = [old[1]]
        simulation.replica.appendedBytes = UInt64(old[1].bytes.count)
        simulation.replica.partial = Array(old[2].bytes[..<(try SmallLog.blockEnds(old[2]))[1]])
        simulation.replica.consumedBytes =
            simulation.replica.appendedBytes + UInt64(simulation.replica.partial.count)
        simulation.primary.epoch = 4
        return simulation
    }

    /// Its checksums tell: the segment is fetched anew.
    @Test func partOfAForkOfTheSameLength() throws {
        #expect(SmallLog.fork[2].bytes.count == SmallLog.segments[2].bytes.count)
        #expect(SmallLog.fork[2].bytes != SmallLog.segments[2].bytes)
        var simulation = try forked(SmallLog.fork)
        try simulation.connect()
        #expect(simulation.replica.badSegments == 1)
        #expect(simulation.replica.partial.isEmpty)
        #expect(simulation.replica.position == SmallLog.segments[1].position)
        try simulation.connect()
        try check(simulation)
        #expect(simulation.replica.promisedEpoch == 4)
    }

    /// The sender sees that there is more of it than of its own, and ships all of that in the same connection.
    @Test func partOfALongerFork() throws {
        #expect(SmallLog.shorterFork[2].bytes.count < (try SmallLog.blockEnds(SmallLog.segments[2]))[1])
        var simulation = try forked(SmallLog.shorterFork)
        simulation.replica.droppedBytes = UInt64(simulation.replica.partial.count)
        try simulation.connect()
        try check(simulation)
        #expect(simulation.connections == 1)
    }
}
