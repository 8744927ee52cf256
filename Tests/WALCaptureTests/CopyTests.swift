import Testing
import WALCapture
import WALCatalog
import WALFormat
import WALTestKit
import WALTreeKit

/// What a known file of at least 1 MiB holds is never sent again, wherever in the tree it turns up.
@Suite(.hangLimit) struct CopyTests {
    private let primary: PrimaryTree
    private var random = SeededRandom(seed: 5)
    private let original: [UInt8]

    init() throws {
        primary = try PrimaryTree()
        original = random.bytes(6 << 20)
        try Files.write(primary.path + "/m", original)
        try primary.start()
    }

    private func path(_ name: String) -> String { primary.path + "/" + name }

    private func contents(after seq: UInt64 = 1) throws -> [FileContent] {
        try primary.changes(after: seq).compactMap(\.fileContent)
    }

    /// Bytes of content that a replica does not hold, be they in the log or to be fetched.
    private func newBytes(after seq: UInt64 = 1) throws -> UInt64 {
        try contents(after: seq).flatMap(\.extents).reduce(0) { sum, extent in
            switch extent {
            case .data, .fetch: sum + extent.length
            case .copy, .hole: sum
            }
        }
    }

    /// A change in the midst makes one block anew, or two where it moves a cut; so does the file's new end.
    private func expectNew(edits: Int, after seq: UInt64 = 1, _ location: SourceLocation = #_sourceLocation) throws {
        let most = edits * 2 * Limits.maxChunkBytes
        #expect(try newBytes(after: seq) <= most, sourceLocation: location)
        #expect(try primary.check().map(\.path) == [], sourceLocation: location)
        #expect(try primary.catalog.read { try $0.isIndexRight() }, sourceLocation: location)
    }

    @Test mutating func editedCopyShipsOnlyTheEdits() throws {
        var copy = original
        copy.insert(contentsOf: [1, 2, 3], at: 1_000_000)
        copy.replaceSubrange(4_000_000..<4_000_010, with: random.bytes(10))
        try Files.write(path("copy"), copy)
        try primary.mark()
        try expectNew(edits: 2)
        let content = try #require(try contents().first)
        #expect(content.sources.map(\.object) == [2])
        // Three runs, and what is new between them.
        #expect(content.extents.count { if case .copy = $0 { true } else { false } } == 3)
    }

    /// Its content is in the midst of another file.
    @Test mutating func contentIsFoundInPieces() throws {
        let second = random.bytes(4 << 20)
        try Files.write(path("second"), second)
        try primary.mark()
        let seq = primary.sink.end.seq
        try Files.write(path("both"), Array(second[1_000_000...]) + original[2_000_000..<4_500_000] + second)
        try primary.mark()
        try expectNew(edits: 3, after: seq)
        #expect(try contents(after: seq)[0].sources.count == 2)
    }

    /// In one batch, whichever of the names is looked at first.
    @Test(arguments: ["a", "z"])
    mutating func copiedMovedAndEditedAtOnce(name: String) throws {
        try Files.write(path(name), original)
        try Files.rename(path("m"), path("moved"))
        try Files.patch(path("moved"), at: 1_000_000, random.bytes(4096))
        try Files.patch(path(name), at: 3_000_000, random.bytes(4096))
        try primary.mark()
        try expectNew(edits: 2)
    }

    /// As log rotation does that copies and truncates.
    @Test(arguments: ["a", "z"])
    func copiedAndEmptied(name: String) throws {
        try Files.write(path(name), original)
        try Files.write(path("m"), "from the beginning")
        try primary.mark()
        #expect(try newBytes() <= 100)
        try expectNew(edits: 1)
    }

    @Test(arguments: ["a", "z"])
    func copiedAndRemoved(name: String) throws {
        try Files.write(path(name), Array(original[100_000...]))
        try Files.remove(path("m"))
        try primary.mark()
        try expectNew(edits: 1)
    }

