import Foundation
import Synchronization
import Testing
import WALFormat
import WALLog
import WALSystem
import WALTestKit

@Suite struct LogCursorTests {
    @Test func cursorStopsAtTheDurableEndAndGoesOn() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let (writer, _) = try folder.open(rollBytes: 800)
        var fromStart = try writer.view.cursor(after: 0)
        #expect(try fromStart.next() == nil, "an empty log")
        for _ in 0..<6 {
            try writer.append(source.next(3))
            // A roll makes what is before it durable by itself.
            let visible = Int(writer.durableEnd.seq)
            let seen = try fromStart.readAll().map(\.header.seq)
            #expect(seen == source.made[..<visible].map(\.header.seq).suffix(seen.count))
            #expect(fromStart.nextSeq == UInt64(visible) + 1)
            try writer.sync()
            let rest = try fromStart.readAll()
            #expect(rest.map(\.bytes) == source.made[visible...].map(\.bytes))
        }
        for after in 0...18 as ClosedRange<UInt64> {
            #expect(
                try writer.view.readAll(after: after).map(\.bytes) == source.made[Int(after)...].map(\.bytes))
        }
        #expect(throws: LogError.beyond(wanted: 19, end: 18)) { try writer.view.cursor(after: 19) }
        let location = try #require(try writer.view.location(at: 5))
        #expect(location.position == source.made[4].position && location.header == source.made[4].header)
        // What sendfile(2) would send.
        var bytes = [UInt8](repeating: 0, count: Int(location.length))
        #expect(pread(location.file.descriptor, &bytes, bytes.count, off_t(location.offset)) == bytes.count)
        #expect(bytes == source.made[4].bytes)
    }

    /// Whole and well-formed is not enough: it must be the segment that the location says.
    @Test func whatIsReadMustBeWhatWasFound() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let (writer, _) = try folder.open()
        try writer.append(source.next())
        try writer.sync()
        let location = try #require(try writer.view.location(at: 1))
        #expect(try location.read().bytes == source.made[0].bytes)
        var other = SegmentSource(seed: 2)
        let file = try folder.log.openFileForWriting(LogName.name(firstSeq: 1))
        try file.write(other.next().bytes, at: 0)
        #expect(
            throws: LogError.corrupt(
                file: "00000000000000000001.log", offset: 0, .damage(.checksum(what: "segment")))
        ) { try location.read() }
    }

    /// Against a model, over files large enough for several entries of the sparse index and small enough for many files.
    @Test(arguments: [2_000 as UInt64, 2_000_000])
    func positionsAndBytesAreExact(rollBytes: UInt64) throws {
        var random = SeededRandom()
        let folder = try LogFolder()
        var source = SegmentSource(seed: random.next())
        do {
            let (writer, _) = try folder.open(rollBytes: rollBytes)
            for _ in 0..<120 {
                try writer.append(source.next(content: random.once(in: 10) ? 200_000 : random.int(in: 0...3000)))
            }
            try writer.sync()
            try check(writer.view, source, from: 0, &random)
            try writer.prune(through: 40)
            try check(writer.view, source, from: Int(writer.view.base.seq), &random)
        }
        let (writer, _) = try folder.open(rollBytes: rollBytes)
        try check(writer.view, source, from: Int(writer.view.base.seq), &random)
    }

    private func check(_ view: LogView, _ source: SegmentSource, from base: Int, _ random: inout SeededRandom) throws {
        let comment = Comment(rawValue: random.reproduce)
        let last = source.made.count
        for seq in base...last {
            let expected = seq == 0 ? Position.start : source.made[seq - 1].position
            #expect(try view.position(at: UInt64(seq)) == expected, comment)
            #expect(try view.holds(expected), comment)
            #expect(try !view.holds(Position(epoch: 1, seq: UInt64(seq), chain: Digest(high: 9, low: 9))), comment)
            let header = seq == base ? nil : source.made[seq - 1].header
            #expect(try view.header(at: UInt64(seq)) == header, comment)
        }
        #expect(try view.position(at: UInt64(last) + 1) == nil, comment)
        if base > 0 { #expect(try view.position(at: UInt64(base) - 1) == nil, comment) }
        for _ in 0..<200 {
            let after = random.int(in: base...last)
            let through = random.int(in: after...last)
            let expected = source.made[after..<through].reduce(0) { $0 + UInt64($1.bytes.count) }
            #expect(
                try view.bytesBetween(after: UInt64(after), through: UInt64(through)) == expected,
                "\(after) to \(through): \(comment)")
        }
        #expect(try view.bytesBetween(after: UInt64(base), through: UInt64(last)) == view.bytes, comment)
        #expect(throws: LogError.beyond(wanted: UInt64(last) + 1, end: UInt64(last))) {
            try view.bytesBetween(after: UInt64(base), through: UInt64(last) + 1)
        }
        if base > 0 {
            #expect(throws: LogError.pruned(wanted: UInt64(base), first: UInt64(base) + 1)) {
                try view.bytesBetween(after: UInt64(base) - 1, through: UInt64(last))
            }
        }
    }

    @Test func aHeldFileIsReadableAfterItWasPruned() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let one = UInt64(source.next().bytes.count)
        let (writer, _) = try folder.open(rollBytes: 4 * one)
        try writer.append(source.made)
        try writer.append(source.next(1))
        try writer.sync()
        // Holds the first file, which grows to four segments before it is pruned.
        var holder = try writer.view.cursor(after: 0)
        let held = try #require(try holder.next())
        try writer.append(source.next(10))
        try writer.sync()
        // Would open the second file only when it gets there.
        var late = try writer.view.cursor(after: 4)
        try writer.prune(through: 8)
        #expect(try folder.names("log") == ["00000000000000000009.log"])

        #expect(try held.read().bytes == source.made[0].bytes)
        for seq in 2...4 { #expect(try holder.next()?.read().bytes == source.made[seq - 1].bytes) }
        #expect(throws: LogError.pruned(wanted: 5, first: 9)) { try holder.next() }
        #expect(throws: LogError.pruned(wanted: 5, first: 9)) { try late.next() }
        #expect(try writer.view.readAll(after: 8).map(\.bytes) == source.made[8...].map(\.bytes))
    }

    /// Readers on threads while the writer appends, rolls and syncs: each sees every segment once, in order, whole, and
    /// none before it is durable.
    @Test func cursorsBesideTheWriter() throws {
        var random = SeededRandom()
        let folder = try LogFolder()
        let (writer, _) = try folder.open(rollBytes: 20_000)
        let view = writer.view
        let total: UInt64 = 3000
        let durable = Atomic<UInt64>(0)
        let problems = Mutex<[String]>([])
        let readers = 4
        let finished = Atomic<Int>(0)
        let deadline = Clock.monotonicNanoseconds() + 60_000_000_000
        let threads = try (0..<readers).map { number in
            try WorkerThread.start(name: "reader \(number)") {
                do {
                    var cursor = try view.cursor(after: 0)
                    var last = Position.start
                    while last.seq < total, Clock.monotonicNanoseconds() < deadline {
                        guard let location = try cursor.next() else {
                            sched_yield()
                            continue
                        }
                        let segment = try location.read()
                        let end = durable.load(ordering: .acquiring)
                        let isNext = segment.header.seq == last.seq + 1 && segment.header.previousChain == last.chain
                        if !isNext || end < segment.header.seq {
                            problems.withLock { $0.append("\(segment.position) after \(last), durable \(end)") }
                            break
                        }
                        last = segment.position
                        if last.seq % 64 == 0 {
                            let bytes = try view.bytesBetween(after: last.seq, through: view.durableEnd.seq)
                            let known = try view.position(at: last.seq)
                            if known != last || bytes > view.bytes { problems.withLock { $0.append("\(last)") } }
                        }
                    }
                    if last.seq == total { finished.wrappingAdd(1, ordering: .relaxed) }
                } catch {
                    problems.withLock { $0.append("\(error)") }
                }
            }
        }
        var source = SegmentSource()
        while source.end.seq < total {
            let count = min(random.int(in: 1...20), Int(total - source.end.seq))
            // A roll in the append shows some of them before it returns, so the readers' bound is set before.
            let batch = source.next(count, content: random.int(in: 0...300))
            durable.store(source.end.seq, ordering: .releasing)
            try writer.append(batch)
            try writer.sync()
        }
        for thread in threads { thread.join() }
        #expect(problems.withLock { $0 } == [], "\(random.reproduce)")
        #expect(finished.load(ordering: .relaxed) == readers, "\(random.reproduce)")
    }

    /// The same while old files go: a reader that is too slow is told so, and no other way of failing is allowed.
    @Test func cursorsBesidePruning() throws {
        let folder = try LogFolder()
        let (writer, _) = try folder.open(rollBytes: 3000)
        let view = writer.view
        let total: UInt64 = 3000
        let problems = Mutex<[String]>([])
        let restarts = Atomic<Int>(0)
        let deadline = Clock.monotonicNanoseconds() + 60_000_000_000
        let threads = try (0..<3).map { number in
            try WorkerThread.start(name: "reader \(number)") {
                var last: UInt64 = 0
                while last < total, Clock.monotonicNanoseconds() < deadline {
                    do throws(LogError) {
                        var cursor = try view.cursor(after: max(last, view.base.seq))
                        while last < total, let location = try cursor.next() {
                            let segment = try location.read()
                            if segment.header.seq <= last { problems.withLock { $0.append("back to \(last)") } }
                            last = segment.header.seq
                        }
                    } catch {
                        guard case .pruned = error else {
                            problems.withLock { $0.append("\(error)") }
                            return
                        }
                        restarts.wrappingAdd(1, ordering: .relaxed)
                    }
                }
                if last != total { problems.withLock { $0.append("ended at \(last)") } }
            }
        }
        var source = SegmentSource()
        while source.end.seq < total {
            try writer.append(source.next(3))
            try writer.sync()
            try writer.prune(through: source.end.seq)
        }
        for thread in threads { thread.join() }
        #expect(problems.withLock { $0 } == [])
    }
}
