import Foundation
import Testing
import WALFormat
import WALLog
import WALSystem
import WALTestKit

/// The cases of Recovery.swift that are refused: each must name file and offset, and leave every byte as it is.
@Suite struct RefusedRecoveryTests {
    private func refused(
        _ folder: LogFolder, _ source: SegmentSource, history: HistoryID? = nil, base: Position = .start,
        _ location: SourceLocation = #_sourceLocation
    ) throws -> LogError? {
        let before = try folder.content()
        let error = #expect(throws: LogError.self, sourceLocation: location) {
            try folder.open(source, history: history, base: base)
        }
        #expect(try folder.content() == before, "something was changed on the disk", sourceLocation: location)
        return error
    }

    private let first = "00000000000000000001.log"

    /// Three files: 1–2, 3–4, 5–6.
    private func threeFiles() throws -> (LogFolder, SegmentSource) {
        let folder = try LogFolder()
        var source = SegmentSource()
        let bytes = source.next(6).map(\.bytes)
        try folder.place([Array(bytes[0..<2]), Array(bytes[2..<4]), Array(bytes[4..<6])], firstSeqs: [1, 3, 5])
        return (folder, source)
    }

    @Test func damageBeforeALaterSegmentOfTheNewestFile() throws {
        var source = SegmentSource()
        let bytes = source.next(3, content: 20).map(\.bytes)
        let folder = try LogFolder()
        for damaged in bytes[1].indices {
            var middle = bytes[1]
            middle[damaged] ^= 0x10
            try folder.place([[bytes[0], middle, bytes[2]]], firstSeqs: [1])
            let error = try refused(folder, source)
            switch (error, damaged) {
            case (.version(first, UInt64(bytes[0].count), _, 1), 8..<10): break
            case (.corrupt(first, UInt64(bytes[0].count), let fault), _):
                guard case .damageInside(_, let offset, 3) = fault else { fallthrough }
                #expect(offset == UInt64(bytes[0].count + bytes[1].count))
            default: Issue.record("byte \(damaged): \(String(describing: error))")
            }
        }
        // Zeros, as of a page that was never written, are no different.
        for length in [1, 40, bytes[1].count] {
            let middle = [UInt8](repeating: 0, count: length) + bytes[1].dropFirst(length)
            try folder.place([[bytes[0], middle, bytes[2]]], firstSeqs: [1])
            guard case .corrupt(first, _, .damageInside(_, _, 3)) = try refused(folder, source) else {
                Issue.record("\(length) zeros")
                continue
            }
        }
    }

    @Test func theLaterSegmentMayLieFarBehindOrAcrossTwoReads() throws {
        var source = SegmentSource()
        let bytes = source.next(2, content: 20).map(\.bytes)
        let folder = try LogFolder()
        let chunk = 256 << 10
        // Around the border of what is read at once, and far beyond it.
        for gap in (chunk - 140)...(chunk + 2) where gap % 7 == 0 || gap > chunk - 4 {
            try folder.place([[[UInt8](repeating: 0, count: gap), bytes[1]]], firstSeqs: [1])
            #expect(
                try refused(folder, source)
                    == .corrupt(
                        file: first, offset: 0,
                        .damageInside(.magic(what: "segment header"), laterOffset: UInt64(gap), laterSeq: 2)))
        }
    }

    @Test func missingFile() throws {
        let (folder, source) = try threeFiles()
        try folder.log.unlink(LogName.name(firstSeq: 3))
        #expect(try refused(folder, source) == .missing(first: 3, last: 4, file: "00000000000000000005.log"))
    }

    @Test func overlappingFile() throws {
        let (folder, source) = try threeFiles()
        try folder.put("log/00000000000000000002.log", source.made[1].bytes)
        #expect(
            try refused(folder, source)
                == .corrupt(file: "00000000000000000002.log", offset: 0, .seq(expected: 3, actual: 2)))
    }

    @Test func fileUnderAnotherNumber() throws {
        let (folder, source) = try threeFiles()
        try folder.log.rename(LogName.name(firstSeq: 1), to: folder.log, LogName.name(firstSeq: 2))
        #expect(
            try refused(folder, source)
                == .corrupt(file: "00000000000000000002.log", offset: 0, .seq(expected: 2, actual: 1)))
    }

    @Test(arguments: ["1.log", "0000000000000000000x.log", "00000000000000000000.log", "99999999999999999999.log"])
    func nameThatIsNoNumber(name: String) throws {
        let (folder, source) = try threeFiles()
        try folder.put("log/" + name, [])
        #expect(try refused(folder, source) == .name(name))
    }

    @Test func olderFileThatIsNotWholeSegments() throws {
        let (folder, source) = try threeFiles()
        let name = "00000000000000000003.log"
        let whole = try folder.bytes("log/" + name)
        let second = source.made[2].bytes.count
        for (kept, offset) in [
            (0, 0), (1, 0), (second - 1, 0), (second, nil), (second + 1, second), (whole.count - 1, second),
        ] {
            try folder.put("log/" + name, Array(whole[..<kept]))
            let error = try refused(folder, source)
            if let offset {
                guard case .corrupt(name, UInt64(offset), .damage) = error else {
                    Issue.record("\(kept) bytes kept: \(String(describing: error))")
                    continue
                }
            } else {
                #expect(error == .missing(first: 4, last: 4, file: "00000000000000000005.log"))
            }
        }
        try folder.put("log/" + name, whole + [0])
        guard case .corrupt(name, UInt64(whole.count), .damage) = try refused(folder, source) else {
            Issue.record("a byte too many")
            return
        }
    }

    /// The links between segments are checked in older files too, without reading the bodies.
    @Test func aWrongBitInAHeaderOrTrailerOfAnOlderFile() throws {
        let (folder, source) = try threeFiles()
        let whole = try folder.bytes("log/" + first)
        let offset = source.made[0].bytes.count
        let trailer = whole.count - SegmentTrailer.byteCount
        for damaged in Array(offset..<(offset + SegmentHeader.byteCount)) + Array(trailer..<whole.count) {
            var bytes = whole
            bytes[damaged] ^= 0x10
            try folder.put("log/" + first, bytes)
            switch (try refused(folder, source), damaged - offset) {
            case (.version(first, UInt64(offset), _, 1), 8..<10), (.corrupt(first, UInt64(offset), .damage), _): break
            case (let error, _): Issue.record("byte \(damaged): \(String(describing: error))")
            }
        }
    }

    @Test func otherHistory() throws {
        let (folder, source) = try threeFiles()
        let other = SegmentSource(history: 8).history
        #expect(
            try refused(folder, source, history: other)
                == .foreign(file: first, offset: 0, expected: other, actual: source.history))
        // Also when only a later file is of another one.
        var stranger = SegmentSource(history: 8, end: source.made[3].position)
        try folder.put("log/00000000000000000005.log", stranger.next().bytes)
        #expect(
            try refused(folder, source)
                == .foreign(
                    file: "00000000000000000005.log", offset: 0, expected: source.history, actual: stranger.history))
    }

    /// Each is a whole segment with right checksums that does not follow, in the newest file and in an older one.
    @Test func segmentsThatDoNotFollow() throws {
        var source = SegmentSource()
        source.epoch = 5
        let good = source.next().bytes
        let offset = UInt64(good.count)
        let wrong = Digest(high: 3, low: 3)
        let cases: [([UInt8], Fault)] = [
            (sealed(source, previous: wrong), .chain(expected: source.end.chain, actual: wrong)),
            (sealed(source, epoch: 4), .epoch(atLeast: 5, actual: 4)),
            (sealed(source, seq: 3), .seq(expected: 2, actual: 3)),
            (sealed(source, seq: 1), .seq(expected: 2, actual: 1)),
            (good, .seq(expected: 2, actual: 1)),
            (sealed(source, flags: 0x80), .unsupported(.value(what: "segment header: flags", 0x80))),
        ]
        for (bytes, fault) in cases {
            let folder = try LogFolder()
            try folder.place([[good, bytes]], firstSeqs: [1])
            #expect(try refused(folder, source) == .corrupt(file: first, offset: offset, fault))
            try folder.put("log/\(LogName.name(firstSeq: 3))", good)
            #expect(try refused(folder, source) == .corrupt(file: first, offset: offset, fault))
        }
        // The first segment of all follows nothing.
        let folder = try LogFolder()
        try folder.place([[sealed(SegmentSource(), previous: wrong)]], firstSeqs: [1])
        #expect(
            try refused(folder, source)
                == .corrupt(file: first, offset: 0, .chain(expected: .zero, actual: wrong)))
    }

    @Test func chainBreakBetweenFiles() throws {
        let (folder, source) = try threeFiles()
        var fork = SegmentSource(end: source.made[3].position)
        fork.end.chain = Digest(high: 1, low: 1)
        try folder.put("log/00000000000000000005.log", fork.next().bytes)
        #expect(
            try refused(folder, source)
                == .corrupt(
                    file: "00000000000000000005.log", offset: 0,
                    .chain(expected: source.made[3].chain, actual: Digest(high: 1, low: 1))))
    }

    @Test func formatOfALaterProgram() throws {
        let (folder, source) = try threeFiles()
        for name in [first, "00000000000000000005.log"] {
            let whole = try folder.bytes("log/" + name)
            let start = whole.count / 2
            var bytes = whole
            bytes[start + 8] = 2
            try folder.put("log/" + name, bytes)
            let error = try refused(folder, source)
            #expect(error == .version(file: name, offset: UInt64(start), found: 2, supported: 1))
            #expect(error?.isCorruption == false)
            // Nor is it a torn tail when it is cut short.
            if name != first {
                try folder.put("log/" + name, Array(bytes[..<(start + 20)]))
                #expect(
                    try refused(folder, source) == .version(file: name, offset: UInt64(start), found: 2, supported: 1))
            }
            try folder.put("log/" + name, whole)
        }
    }

    /// A codec that this program does not know, with every checksum right: what a later program wrote is not cut off.
    @Test func intactBodyThatIsNotUnderstood() throws {
        let source = SegmentSource()
        let content: [UInt8] = [1, 2, 3]
        var block = content.withUnsafeBytes { BlockHeader.encoded(codec: .none, rawBytes: 3, stored: $0) }
        block[0] = 9
        let sum = block[..<12].withUnsafeBytes { head in content.withUnsafeBytes { crc32(head, $0) } }
        block.replaceSubrange(12..., with: withUnsafeBytes(of: sum.littleEndian, Array.init))
        let body = block + content
        let header = SegmentHeader(
            flags: [], history: source.history, epoch: 1, seq: 1, previousChain: .zero, captureTime: 0,
            treeDigest: .zero, rawBytes: 3, storedBytes: UInt64(body.count), entryCount: 0, blockCount: 1, lastObject: 1
        ).encoded()
        let folder = try LogFolder()
        let trailer = SegmentTrailer(header: header, bodyDigest: Digest(of: body)).encoded()
        try folder.place([[header + body + trailer]], firstSeqs: [1])
        #expect(
            try refused(folder, source)
                == .corrupt(file: first, offset: 0, .unsupported(.value(what: "codec of a block", 9))))
    }

    @Test func loneFileThatDoesNotStartWhereTheLogStands() throws {
        var source = SegmentSource(end: Position(epoch: 1, seq: 41, chain: Digest(high: 1, low: 1)))
        let folder = try LogFolder()
        let bytes = source.next().bytes
        try folder.place([[Array(bytes.dropLast())]], firstSeqs: [42])
        #expect(
            try refused(folder, source)
                == .corrupt(file: "00000000000000000042.log", offset: 0, .seq(expected: 1, actual: 42)))
        let base = Position(epoch: 1, seq: 41, chain: Digest(high: 1, low: 1))
        let (writer, report) = try folder.open(source, base: base)
        #expect(writer.end == base && report.cutBytes == UInt64(bytes.count - 1))
        #expect(try folder.names("log").isEmpty)
    }
}
