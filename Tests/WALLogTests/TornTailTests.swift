import Foundation
import Testing
import WALFormat
import WALLog
import WALSystem
import WALTestKit

/// Torn tails: exactly the whole segments stay, and exactly the rest is in the quarantine.
@Suite struct TornTailTests {
    /// Opens a log whose newest file is `whole` and then `tail`, and checks all that recovery must have done.
    private func recover(
        _ folder: LogFolder, _ source: inout SegmentSource, older: [Segment] = [], whole: [Segment], tail: [UInt8],
        _ comment: Comment, _ location: SourceLocation = #_sourceLocation
    ) throws {
        let kept = whole.flatMap(\.bytes)
        let firstSeq = UInt64(older.count + 1)
        let name = "\(LogName.name(firstSeq: firstSeq))"
        if !older.isEmpty { try folder.place([older.map(\.bytes)], firstSeqs: [1]) }
        try folder.put("log/" + name, kept + tail)
        let survivors = older + whole

        let (writer, report) = try folder.open(source)
        #expect(report.end == survivors.last?.position ?? .start, comment, sourceLocation: location)
        #expect(report.cutBytes == UInt64(tail.count), comment, sourceLocation: location)
        let quarantine = try folder.names("quarantine")
        #expect(quarantine.count == (tail.isEmpty ? 0 : 1), comment, sourceLocation: location)
        if let copy = quarantine.first {
            #expect(copy.hasPrefix("log-\(firstSeq)-\(kept.count)-") && copy.hasSuffix(".torn"), comment)
            #expect(report.cut?.copy.description == copy && report.cut?.tail.file == name, comment)
            #expect(try folder.bytes("quarantine/" + copy) == tail, comment, sourceLocation: location)
            try folder.quarantine.unlink(Name(trusted: Array(copy.utf8)))
        }
        if whole.isEmpty {
            #expect(try !folder.names("log").contains(name), comment, sourceLocation: location)
        } else {
            #expect(try folder.bytes("log/" + name) == kept, comment, sourceLocation: location)
        }
        #expect(try writer.view.readAll().map(\.bytes) == survivors.map(\.bytes), comment, sourceLocation: location)

        // The log goes on where it was cut, and needs no second cure.
        source.end = report.end
        let next = source.next()
        try writer.append(next)
        try writer.sync()
        let (again, second) = try folder.open(source)
        #expect(second.cut == nil, comment, sourceLocation: location)
        #expect(try again.view.readAll().last?.bytes == next.bytes, comment, sourceLocation: location)
        try folder.log.removeContents()
    }

