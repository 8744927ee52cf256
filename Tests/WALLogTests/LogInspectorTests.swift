import Foundation
import Testing
import WALFormat
import WALLog
import WALSystem
import WALTestKit

@Suite struct LogInspectorTests {
    private func read(_ inspector: LogInspector) throws -> (segments: [Segment], tail: TornTail?) {
        var inspector = inspector
        var segments: [Segment] = []
        while let location = try inspector.next() { segments.append(try location.read()) }
        #expect(try inspector.next() == nil, "the end is the end")
        return (segments, inspector.tail)
    }

    @Test func readsALogBesideItsWriter() throws {
        let folder = try LogFolder()
        #expect(try LogInspector.summary(log: folder.log).end == nil)
        var source = SegmentSource()
        let (writer, _) = try folder.open(rollBytes: 1000)
        try writer.append(source.next(9))
        try writer.sync()
        let (segments, tail) = try read(LogInspector(log: folder.log))
        #expect(segments.map(\.bytes) == source.made.map(\.bytes) && tail == nil)
        let summary = try LogInspector.summary(log: folder.log)
        #expect(summary.files == writer.view.files && summary.bytes == writer.view.bytes)
        #expect(summary.end == writer.end && summary.history == source.history && summary.tail == nil)
    }

    @Test func reportsATornTailAndChangesNothing() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let made = source.next(3).map(\.bytes)
        for length in 1..<made[2].count {
            try folder.place([[made[0]], [made[1], Array(made[2][..<length])]], firstSeqs: [1, 2])
            let before = try folder.content()
            let (segments, tail) = try read(LogInspector(log: folder.log))
            #expect(segments.map(\.bytes) == [made[0], made[1]])
            let found = try #require(tail)
            #expect(found.file == "00000000000000000002.log" && found.offset == UInt64(made[1].count))
            #expect(found.bytes == UInt64(length))
            #expect(try LogInspector.summary(log: folder.log).tail == found)
            #expect(try folder.content() == before)
        }
    }

    @Test func refusesWhatOpeningRefuses() throws {
        let folder = try LogFolder()
        var source = SegmentSource()
        let made = source.next(4).map(\.bytes)
        func bothRefuse(_ location: SourceLocation = #_sourceLocation) {
            let opening = #expect(throws: LogError.self, sourceLocation: location) { try folder.open(source) }
            let inspecting = #expect(throws: LogError.self, sourceLocation: location) {
                try LogInspector.summary(log: folder.log, history: source.history)
            }
            #expect(opening == inspecting && opening != nil, sourceLocation: location)
        }
        var damaged = made[1]
        damaged[20] ^= 1
        try folder.place([[made[0], damaged, made[2], made[3]]], firstSeqs: [1])
        bothRefuse()
        try folder.place([[made[0]], [made[2]]], firstSeqs: [1, 3])
        bothRefuse()
        try folder.place([[made[0]], [made[1].dropLast()], [made[2]]], firstSeqs: [1, 2, 3])
        bothRefuse()
        var stranger = SegmentSource(history: 8)
        try folder.place([[stranger.next().bytes]], firstSeqs: [1])
        bothRefuse()
    }

    @Test func readsOneFileOfAnyName() throws {
        let folder = try LogFolder()
        var source = SegmentSource(end: Position(epoch: 1, seq: 500, chain: Digest(high: 1, low: 1)))
        let made = source.next(3)
        try folder.put("quarantine/copy of a log", made.flatMap(\.bytes) + [1, 2, 3])
        let name = Name("copy of a log")
        let (segments, tail) = try read(LogInspector(file: name, in: folder.quarantine))
        #expect(segments.map(\.bytes) == made.map(\.bytes))
        #expect(tail?.bytes == 3 && tail?.file == "copy of a log")
        #expect(throws: LogError.self) {
            try read(LogInspector(file: Name("nothing"), in: folder.quarantine))
        }
    }
}
