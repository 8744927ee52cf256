import Glibc
import Synchronization
import Testing
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// What the filter excludes is as if it were not there.
@Suite(.hangLimit) struct FilterTests {
    private let primary: PrimaryTree

    init() throws {
        primary = try PrimaryTree()
        try Files.makeDirectory(primary.path + "/folder")
        try Files.makeDirectory(primary.path + "/cache")
        try Files.write(primary.path + "/folder/kept", "kept")
        try Files.write(primary.path + "/folder/x.tmp", "temporary")
        try Files.write(primary.path + "/cache/entry", "cached")
    }

    private func start(_ rules: String...) throws {
        primary.settings.filter = try Filter(text: Array(rules.map { $0 + "\n" }.joined().utf8))
        try primary.start()
    }

    /// The paths that the catalog has, in order.
    private func paths() throws -> [String] {
        try primary.catalog.read { transaction in
            var paths: [String] = []
            try transaction.forEachName { place, _ in
                paths.append(PathText.joined((try transaction.path(of: place.parent) ?? []) + [place.name]))
            }
            return paths.sorted()
        }
    }

    private func expect(_ wanted: [String], _ location: SourceLocation = #_sourceLocation) throws {
        #expect(try paths() == wanted, sourceLocation: location)
        #expect(try primary.check().map(\.path) == [], sourceLocation: location)
        #expect(
            try primary.catalog.read { try $0.recomputedDigest() == $0.state.treeDigest }, sourceLocation: location)
    }

    @Test func firstScanAndLiveChanges() throws {
        // Not to be read at all.
        try start("- *.tmp", "- cache/")
        try expect(["folder", "folder/kept"])
        #expect(primary.progress.watches.load(ordering: .relaxed) == 2)
        #expect(primary.progress.filesRead.load(ordering: .relaxed) == 1)
        try Files.write(primary.path + "/folder/y.tmp", "temporary")
        try Files.write(primary.path + "/cache/more", "cached")
        try Files.write(primary.path + "/folder/file", "file")
        try Files.makeDirectory(primary.path + "/folder/cache")
        try Files.write(primary.path + "/folder/cache/entry", "cached")
        // A file of this name is none of the directories.
        try Files.makeDirectory(primary.path + "/other")
        try Files.write(primary.path + "/other/cache", "a file")
        try primary.mark()
        try expect(["folder", "folder/file", "folder/kept", "other", "other/cache"])
        #expect(primary.progress.watches.load(ordering: .relaxed) == 3)
    }

    /// A name that is renamed over the border comes or goes.
    @Test func renamesOverTheBorder() throws {
        try start("- *.tmp")
        let start = primary.sink.end.seq
        try Files.rename(primary.path + "/folder/kept", primary.path + "/folder/kept.tmp")
        try Files.rename(primary.path + "/folder/x.tmp", primary.path + "/folder/x")
        try Files.rename(primary.path + "/cache", primary.path + "/cache.tmp")
        try primary.mark()
        try expect(["folder", "folder/x"])
        let drops = try primary.changes(after: start).filter { if case .drop = $0 { true } else { false } }
        #expect(drops.count == 3)
        try Files.write(primary.path + "/cache.tmp/unseen", "unseen")
        try primary.mark()
        try Files.rename(primary.path + "/cache.tmp", primary.path + "/back")
        try primary.mark()
        try expect(["back", "back/entry", "back/unseen", "folder", "folder/x"])
    }

    @Test func anotherFilterIsAChange() throws {
        try start()
        #expect(primary.sink.segments.count == 1)
        primary.stop()
        try start("- *.tmp", "- cache/")
        try expect(["folder", "folder/kept"])
        let changes = try primary.changes(after: 1)
        #expect(changes.first == .filter(try #require(primary.settings.filter)))
        #expect(changes.filter { if case .drop = $0 { true } else { false } }.count == 3)
        primary.stop()
        // Nothing said: it stays, and nothing is emitted.
        primary.settings.filter = nil
        let end = primary.sink.end
        try primary.start()
        try expect(["folder", "folder/kept"])
        #expect(primary.sink.end == end)
        primary.stop()
        try start("- *.tmp")
        try expect(["cache", "cache/entry", "folder", "folder/kept"])
        primary.stop()
        try start()
        try expect(["cache", "cache/entry", "folder", "folder/kept", "folder/x.tmp"])
        #expect(try primary.catalog.read { try $0.filter() } == Filter.none)
    }

    /// The digest says which filter it is, also where the names are the same.
    @Test func equalTreesUnderOtherFiltersDiffer() throws {
        try start("- nothing")
        let one = try primary.catalog.state().treeDigest
        primary.stop()
        try start("- nothing else")
        #expect(try primary.catalog.state().treeDigest != one)
        #expect(primary.sink.segments.count == 2)
    }

    @Test func pathRulesFollowADirectoryThatMoves() throws {
        try Files.makeDirectory(primary.path + "/folder/deep")
        try Files.write(primary.path + "/folder/deep/a", "a")
        try Files.write(primary.path + "/folder/deep/b", "b")
        try start("- /folder/deep/a", "- /moved/deep/b", "- cache", "- *.tmp")
        try expect(["folder", "folder/deep", "folder/deep/b", "folder/kept"])
        try Files.rename(primary.path + "/folder", primary.path + "/moved")
        try primary.mark()
        try expect(["moved", "moved/deep", "moved/deep/a", "moved/kept"])
        // What happens in it is seen with its new path.
        try Files.write(primary.path + "/moved/deep/b", "other")
        try Files.write(primary.path + "/moved/deep/a", "other")
        try primary.mark()
        try expect(["moved", "moved/deep", "moved/deep/a", "moved/kept"])
        primary.stop()
        try Files.rename(primary.path + "/moved", primary.path + "/folder")
        try primary.start()
        try expect(["folder", "folder/deep", "folder/deep/b", "folder/kept"])
    }

    /// A write by the excluded name is one to the included one.
    @Test func hardLinkOverTheBorder() throws {
        try start("- *.tmp", "- cache/")
        try Files.link(primary.path + "/folder/kept", primary.path + "/folder/link.tmp")
        try primary.mark()
        try expect(["folder", "folder/kept"])
        try Files.patch(primary.path + "/folder/link.tmp", at: 0, Array("KEPT".utf8))
        try primary.mark()
        try expect(["folder", "folder/kept"])
        // The same size, and the same time: only the event tells.
        let before = try Files.status(primary.path + "/folder/kept")
        try Files.patch(primary.path + "/folder/link.tmp", at: 0, Array("Kept".utf8))
        var times = [before.st_atim, before.st_mtim]
        #expect(utimensat(AT_FDCWD, primary.path + "/folder/link.tmp", &times, 0) == 0)
        try primary.mark()
        try expect(["folder", "folder/kept"])
        try Files.setMode(primary.path + "/folder/link.tmp", 0o600)
        try primary.mark()
        try expect(["folder", "folder/kept"])
        try Files.remove(primary.path + "/folder/kept")
        try primary.mark()
        try expect(["folder"])
    }

    /// A filter that takes away most of the tree is doubted like any other removal, and what it was stays.
    @Test func aFilterIsGuarded() throws {
        for number in 0..<1200 { try Files.write(primary.path + "/folder/\(number).o", "") }
        try start()
        let before = try primary.catalog.state()
        primary.stop()
        #expect(throws: CaptureError.self) { try start("- *.o") }
        #expect(try primary.catalog.state().treeDigest == before.treeDigest)
        primary.stop()
        primary.settings.acceptsDeletions = true
        try primary.start()
        try expect(["cache", "cache/entry", "folder", "folder/kept", "folder/x.tmp"])
    }

    /// Random work in a tree with a filter, live and while nobody captures: what the catalog has is what the rules let
    /// through, by a walk that asks the rules of each path anew.
    @Test(arguments: [
        ["- n1*", "- *3*/"], ["+ /n2*/", "- */n2*", "- /n[3-5]*/**/m*", "- n[6-8]/"],
        ["- /m*/**/n*", "- n[0-5]/*[02468]", "+ /n?/n*", "- /n*/n*"],
    ])
    func randomWork(rules: [String]) throws {
        let random = SeededRandom()
        random.announce()
        let filter = try Filter(text: Array(rules.map { $0 + "\n" }.joined().utf8))
        primary.settings.filter = filter
        let matcher = filter.matcher
        var tree = RandomTree(primary.path, outside: primary.outside, random: random, makesLinks: false)
        for _ in 0..<100 { tree.step() }
        for round in 0..<12 {
            try primary.start()
            for _ in 0..<3 {
                for _ in 0..<25 { tree.step() }
                try primary.mark()
                var wanted: [String] = []
                try walk(try Directory.open(path: primary.path), []) { names, kind in
                    if !matcher.excludes(path: names, isDirectory: kind == .directory) {
                        wanted.append(PathText.joined(names))
                    }
                }
                #expect(try paths() == wanted.sorted(), "round \(round) \(random.reproduce)")
            }
            #expect(
                try check().map { "\($0.path) \($0.kind)" } == [],
                "round \(round) \(random.reproduce); \(tree.history.suffix(60))")
            primary.stop()
            for _ in 0..<20 { tree.step() }
        }
    }

    /// Without content: what is written by a name that is gone before anybody looked, with the time set back, is not seen
    /// by anybody.
    private func check() throws -> [TreeDifference] {
        try primary.catalog.read { transaction in
            try TreeCheck(isDeep: false, ignoresSpecial: true, progress: CaptureProgress())
                .run(transaction, root: try Directory.open(path: primary.path)).differences
        }
    }

    /// Everything that could be replicated, excluded or not.
    private func walk(_ directory: Directory, _ above: [Name], _ body: ([Name], Kind) throws -> Void) throws {
        for entry in try directory.entries() {
            guard let kind = try directory.status(of: entry.name).kind else { continue }
            let names = above + [entry.name]
            try body(names, kind)
            if kind == .directory { try walk(try directory.openDirectory(entry.name), names, body) }
        }
    }
}
