import Glibc
import Synchronization
import Testing
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// What is captured, and how little of it is shipped.
@Suite(.hangLimit) struct CaptureTests {
    private let primary: PrimaryTree
    private var random = SeededRandom(seed: 3)

    init() throws {
        primary = try PrimaryTree()
    }

    private func expectRight(_ location: SourceLocation = #_sourceLocation) throws {
        #expect(try primary.check().map(\.path) == [], sourceLocation: location)
        #expect(
            try primary.catalog.read { try $0.recomputedDigest() == $0.state.treeDigest }, sourceLocation: location)
    }

    @Test func firstScanIsABaselineWithoutEntries() throws {
        try Files.makeDirectory(primary.path + "/folder")
        try Files.write(primary.path + "/folder/file", "content")
        try primary.start()
        let segment = try #require(primary.sink.segments.first)
        #expect(primary.sink.segments.count == 1)
        #expect(segment.header.flags == .baseline && segment.header.entryCount == 0)
        #expect(try segment.header.treeDigest == primary.catalog.state().treeDigest)
        #expect(segment.header.lastObject == 3)
        try expectRight()
    }

    /// The settle time never comes in the test: only the mark itself can have captured these.
    @Test func markHoldsAllThatWasWrittenBeforeIt() throws {
        try primary.start()
        for round in 0..<40 {
            let folder = primary.path + "/a\(round)"
            try Files.makeDirectory(folder)
            try Files.makeDirectory(folder + "/b")
            try Files.write(folder + "/b/file", "round \(round)")
            try Files.write(primary.path + "/same", "round \(round)")
            let position = try primary.mark()
            #expect(position == primary.sink.end)
            try expectRight()
        }
    }

    /// Whose block makes up for the one that the hole saves.
    @Test mutating func aHoleIsSeenBesideALargeAttribute() throws {
        try primary.start()
        try Files.write(primary.path + "/file", random.bytes(20_000))
        try Files.setAttribute(primary.path + "/file", "user.large", random.bytes(2000))
        try Files.punch(primary.path + "/file", at: 4096, 4096)
        try primary.mark()
        let content = try #require(try primary.changes(after: 1).lazy.compactMap(\.fileContent).first)
        #expect(content.extents.contains { if case .hole(4096) = $0 { true } else { false } })
        try expectRight()
    }

    /// Only the write that makes a page dirty sets the file's times.
    @Test func eachScanFindsWhatWasWrittenThroughAMapping() throws {
        let path = primary.path + "/file"
        try Files.write(path, [UInt8](repeating: 1, count: 5000))
        try primary.start()
        let mapping = try Mapping(path)
        for round in 0..<4 {
            mapping.write([UInt8(10 + round)], at: 10)
            // Younger ones are not trusted anyhow, for the clock of inodes moves in steps.
            let changed = try Files.status(path).st_ctim
            let time = Int64(changed.tv_sec) * 1_000_000_000 + Int64(changed.tv_nsec)
            #expect(eventually { Clock.realtimeNanoseconds() - time > 30_000_000 })
            if round == 2 {
                // What is seen of it meanwhile must not make it look as if it had been read.
                let read = primary.progress.filesRead.load(ordering: .relaxed)
                try Files.setMode(path, 0o600)
                #expect(eventually { (try? Files.status(path).st_ctim.tv_nsec) != changed.tv_nsec })
                let later = Clock.realtimeNanoseconds()
                #expect(eventually { Clock.realtimeNanoseconds() - later > 30_000_000 })
                try primary.mark()
                #expect(primary.progress.filesRead.load(ordering: .relaxed) == read)
            }
            primary.mailbox!.rescan()
            try primary.mark()
            try expectRight()
        }
    }

    @Test func markOfNothingNewIsThePositionThatWas() throws {
        try primary.start()
        try Files.write(primary.path + "/file", "content")
        let position = try primary.mark()
        #expect(try primary.mark() == position)
        #expect(primary.sink.segments.count == 2)
    }

    /// Without a mark: settled changes come by themselves.
    @Test func changesAreCapturedWhenTheySettle() throws {
        primary.captureEagerly()
        try primary.start()
        try Files.write(primary.path + "/file", "content")
        #expect(eventually { primary.sink.segments.count >= 2 })
        #expect(try eventually { try primary.check().isEmpty })
    }

    // MARK: Little is shipped

    @Test func renamedDirectoryIsTwoNames() throws {
        try Files.makeDirectory(primary.path + "/old")
        for index in 0..<1000 { try Files.write(primary.path + "/old/f\(index)", "\(index)") }
        try primary.start()
        try Files.rename(primary.path + "/old", primary.path + "/new")
        try primary.mark()
        var names = 0
        for change in try primary.changes(after: 1) {
            switch change {
            case .bind(.root, Name("new"), 2), .unbind(.root, Name("old")): names += 1
            case .metadata(.root, _): break
            default: Issue.record("\(change)")
            }
        }
        #expect(names == 2)
        try expectRight()
    }

    /// Also from one directory into another, with what happens in it meanwhile.
    @Test func movedDirectoryKeepsItsObjectsAndItsWatch() throws {
        try Files.makeDirectory(primary.path + "/a")
        try Files.makeDirectory(primary.path + "/b")
        try Files.makeDirectory(primary.path + "/a/inner")
        try Files.write(primary.path + "/a/inner/file", "content")
        try primary.start()
        try Files.rename(primary.path + "/a/inner", primary.path + "/b/moved")
        try Files.write(primary.path + "/b/moved/second", "second")
        try primary.mark()
        try Files.write(primary.path + "/b/moved/third", "third")
        try primary.mark()
        let changes = try primary.changes(after: 1)
        #expect(changes.filter { if case .drop = $0 { true } else { false } }.isEmpty)
        #expect(changes.compactMap(\.fileContent).count == 2)
        try expectRight()
    }

    /// What a cut leaves of a block is a new block, which replicas hold without knowing.
    @Test mutating func whatIsLeftOfACutBlockIsNotSent() throws {
        let path = primary.path + "/large"
        let small = primary.path + "/small"
        try Files.write(path, random.bytes(3 << 20))
        try Files.write(small, random.bytes(900_000))
        try primary.start()
        func lastExtent(of path: String, _ change: () throws -> Void) throws -> (data: Int, isFetch: Bool) {
            let seq = primary.sink.end.seq
            try change()
            try primary.mark()
            let content = try #require(try primary.changes(after: seq).compactMap(\.fileContent).first)
            let isFetch = if case .fetch? = content.extents.last { true } else { false }
            #expect(content.extents.dropLast().allSatisfy { if case .copy = $0 { true } else { false } })
            return (try dataBytes(after: seq), isFetch)
        }
        for size in [2_000_000, 1_999_000, 500_000] {
            let (data, isFetch) = try lastExtent(of: path) { try Files.truncate(path, to: size) }
            #expect(data == 0 && isFetch, "\(size)")
        }
        for size in [500_000, 100_000] {
            let (data, isFetch) = try lastExtent(of: small) { try Files.truncate(small, to: size) }
            #expect(data == 0 && isFetch, "\(size)")
        }
        // Few bytes, and a short file that is written anew, are in the log, which needs nobody.
        let (few, _) = try lastExtent(of: path) { try Files.truncate(path, to: 4095) }
        #expect(few == 4095)
        let (anew, isFetch) = try lastExtent(of: small) { try Files.write(small, random.bytes(20_000)) }
        #expect(anew == 20_000 && !isFetch)
        try expectRight()
    }

    private func dataBytes(after seq: UInt64) throws -> Int {
        try primary.changes(after: seq).compactMap(\.fileContent).flatMap(\.extents).reduce(0) { sum, extent in
            if case .data(let range) = extent { sum + range.count } else { sum }
        }
    }

    @Test mutating func largeFileShipsOnlyWhatChanged() throws {
        let path = primary.path + "/large"
        try Files.write(path, random.bytes(8 << 20))
        try primary.start()
        try Files.append(path, random.bytes(1000))
        try primary.mark()
        let appended = try dataBytes(after: 1)
        #expect(appended >= 1000 && appended <= 2 * Limits.maxChunkBytes)
        let seq = primary.sink.end.seq
        try Files.patch(path, at: 4_000_000, random.bytes(10))
        try primary.mark()
        let patched = try dataBytes(after: seq)
        #expect(patched > 0 && patched <= 2 * Limits.maxChunkBytes)
        // Bytes put in at the front move all others, and not their blocks.
        let before = primary.sink.end.seq
        let bytes = try Files.read(path)
        try Files.write(path, [1, 2, 3] + bytes)
        try primary.mark()
        let inserted = try dataBytes(after: before)
        #expect(inserted > 0 && inserted <= 3 * Limits.maxChunkBytes)
        try expectRight()
    }

    @Test mutating func copyOfAKnownFileShipsNoContent() throws {
        let bytes = random.bytes(300_000)
        try Files.write(primary.path + "/original", bytes)
        try primary.start()
        try Files.write(primary.path + "/copy", bytes)
        try primary.mark()
        let contents = try primary.changes(after: 1).compactMap(\.fileContent)
        #expect(contents.count == 1)
        #expect(contents[0].extents == [.copy(source: 0, offset: 0, length: 300_000)])
        #expect(contents[0].sources.map(\.object) == [2])
        try expectRight()
    }

    /// An editor writes a new file and renames it over the old one: only what differs is content.
    @Test mutating func savedFileShipsOnlyWhatChanged() throws {
        var bytes = random.bytes(2 << 20)
        try Files.write(primary.path + "/text", bytes)
        try primary.start()
        bytes.insert(contentsOf: [1, 2, 3], at: 1 << 20)
        try Files.write(primary.path + "/.text.new", bytes)
        try Files.rename(primary.path + "/.text.new", primary.path + "/text")
        try primary.mark()
        let shipped = try dataBytes(after: 1)
        #expect(shipped > 0 && shipped <= 3 * Limits.maxChunkBytes)
        try expectRight()
    }

    @Test mutating func contentBeyondTheLimitIsLeftToBeFetched() throws {
        primary.settings.maxInlineBytes = 100_000
        try primary.start()
        try Files.write(primary.path + "/large", random.bytes(1_000_000))
        try Files.write(primary.path + "/small", random.bytes(99_000))
        try primary.mark()
        for content in try primary.changes(after: 1).compactMap(\.fileContent) {
            let isFetched = content.extents.allSatisfy { if case .fetch = $0 { true } else { false } }
            #expect(isFetched == (content.size == 1_000_000))
        }
        try expectRight()
    }

    @Test func sparseFileShipsHoles() throws {
        try primary.start()
        try Files.write(primary.path + "/sparse", [1])
        try Files.truncate(primary.path + "/sparse", to: 1 << 30)
        try primary.mark()
        #expect(try dataBytes(after: 1) <= 4096)
        try expectRight()
    }

    @Test func socketsAreLeftOut() throws {
        try primary.start()
        try Files.makeNode(primary.path + "/socket", S_IFSOCK | 0o600)
        try Files.makeNode(primary.path + "/fifo", S_IFIFO | 0o600)
        try Files.write(primary.path + "/file", "content")
        try primary.mark()
        #expect(try primary.catalog.read { try $0.children(of: .root).map(\.name) } == [Name("fifo"), Name("file")])
        #expect(primary.progress.skippedSpecial.load(ordering: .relaxed) == 1)
        for time in 1...3 {
            try Files.setTime(primary.path + "/socket", time)
            try primary.mark()
        }
        #expect(primary.progress.skippedSpecial.load(ordering: .relaxed) == 1)
        // A file that becomes one is gone.
        try Files.remove(primary.path + "/file")
        try Files.makeNode(primary.path + "/file", S_IFSOCK | 0o600)
        try primary.mark()
        #expect(try primary.catalog.read { try $0.children(of: .root).map(\.name) } == [Name("fifo")])
    }

    @Test(.enabled(if: geteuid() == 0)) func devicesAreCapturedWhenAskedFor() throws {
        func names() throws -> [Name] { try primary.catalog.read { try $0.children(of: .root).map(\.name) } }
        try Files.makeNode(primary.path + "/null", S_IFCHR | 0o666, 0x103)
        primary.settings.capturesDevices = false
        try primary.start()
        try primary.mark()
        #expect(try names().isEmpty)
        primary.stop()
        primary.settings.capturesDevices = true
        try primary.start()
        try primary.mark()
        #expect(try names() == [Name("null")])
        #expect(
            try primary.catalog.read { try $0.object($0.children(of: .root)[0].object)?.device }
                == DeviceNumber(major: 1, minor: 3))
        #expect(try primary.check().isEmpty)
    }

    @Test func attributesAreCapturedWithoutContent() throws {
        try Files.write(primary.path + "/file", [UInt8](repeating: 7, count: 100_000))
        try Files.makeDirectory(primary.path + "/folder")
        try primary.start()
        func attributes(_ name: String) throws -> Attributes {
            try primary.catalog.read { catalog in
                let object = try #require(try catalog.resolve([try Name(Array(name.utf8))]))
                return try catalog.object(object)!.metadata.attributes
            }
        }
        for name in ["file", "folder"] {
            try Files.setAttribute(primary.path + "/" + name, "user.colour", Array("blue".utf8))
        }
        try primary.mark()
        for name in ["file", "folder"] {
            #expect(try attributes(name).pairs.map(\.value) == [Array("blue".utf8)])
        }
        #expect(try dataBytes(after: 1) == 0)
        try Files.removeAttribute(primary.path + "/file", "user.colour")
        try primary.mark()
        #expect(try attributes("file").isEmpty)
        // Also what was changed while nobody looked, and nothing else shows.
        primary.stop()
        try Files.setAttribute(primary.path + "/folder", "user.colour", Array("red".utf8))
        try primary.start()
        #expect(try attributes("folder").pairs.map(\.value) == [Array("red".utf8)])
        try expectRight()
    }

    // MARK: What is hard to see

    /// The same size and the old time: only the event says that there was a write.
    @Test func timesThatAreSetBackHideNothing() throws {
        let path = primary.path + "/file"
        try Files.write(path, "content 1")
        try Files.link(path, primary.path + "/link")
        try Files.setTime(path, 1_000_000_000)
        try primary.start()
        for (round, name) in ["/file", "/link", "/moved", "/unlinked"].enumerated() {
            try Files.patch(primary.path + (round < 2 ? name : "/link"), at: 0, Array("CONTENT \(round)".utf8))
            try Files.setTime(path, 1_000_000_000)
            if name == "/moved" { try Files.rename(primary.path + "/link", primary.path + "/moved") }
            if name == "/unlinked" { try Files.remove(primary.path + "/link") }
            try primary.mark()
            #expect(try primary.check().map(\.path) == [], "\(name)")
            if name == "/moved" { try Files.rename(primary.path + "/moved", primary.path + "/link") }
        }
    }

    @Test func deepTreesAreCapturedAndRemoved() throws {
        primary.deletions = DeletionGuard(.share(100))
        try primary.start()
        var path = primary.path + "/deep"
        try Files.makeDirectory(path)
        while path.utf8.count < 4000 {
            path += "/d"
            try Files.makeDirectory(path)
        }
        try Files.write(path + "/file", "deep")
        try primary.mark()
        try expectRight()
        try Files.removeTree(primary.path + "/deep")
        try primary.mark()
        #expect(try primary.catalog.state().objectCount == 1)
    }

    /// As many renames as somebody likes, each over the one before.
    @Test func longChainOfRenames() throws {
        for index in 0..<3000 { try Files.write(primary.path + "/f\(index)", "\(index)") }
        try primary.start()
        for index in stride(from: 2999, through: 0, by: -1) {
            try Files.rename(primary.path + "/f\(index)", primary.path + "/f\(index + 1)")
        }
        try Files.rename(primary.path + "/f3000", primary.path + "/f0")
        try primary.mark()
        try expectRight()
        let changes = try primary.changes(after: 1)
        #expect(changes.allSatisfy { if case .put = $0 { false } else { true } })
    }

    /// a/b becomes b, and a goes below it: however the two are looked at, no segment may hold both below each other.
    @Test func directoriesThatChangePlaces() throws {
        primary.captureEagerly()
        try Files.makeDirectory(primary.path + "/a")
        try Files.makeDirectory(primary.path + "/a/b")
        try Files.write(primary.path + "/a/b/file", "content")
        try primary.start()
        for _ in 0..<50 {
            try Files.rename(primary.path + "/a/b", primary.path + "/b")
            try Files.rename(primary.path + "/a", primary.path + "/b/a")
            try Files.rename(primary.path + "/b/a", primary.path + "/a")
            try Files.rename(primary.path + "/b", primary.path + "/a/b")
            try Files.rename(primary.path + "/a/b", primary.path + "/b")
            try Files.rename(primary.path + "/a", primary.path + "/b/a")
            try primary.mark()
            try expectRight()
            try Files.rename(primary.path + "/b/a", primary.path + "/a")
            try Files.rename(primary.path + "/b", primary.path + "/a/b")
            try primary.mark()
            try expectRight()
        }
        // The objects lived through it all.
        #expect(try primary.catalog.state().lastObject == 4)
    }

    /// The kernel's queue holds so many events and no more; what it lost is found by looking at all.
    @Test func lostEventsLeadToARescan() throws {
        primary.captureEagerly()
        try primary.start()
        let text = String(decoding: try Files.read("/proc/sys/fs/inotify/max_queued_events").dropLast(), as: UTF8.self)
        let limit = try #require(Int(text))
        let folders = 100
        for index in 0..<folders { try Files.makeDirectory(primary.path + "/d\(index)") }
        try primary.mark()
        primary.sink.hold()
        try Files.write(primary.path + "/first", "first")
        #expect(primary.sink.waitForEmit())
        // Each of these is two events or more.
        for index in 0..<limit {
            try Files.write(primary.path + "/d\(index % folders)/f\(index % 20)", "\(index)")
        }
        try Files.makeDirectory(primary.path + "/late")
        try Files.write(primary.path + "/late/file", "late")
        primary.sink.release()
        try primary.mark()
        try expectRight()
        // Counted by the scan alone: at the start there was nothing.
        #expect(primary.progress.namesSeen.load(ordering: .relaxed) >= UInt64(folders))
    }

    // MARK: Files that are never quiet

    @Test func restlessFileIsCapturedAfterTheMaximumDelay() throws {
        primary.settings.settleNanoseconds = 10_000_000
        primary.settings.maxDelayNanoseconds = 200_000_000
        try primary.start()
        let path = primary.path + "/busy"
        try Files.write(path, [UInt8](repeating: 1, count: 4 << 20))
        let stopped = Monitor(false)
        let writer = try WorkerThread.start(name: "writer") {
            var round: UInt8 = 0
            while !stopped.withLock({ $0 }) {
                round &+= 1
                try? Files.patch(path, at: Int(round) * 4096, [UInt8](repeating: round, count: 4096))
            }
        }
        defer {
            stopped.update { $0 = true }
            writer.join()
        }
        // By itself, and by a mark.
        #expect(eventually { primary.sink.segments.contains { $0.header.flags.contains(.fuzzy) } })
        try primary.mark()
        #expect(try primary.catalog.read { try $0.resolve([Name("busy")]) != nil })
        stopped.update { $0 = true }
        writer.join()
        try primary.mark()
        #expect(try eventually { try primary.check().isEmpty })
        #expect(primary.progress.problems.isEmpty)
        #expect(try #require(primary.sink.segments.last).header.flags == [])
    }

    /// A file that is only ever appended to is captured as far as it went.
    @Test func growingFileHasAnEnd() throws {
        primary.settings.settleNanoseconds = 10_000_000
        primary.settings.maxDelayNanoseconds = 100_000_000
        try primary.start()
        let path = primary.path + "/log"
        try Files.write(path, "begin\n")
        let stopped = Monitor(false)
        let writer = try WorkerThread.start(name: "writer") {
            while !stopped.withLock({ $0 }) { try? Files.append(path, [UInt8](repeating: 0x61, count: 64)) }
        }
        defer {
            stopped.update { $0 = true }
            writer.join()
        }
        for _ in 0..<3 { try primary.mark() }
        #expect(try primary.catalog.read { try $0.resolve([Name("log")]) != nil })
        stopped.update { $0 = true }
        writer.join()
        #expect(try eventually { try primary.check().isEmpty })
    }

    @Test func stopAnswersThoseWhoWait() throws {
        primary.captureEagerly()
        try primary.start()
        let mailbox = try #require(primary.mailbox)
        let answers = Monitor(0)
        primary.sink.hold()
        try Files.write(primary.path + "/file", "content")
        #expect(primary.sink.waitForEmit())
        mailbox.mark { _ in answers.update { $0 += 1 } }
        mailbox.stop()
        mailbox.mark { _ in answers.update { $0 += 1 } }
        primary.sink.release()
        #expect(primary.stop() == nil)
        mailbox.mark { _ in answers.update { $0 += 1 } }
        #expect(answers.withLock { $0 } == 3)
    }

    /// What the log refuses is not in the catalog either.
    @Test func failureOfTheLogChangesNothing() throws {
        struct Full: Error {}
        try primary.start()
        let state = try primary.catalog.state()
        primary.sink.fail(with: Full())
        try Files.write(primary.path + "/file", "content")
        #expect(throws: Full.self) { try primary.mark() }
        #expect(primary.stop() is Full)
        #expect(try primary.catalog.state() == state)
        primary.sink.fail(with: nil)
        try primary.start()
        try expectRight()
        #expect(primary.sink.segments.count == 2)
    }
}

extension Change {
    var fileContent: FileContent? {
        if case .put(_, _, .file(let content)) = self { content } else { nil }
    }
}
