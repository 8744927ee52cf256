import Foundation
import Testing
import WALFormat
import WALLog
import WALSystem
import WALTestKit

@Suite struct LogWriterTests {
    @Test func whatIsAppendedIsThereAfterReopening() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        do {
            let (writer, report) = try folder.open()
            #expect(report.files == 0 && report.end == .start && report.cut == nil)
            #expect(writer.view.base == .start && writer.view.durableEnd == .start && writer.view.firstSeq == 1)
            try writer.append(source.next(content: 100))
            try writer.append(source.next(5, content: 3000))
            #expect(writer.end == source.end)
            #expect(writer.durableEnd == .start && writer.view.durableEnd == .start && writer.view.files.isEmpty)
            try writer.sync()
            #expect(writer.durableEnd == source.end && writer.view.durableEnd == source.end)
            #expect(try writer.view.readAll().map(\.bytes) == source.made.map(\.bytes))
        }
        let (writer, report) = try folder.open()
        #expect(report.files == 1 && report.end == source.end && report.cutBytes == 0)
        #expect(try writer.view.readAll().map(\.bytes) == source.made.map(\.bytes))
        #expect(try folder.names("log") == ["00000000000000000001.log"])
        try writer.append(source.next())
        try writer.sync()
        #expect(try writer.view.readAll().map(\.bytes) == source.made.map(\.bytes))
        #expect(try folder.bytes("log/00000000000000000001.log") == source.made.flatMap(\.bytes))
    }

    @Test func emptyLogStandsAtItsBase() throws {
        let folder = try LogFolder()
        let base = Position(epoch: 4, seq: 99, chain: Digest(high: 1, low: 2))
        var source = SegmentSource(end: base)
        source.epoch = 4
        do {
            let (writer, _) = try folder.open(base: base)
            #expect(writer.end == base && writer.view.firstSeq == 100)
            try writer.append(source.next())
            try writer.sync()
        }
        #expect(try folder.names("log") == ["00000000000000000100.log"])
        let (writer, _) = try folder.open(base: base)
        #expect(writer.view.base == base && writer.end == source.end)
        #expect(try writer.view.position(at: 99) == base)
    }

    @Test func filesRollBeforeTheyExceedTheSize() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let one = UInt64(source.next(content: 1000).bytes.count)
        let (writer, _) = try folder.open(rollBytes: 3 * one)
        try writer.append(source.made[0])
        try writer.append(source.next(6, content: 1000))
        // Larger than a whole file: it has one of its own.
        try writer.append(source.next(content: 10_000))
        try writer.append(source.next(content: 1000))
        #expect(writer.durableEnd.seq == 8, "a file is durable before the next one is created")
        try writer.sync()
        let files = writer.view.files
        #expect(files.map(\.firstSeq) == [1, 4, 7, 8, 9])
        #expect(files.map(\.lastSeq) == [3, 6, 7, 8, 9])
        #expect(files.map(\.bytes) == [3 * one, 3 * one, one, UInt64(source.made[7].bytes.count), one])
        #expect(files.map(\.lastCaptureTime) == [3, 6, 7, 8, 9].map { $0 * 1_000_000_000 })
        for file in files {
            let expected = source.made[Int(file.firstSeq - 1)..<Int(file.lastSeq)].flatMap(\.bytes)
            #expect(try folder.bytes("log/\(file.name)") == expected)
        }
        #expect(try writer.view.readAll().map(\.bytes) == source.made.map(\.bytes))
        let (reopened, report) = try folder.open(rollBytes: 3 * one)
        #expect(report.files == 5 && reopened.view.files == files)
        #expect(try reopened.view.readAll().map(\.bytes) == source.made.map(\.bytes))
    }

    @Test func onlyTheNextSegmentIsTaken() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        source.epoch = 3
        let (writer, _) = try folder.open()
        try writer.append(source.next(2))
        let before = source
        let good = source.next()

        var skipped = source
        #expect(throws: LogError.notNext(seq: 4, .seq(expected: 3, actual: 4))) { try writer.append(skipped.next()) }
        var old = before
        old.epoch = 2
        #expect(throws: LogError.notNext(seq: 3, .epoch(atLeast: 3, actual: 2))) { try writer.append(old.next()) }
        var forked = before
        forked.end.chain = .zero
        #expect(throws: LogError.notNext(seq: 3, .chain(expected: before.end.chain, actual: .zero))) {
            try writer.append(forked.next())
        }
        var other = SegmentSource(history: 8, end: before.end)
        other.epoch = 3
        #expect(throws: LogError.notNext(seq: 3, .history(expected: source.history, actual: other.history))) {
            try writer.append(other.next())
        }
        // A batch is refused as a whole.
        #expect(throws: LogError.notNext(seq: 3, .seq(expected: 4, actual: 3))) { try writer.append([good, good]) }
        #expect(writer.end == before.end)
        try writer.append(good)
        try writer.sync()
        #expect(try writer.view.readAll().map(\.bytes) == source.made.map(\.bytes))
    }

    @Test func resetDropsAllAndGoesOnFromTheBase() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let (writer, _) = try folder.open(rollBytes: 1000)
        for _ in 0..<10 { try writer.append(source.next(content: 400)) }
        try writer.sync()
        try writer.append(source.next())
        var cursor = try writer.view.cursor(after: 3)
        #expect(try cursor.next()?.header.seq == 4)

        let base = Position(epoch: 2, seq: 3, chain: Digest(high: 5, low: 6))
        try writer.reset(to: base)
        #expect(try folder.names("log").isEmpty)
        #expect(writer.end == base && writer.durableEnd == base && writer.view.base == base)
        #expect(writer.view.files.isEmpty && writer.view.bytes == 0 && writer.view.durableEnd == base)
        #expect(throws: LogError.reset) { try cursor.next() }

        // The same name again, with another content.
        var after = SegmentSource(end: base, seed: 2)
        after.epoch = 2
        try writer.append(after.next(3))
        try writer.sync()
        #expect(throws: LogError.reset) { try cursor.next() }
        #expect(try writer.view.readAll().map(\.bytes) == after.made.map(\.bytes))
        let (reopened, _) = try folder.open(base: base)
        #expect(try reopened.view.readAll().map(\.bytes) == after.made.map(\.bytes))
    }

    @Test func aFailedSyncIsFinal() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let (writer, _) = try folder.open()
        try writer.append(source.next())
        try writer.sync()
        try writer.append(source.next())
        let descriptor = try #require(try writableDescriptor(of: folder.path + "/log/00000000000000000001.log"))
        // A pipe cannot be synced: EINVAL, as fdatasync(2) says.
        let original = dup(descriptor)
        var pipes: [Int32] = [0, 0]
        try #require(pipe(&pipes) == 0)
        defer { for each in pipes + [original] { close(each) } }
        try #require(dup2(pipes[1], descriptor) == descriptor)

        let error = try #require(#expect(throws: LogError.self) { try writer.sync() })
        guard case .failed("00000000000000000001.log", let cause) = error else {
            Issue.record("\(error)")
            return
        }
        #expect(cause.call == "fdatasync" && cause.code == Errno.invalid)
        // The disk is well again, and that must not matter.
        try #require(dup2(original, descriptor) == descriptor)
        let next = source.next()
        #expect(throws: error) { try writer.sync() }
        #expect(throws: error) { try writer.append(next) }
        #expect(throws: error) { try writer.prune(through: 1) }
        #expect(throws: error) { try writer.reset(to: .start) }
        #expect(writer.durableEnd.seq == 1 && writer.view.durableEnd.seq == 1)
        #expect(try writer.view.readAll().map(\.bytes) == [source.made[0].bytes])
    }

    /// The name of a new file is part of what a sync promises, and only of the first one after it was created.
    @Test func aFailedSyncOfTheDirectoryIsFinalToo() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let directory = try folder.log
        let (writer, _) = try LogWriter.open(
            directory: directory, quarantine: folder.quarantine, history: source.history, emptyAt: .start,
            rollBytes: 1000)
        try writer.append(source.next())
        try writer.sync()
        let original = dup(directory.descriptor)
        var pipes: [Int32] = [0, 0]
        try #require(pipe(&pipes) == 0)
        defer { for each in pipes + [original] { close(each) } }
        try #require(dup2(pipes[1], directory.descriptor) == directory.descriptor)
        try writer.append(source.next())
        try writer.sync()
        #expect(writer.view.durableEnd.seq == 2)

        try #require(dup2(original, directory.descriptor) == directory.descriptor)
        try writer.append(source.next(content: 2000))
        try #require(dup2(pipes[1], directory.descriptor) == directory.descriptor)
        let error = try #require(#expect(throws: LogError.self) { try writer.sync() })
        guard case .failed("00000000000000000003.log", let cause) = error, cause.call == "fsync" else {
            Issue.record("\(error)")
            return
        }
        try #require(dup2(original, directory.descriptor) == directory.descriptor)
        #expect(throws: error) { try writer.sync() }
        #expect(writer.durableEnd.seq == 2 && writer.view.durableEnd.seq == 2)
    }

    /// The descriptor of this process that is open for writing on that file.
    private func writableDescriptor(of path: String) throws -> Int32? {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap { Int32($0) }.first {
            descriptorPath($0).map { String(decoding: $0, as: UTF8.self) } == path
                && fcntl($0, F_GETFL) & O_ACCMODE == O_RDWR
        }
    }

    @Test func pruningKeepsTheNewestFileWithDurableSegments() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let (writer, _) = try folder.open(rollBytes: 1)
        try writer.append(source.next(4))
        try writer.sync()
        let one = writer.view.files[0].bytes
        #expect(try writer.prune(through: 0) == 0)
        #expect(try writer.prune(through: 2) == 2 * one)
        #expect(try folder.names("log").count == 2)
        #expect(writer.view.firstSeq == 3 && writer.view.base == source.made[1].position)
        #expect(writer.view.bytes == 2 * one)
        #expect(throws: LogError.pruned(wanted: 2, first: 3)) { try writer.view.cursor(after: 1) }

        // The fifth file is there, but no segment in it is durable.
        try writer.append(source.next())
        #expect(try writer.prune(through: 100) == one)
        #expect(try folder.names("log") == ["00000000000000000004.log", "00000000000000000005.log"])
        try writer.sync()
        #expect(try writer.prune(through: 100) == one)
        #expect(try folder.names("log") == ["00000000000000000005.log"])

        let (reopened, _) = try folder.open(rollBytes: 1)
        #expect(reopened.view.base.seq == 4 && reopened.view.base.chain == source.made[3].chain)
        #expect(try reopened.view.holds(source.made[3].position) && reopened.view.holds(source.end))
        #expect(try !reopened.view.holds(source.made[2].position))
        #expect(try reopened.view.readAll().map(\.bytes) == [source.made[4].bytes])
    }
}
