import Glibc
import Synchronization
import Testing
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// What happened while nobody captured, and what must not be mistaken for it.
@Suite(.hangLimit) struct RestartTests {
    private let primary: PrimaryTree

    init() throws {
        primary = try PrimaryTree()
        try Files.makeDirectory(primary.path + "/folder")
        try Files.makeDirectory(primary.path + "/folder/inner")
        try Files.write(primary.path + "/folder/inner/file", "inner")
        try Files.write(primary.path + "/folder/file", "content")
        try Files.write(primary.path + "/file", "content")
        try Files.link(primary.path + "/file", primary.path + "/folder/link")
        try Files.symlink(primary.path + "/symlink", to: "file")
    }

    private func expectRight(_ location: SourceLocation = #_sourceLocation) throws {
        #expect(try primary.check().map(\.path) == [], sourceLocation: location)
        #expect(
            try primary.catalog.read { try $0.recomputedDigest() == $0.state.treeDigest }, sourceLocation: location)
    }

    @Test func scanOfAnUnchangedTreeEmitsNothing() throws {
        var tree = RandomTree(
            primary.path, outside: primary.outside, random: SeededRandom(seed: 5), makesLinks: true)
        for _ in 0..<300 { tree.step() }
        try primary.start()
        for _ in 0..<3 {
            primary.stop()
            try primary.start()
            try primary.mark()
        }
        #expect(primary.sink.segments.count == 1)
        try expectRight()
    }

    @Test func changesMadeMeanwhileAreEmitted() throws {
        try primary.start()
        primary.stop()
        try Files.write(primary.path + "/new", "new")
        try Files.remove(primary.path + "/symlink")
        try Files.setMode(primary.path + "/folder", 0o700)
        try Files.rename(primary.path + "/folder/inner", primary.path + "/inner")
        try Files.append(primary.path + "/folder/file", Array("more".utf8))
        try Files.remove(primary.path + "/file")
        try primary.start()
        try expectRight()
        let changes = try primary.changes(after: 1)
        // A moved directory is moved, not made again; a link that went leaves the file.
        #expect(changes.compactMap(\.fileContent).count == 2)
        #expect(changes.filter { if case .drop = $0 { true } else { false } }.count == 1)
    }

    /// The mark of a write may be lost with the process: the scan sees other times.
    @Test func randomWorkBetweenRunsIsFound() throws {
        let random = SeededRandom()
        random.announce()
        var tree = RandomTree(primary.path, outside: primary.outside, random: random, makesLinks: true)
        try primary.start()
        for _ in 0..<8 {
            for _ in 0..<10 { tree.step() }
            primary.stop()
            for _ in 0..<30 { tree.step() }
            // What was written with its old size and time is not to be seen without an event.
            for (path, status) in try Files.walk(primary.path) where status.st_mode & S_IFMT == S_IFREG {
                if geteuid() != 0 { try Files.setMode(path, 0o644) }
                try Files.append(path, [0x41])
            }
            try primary.start()
            #expect(try primary.check().map(\.path) == [], "\(random.reproduce)")
        }
    }

    /// A new catalog in an old history: a new baseline, and numbers that were never given before.
    @Test func catalogThatIsGoneBeginsWithABaseline() throws {
        try primary.start()
        try Files.write(primary.path + "/second", "second")
        try primary.mark()
        primary.stop()
        let last = try primary.catalog.state()
        try primary.reopenCatalog {
            for suffix in ["", "-wal", "-shm"] { try? Files.remove(primary.catalogPath + suffix) }
        }
        // What the log says, a node tells the new catalog.
        try primary.catalog.write {
            $0.state.position = last.position
            $0.state.lastObject = last.lastObject
        }
        try primary.start()
        let segment = try #require(primary.sink.segments.last)
        #expect(segment.header.flags == .baseline && segment.header.seq == 3)
        #expect(segment.header.lastObject > last.lastObject)
        try Files.write(primary.path + "/third", "third")
        try primary.mark()
        let made = try primary.changes(after: 3).compactMap {
            if case .put(let object, _, _) = $0 { object } else { nil }
        }
        #expect(made.allSatisfy { $0 > segment.header.lastObject } && !made.isEmpty)
        try expectRight()
    }

    /// A segment ended between the two halves of a move, and the process with it.
    @Test func objectsThatLostTheirNamesAreDropped() throws {
        try primary.start()
        primary.stop()
        let inner = try #require(try primary.catalog.read { try $0.resolve([Name("folder"), Name("inner")]) })
        try primary.catalog.write { transaction in
            let folder = try transaction.resolve([Name("folder")])!
            try transaction.unbind(Place(parent: folder, name: Name("inner")))
        }
        try Files.removeTree(primary.path + "/folder/inner")
        try primary.start()
        try expectRight()
        #expect(try primary.catalog.read { try $0.namelessObjects() } == [])
        #expect(try primary.changes(after: 1).contains(.drop(inner)))
    }

    // MARK: What is not taken for deleted

    @Test func replacedRootIsAnError() throws {
        try primary.start()
        let segments = primary.sink.segments.count
        try Files.rename(primary.path, primary.outside + "/moved")
        try Files.makeDirectory(primary.path)
        #expect(throws: CaptureError.self) { try primary.mark() }
        #expect(primary.stop() is CaptureError)
        // Nor by the next one.
        #expect(throws: CaptureError.self) { try primary.start() }
        #expect(primary.sink.segments.count == segments)
        // It is back, and all is as it was.
        try Files.removeDirectory(primary.path)
        try Files.rename(primary.outside + "/moved", primary.path)
        primary.stop()
        try primary.start()
        #expect(primary.sink.segments.count == segments)
        try expectRight()
    }

    @Test func missingRootIsAnError() throws {
        try primary.start()
        let segments = primary.sink.segments.count
        try Files.rename(primary.path, primary.outside + "/moved")
        try Files.remove(primary.outside + "/moved/file")
        #expect(throws: CaptureError.self) { try primary.mark() }
        #expect(primary.sink.segments.count == segments)
        primary.stop()
        try Files.rename(primary.outside + "/moved", primary.path)
    }

    /// A disk that is not mounted looks like this.
    @Test func emptiedTreeIsNotBelieved() throws {
        for index in 0..<1200 { try Files.write(primary.path + "/f\(index)", "\(index)") }
        try primary.start()
        primary.stop()
        let segments = primary.sink.segments.count
        for (path, status) in try Files.walk(primary.path) where status.st_mode & S_IFMT == S_IFREG {
            try Files.remove(path)
        }
        #expect(throws: CaptureError.self) { try primary.start() }
        primary.stop()
        #expect(primary.sink.segments.count == segments)
        #expect(try primary.catalog.state().objectCount > 1200)
        primary.settings.acceptsDeletions = true
        try primary.start()
        try expectRight()
        #expect(primary.sink.segments.count == segments + 1)
    }

    /// The capture's thread sees files as nobody does, who may not look into root's folders.
    @Test(.enabled(if: geteuid() == 0, "needs root, to be somebody else")) func unreadableIsReportedAndKept() throws {
        let nobody: UInt32 = 65534
        try Files.setMode(primary.outside, 0o755)
        for (path, _) in try Files.walk(primary.outside) { try Files.setOwner(path, nobody, nobody) }
        primary.user = nobody
        try primary.start()
        let before = try primary.catalog.read { try $0.nameCount() }
        let secret = primary.path + "/folder"
        try Files.setOwner(secret, 0, 0)
        try Files.setMode(secret, 0o700)
        try Files.setOwner(primary.path + "/file", 0, 0)
        try Files.setMode(primary.path + "/file", 0o600)
        try primary.mark()
        primary.mailbox!.rescan()
        try primary.mark()
        primary.stop()
        try primary.start()
        #expect(try primary.catalog.read { try $0.nameCount() } == before)
        #expect(primary.progress.problems.keys.contains("folder"))
        // Readable again, it is captured with what happened in it, and the report is gone.
        try Files.write(secret + "/new", "new")
        try Files.setOwner(secret + "/new", nobody, nobody)
        try Files.setMode(secret, 0o755)
        try Files.setMode(primary.path + "/file", 0o644)
        try primary.mark()
        try Files.write(secret + "/later", "later")
        try primary.mark()
        #expect(primary.progress.problems.isEmpty)
        try expectRight()
    }
}