    /// As dump tools do: the new file grows beside the old one, is seen several times meanwhile, and is renamed over it.
    @Test mutating func writtenBesideAndRenamedOver() throws {
        var next = original
        next.insert(contentsOf: random.bytes(200), at: 50_000)
        let pieces = 5
        for piece in 0..<pieces {
            let part = next[next.count * piece / pieces..<next.count * (piece + 1) / pieces]
            if piece == 0 {
                try Files.write(path(".m.new"), Array(part))
            } else {
                try Files.append(path(".m.new"), Array(part))
            }
            try primary.mark()
        }
        try Files.rename(path(".m.new"), path("m"))
        try primary.mark()
        #expect(primary.sink.segments.count >= pieces)
        // Each of them ends in the midst of a block.
        try expectNew(edits: 1 + pieces)
    }

    /// A file that is like two others is taken from one of them, and from the one that it was like so far.
    @Test mutating func runsAreNotBroken() throws {
        var second = original
        second.replaceSubrange(3_000_000..<3_000_100, with: random.bytes(100))
        try Files.write(path("second"), second)
        try primary.mark()
        let seq = primary.sink.end.seq
        try Files.write(path("third"), second[..<5_000_000] + random.bytes(5_000))
        try primary.mark()
        let content = try #require(try contents(after: seq).first)
        #expect(content.sources.count == 1 && content.extents.count <= 2, "\(content.extents)")
    }

    /// A file that says the same twice: each time what follows is taken from where it follows.
    @Test mutating func runsGoOnThroughWhatIsTwiceInAFile() throws {
        let twice = random.bytes(1 << 20)
        let content = twice + random.bytes(1 << 20) + twice + random.bytes(1 << 20)
        try Files.write(path("twice"), content)
        try primary.mark()
        let seq = primary.sink.end.seq
        try Files.write(path("copy"), [1] + content)
        try primary.mark()
        let extents = try #require(try contents(after: seq).first).extents
        #expect(extents.count { if case .copy = $0 { true } else { false } } == 1, "\(extents)")
        #expect(extents.count <= 3)
    }

    /// What is put back where it was leaves everything else where it is: a replica has but one place to write.
    @Test mutating func whatStaysInPlaceIsItsOwn() throws {
        try Files.write(path("backup"), original)
        try Files.patch(path("m"), at: 2_000_000, random.bytes(4096))
        try primary.mark()
        let seq = primary.sink.end.seq
        try Files.patch(path("m"), at: 2_000_000, Array(original[2_000_000..<2_004_096]))
        try primary.mark()
        let content = try #require(try contents(after: seq).first)
        #expect(try newBytes(after: seq) == 0)
        var offset: UInt64 = 0
        var lent: UInt64 = 0
        for extent in content.extents {
            if case .copy(let source, let from, let length) = extent,
                content.sources[source].object != 2 || from != offset
            {
                lent += length
            }
            offset += extent.length
        }
        #expect(lent > 0 && lent <= 2 * Limits.maxChunkBytes, "\(content)")
    }

    /// A new file beyond the limit of the log, of which little is new: that little goes into the log.
    @Test mutating func limitIsForWhatIsNew() throws {
        primary.stop()
        primary.settings.maxInlineBytes = 1 << 20
        try primary.start()
        let seq = primary.sink.end.seq
        try Files.write(path("copy"), original + random.bytes(300_000))
        try primary.mark()
        let content = try #require(try contents(after: seq).first)
        #expect(content.extents.allSatisfy { if case .fetch = $0 { false } else { true } })
        #expect(try newBytes(after: seq) <= 300_000 + UInt64(Limits.maxChunkBytes))
    }

    /// What the index learned from the first scan, which sends nothing, and after a restart.
    @Test func indexOutlivesARestart() throws {
        primary.stop()
        try primary.reopenCatalog()
        try primary.start()
        try Files.write(path("copy"), [9] + original)
        try primary.mark()
        try expectNew(edits: 1)
    }
}