    @Test func cutAtEveryByteOfTheLastSegment() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let made = source.next(3, content: 60)
        for length in 0..<made[2].bytes.count {
            try recover(
                folder, &source, whole: Array(made[..<2]), tail: Array(made[2].bytes[..<length]), "\(length) bytes")
        }
    }

    @Test func cutAtEveryByteOfTheOnlySegment() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let only = source.next(content: 60)
        for length in 0..<only.bytes.count {
            try recover(folder, &source, whole: [], tail: Array(only.bytes[..<length]), "\(length) bytes")
        }
    }

    @Test func cutAtEveryByteOfTheFirstSegmentOfALaterFile() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let made = source.next(3, content: 60)
        for length in stride(from: 0, to: made[2].bytes.count, by: 3) {
            try recover(
                folder, &source, older: Array(made[..<2]), whole: [], tail: Array(made[2].bytes[..<length]),
                "\(length) bytes")
        }
    }

    /// The length is there and the content is not: from every byte on, zeros.
    @Test func zerosFromEveryByteOfTheLastSegmentOn() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let made = source.next(2, content: 60)
        let last = made[1].bytes
        for length in 0..<last.count {
            let tail = Array(last[..<length]) + [UInt8](repeating: 0, count: last.count - length)
            // A digest may end in zeros by itself.
            guard tail != last else { continue }
            try recover(folder, &source, whole: [made[0]], tail: tail, "zeros from \(length) on")
            let longer = tail + [UInt8](repeating: 0, count: 5000)
            try recover(folder, &source, whole: [made[0]], tail: longer, "zeros from \(length) on, and more")
        }
        try recover(folder, &source, whole: made, tail: [UInt8](repeating: 0, count: 1 << 20), "a MiB of zeros")
    }

    @Test func aWrongBitAnywhereInTheLastSegment() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let made = source.next(2, content: 60)
        for damaged in made[1].bytes.indices where !(8..<10).contains(damaged) {
            var tail = made[1].bytes
            tail[damaged] ^= 1
            try recover(folder, &source, whole: [made[0]], tail: tail, "byte \(damaged)")
        }
    }

    @Test func garbage() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let made = source.next(2)
        var random = SeededRandom()
        for length in [1, 7, 8, 127, 128, 129, 168, 4096, 300_000] {
            try recover(folder, &source, whole: made, tail: random.bytes(length), "\(length): \(random.reproduce)")
        }
    }

    /// Somebody keeps a copy of the log in the tree, so segments stand in the content of a segment, stored as they are.
    @Test func aCopyOfTheLogInTheTreeIsNoLaterSegment() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let made = source.next(3)
        let carrier = source.next(bytes: made.flatMap(\.bytes) + [UInt8](repeating: 7, count: 100))
        try recover(folder, &source, whole: made, tail: Array(carrier.bytes.dropLast(120)), "carrier")
        // Of another history, numbers say nothing.
        source.end = made[2].position
        var stranger = SegmentSource(history: 8, end: Position(epoch: 9, seq: 70, chain: .zero))
        let foreign = source.next(bytes: stranger.next().bytes + [UInt8](repeating: 7, count: 100))
        try recover(folder, &source, whole: made, tail: Array(foreign.bytes.dropLast(120)), "foreign")
    }

    /// Bodies of older files are not read at the start; a reader finds what is wrong with them.
    @Test func damageInTheBodyOfAnOlderFileIsFoundByTheReader() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let made = source.next(3, content: 60)
        var damaged = made[1].bytes
        damaged[SegmentHeader.byteCount + 30] ^= 1
        try folder.place([[made[0].bytes, damaged], [made[2].bytes]], firstSeqs: [1, 3])
        let (writer, report) = try folder.open(source)
        #expect(report.end == source.end)
        var cursor = try writer.view.cursor(after: 0)
        #expect(try cursor.next()?.read().bytes == made[0].bytes)
        let location = try #require(try cursor.next())
        let offset = UInt64(made[0].bytes.count)
        #expect(
            throws: LogError.corrupt(
                file: "00000000000000000001.log", offset: offset, .damage(.checksum(what: "block of a segment")))
        ) { try location.read() }
        #expect(try cursor.next()?.read().bytes == made[2].bytes)
    }

    /// Fault model: the power fails at any moment. Of a file, what was synced is there, and of the rest a prefix of any
    /// length, which may be followed by zeros up to any length below what was written. A file that was not synced may be
    /// there or not.
    @Test func powerFailsAtAnyMoment() throws {
        var random = SeededRandom()
        for round in 0..<60 {
            let comment = Comment("round \(round): \(random.reproduce)")
            let folder = try LogFolder()
            var source = SegmentSource(seed: random.next())
            let rollBytes = UInt64(random.int(in: 500...5000))
            let (writer, _) = try folder.open(rollBytes: rollBytes)
            for _ in 0..<random.int(in: 1...30) {
                let count = random.int(in: 1...4)
                try writer.append((0..<count).map { _ in source.next(content: random.int(in: 0...900)) })
                if random.once(in: 3) { try writer.sync() }
            }
            let synced = writer.durableEnd.seq
            let durable = Int(synced)
            let image = try crash(folder, source, durable: synced, random: SeededRandom(seed: random.next()))
            let (reopened, report) = try image.open(rollBytes: rollBytes)
            let survived = try reopened.view.readAll().map(\.bytes)
            #expect(survived.count >= durable, comment)
            #expect(survived == source.made.prefix(survived.count).map(\.bytes), comment)
            #expect(report.end == (survived.isEmpty ? .start : source.made[survived.count - 1].position), comment)

            // Nothing but what was synced: exactly that survives.
            let bare = try crash(folder, source, durable: synced, random: nil)
            let (prefix, exact) = try bare.open(rollBytes: rollBytes)
            #expect(exact.end == writer.durableEnd && exact.cut == nil, comment)
            #expect(try prefix.view.readAll().map(\.bytes) == source.made[..<durable].map(\.bytes), comment)
        }
    }

    /// A copy of the log as the disk may hold it. Without random numbers it holds nothing that was not synced.
    private func crash(
        _ folder: LogFolder, _ source: SegmentSource, durable: UInt64, random: SeededRandom?
    ) throws -> LogFolder {
        let image = try LogFolder()
        var random = random
        var seq = 1
        for name in try folder.names("log") {
            let bytes = try folder.bytes("log/" + name)
            var synced = 0
            var size = 0
            while size < bytes.count {
                size += source.made[seq - 1].bytes.count
                if seq <= durable { synced = size }
                seq += 1
            }
            #expect(size == bytes.count)
            let prefix = random?.int(in: synced...size) ?? synced
            let length = random?.int(in: prefix...size) ?? synced
            if synced > 0 || random?.once(in: 2) == true {
                let zeros = [UInt8](repeating: 0, count: length - prefix)
                try image.put("log/" + name, Array(bytes[..<prefix]) + zeros)
            }
        }
        return image
    }
}
