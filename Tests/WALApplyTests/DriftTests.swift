import Glibc
import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// Somebody writes to a replica: what he did is kept, the tree comes back, and the rest goes on.
@Suite(.hangLimit) struct DriftTests {
    private let primary: PrimaryTree
    private let replica: ReplicaTree
    private let blocks: PrimaryBlocks
    private var random = SeededRandom(seed: 11)

    init() throws {
        primary = try PrimaryTree()
        try primary.start()
        replica = try ReplicaTree(of: primary)
        blocks = PrimaryBlocks(primary)
        try Files.makeDirectory(primary.path + "/folder")
        try Files.makeDirectory(primary.path + "/folder/deep")
        try Files.write(primary.path + "/folder/deep/file", "deep")
        try Files.write(primary.path + "/folder/empty", "")
        try Files.symlink(primary.path + "/folder/symlink", to: "deep/file")
        try Files.write(primary.path + "/file", "version 1")
        try Files.write(primary.path + "/twin", "twin")
        try Files.link(primary.path + "/twin", primary.path + "/folder/twin")
        try Files.write(primary.path + "/large", random.bytes(5 << 20))
        try primary.mark()
        try replica.follow(primary)
        try expectEqual(drift: [])
    }

    private func expectEqual(drift: [String], _ location: SourceLocation = #_sourceLocation) throws {
        let differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
        #expect(differences == [], sourceLocation: location)
        #expect(try replica.digestIsRight(), sourceLocation: location)
        #expect(try replica.catalog.state().isComplete, sourceLocation: location)
        #expect(Set(replica.quarantine.takeDrift().map(\.path)) == Set(drift), sourceLocation: location)
        #expect(try Files.list(replica.stagingPath) == [], sourceLocation: location)
    }

    private func kept() throws -> [String: [UInt8]] {
        var found: [String: [UInt8]] = [:]
        for name in try Files.list(replica.quarantinePath) {
            let path = replica.quarantinePath + "/" + name
            let short = String(name[name.index(after: name.firstIndex(of: "-")!)...])
            found[short] = (try? Files.read(path)) ?? []
        }
        return found
    }

    @Test func editedFileIsKeptBeforeItIsReplaced() throws {
        try Files.write(replica.path + "/file", "somebody's words")
        try Files.write(primary.path + "/file", "version 2")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept() == ["file": Array("somebody's words".utf8)])
        try expectEqual(drift: ["file"])
    }

    @Test func editedFileIsKeptBeforeItIsRemoved() throws {
        try Files.append(replica.path + "/file", Array("more".utf8))
        try Files.remove(primary.path + "/file")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept() == ["file": Array("version 1more".utf8)])
        try expectEqual(drift: ["file"])
    }

    @Test func editedFileIsNotHiddenByNewMetadata() throws {
        try Files.write(replica.path + "/file", "Version 1")
        try Files.setMode(primary.path + "/file", 0o600)
        try Files.write(primary.path + "/new", "new")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept() == ["file": Array("Version 1".utf8)])
        try expectEqual(drift: ["file"])
    }

    /// Mode and owner are somebody's, too, and are found wherever the primary changes anything of what has them.
    @Test func anotherModeIsHealedWhateverTheChange() throws {
        try Files.setMode(replica.path + "/file", 0o600)
        try Files.write(primary.path + "/file", "version 2")
        try Files.setMode(replica.path + "/twin", 0o606)
        try Files.rename(primary.path + "/twin", primary.path + "/moved")
        try Files.setMode(replica.path + "/folder/empty", 0o622)
        try Files.setMode(primary.path + "/folder/empty", 0o640)
        try Files.setMode(replica.path + "/folder/deep", 0o711)
        try Files.rename(primary.path + "/folder/deep", primary.path + "/folder/depth")
        if geteuid() == 0 { #expect(lchown(replica.path + "/folder/symlink", 4, 5) == 0) }
        try Files.rename(primary.path + "/folder/symlink", primary.path + "/symlink")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept() == [:])
        try expectEqual(
            drift: ["file", "moved", "folder/empty", "folder/depth"] + (geteuid() == 0 ? ["symlink"] : []))
    }

    @Test func editedFileIsHealedWhenItIsMoved() throws {
        try Files.append(replica.path + "/twin", Array(" edited".utf8))
        try Files.rename(primary.path + "/twin", primary.path + "/moved")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept().values.contains(Array("twin edited".utf8)))
        try expectEqual(drift: ["twin", "folder/twin", "moved"])
    }

    /// A patch over other content would make a file that nobody ever had.
    @Test mutating func editedLargeFileIsNotPatched() throws {
        try Files.patch(replica.path + "/large", at: 100, [1, 2, 3])
        try Files.patch(primary.path + "/large", at: 3_000_000, random.bytes(50))
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept()["large"]?.count == 5 << 20)
        try expectEqual(drift: ["large"])
    }

    @Test func replacedFileIsKept() throws {
        try Files.remove(replica.path + "/file")
        try Files.write(replica.path + "/file", "another")
        try Files.write(primary.path + "/file", "version 2")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept() == ["file": Array("another".utf8)])
        try expectEqual(drift: ["file"])
    }

    @Test func directoryInPlaceOfAFileIsKept() throws {
        try Files.remove(replica.path + "/file")
        try Files.makeDirectory(replica.path + "/file")
        try Files.write(replica.path + "/file/inside", "inside")
        try Files.write(primary.path + "/file", "version 2")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept().keys.sorted() == ["file"])
        try expectEqual(drift: ["file"])
    }

    @Test func foreignFileInTheWayIsKept() throws {
        try Files.write(replica.path + "/new", "foreign")
        try Files.write(replica.path + "/newFolder", "foreign too")
        try Files.write(primary.path + "/new", "ours")
        try Files.makeDirectory(primary.path + "/newFolder")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept() == ["new": Array("foreign".utf8), "newFolder": Array("foreign too".utf8)])
        try expectEqual(drift: ["new", "newFolder"])
    }

    @Test func foreignFileInARemovedDirectoryIsKept() throws {
        try Files.write(replica.path + "/folder/deep/foreign", "foreign")
        try Files.removeTree(primary.path + "/folder")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        let kept = try Files.walk(replica.quarantinePath).map(\.path).filter { $0.hasSuffix("/foreign") }
        #expect(kept.count == 1)
        try expectEqual(drift: ["folder/deep"])
    }

    @Test func removedFileComesBackWhenItChanges() throws {
        try Files.remove(replica.path + "/file")
        try Files.remove(replica.path + "/large")
        try Files.write(primary.path + "/file", "version 2")
        try Files.patch(primary.path + "/large", at: 1_000_000, [1, 2, 3])
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        #expect(try kept().isEmpty)
        try expectEqual(drift: [])
    }

    @Test func removedFileComesBackWhenItIsMovedOrTouched() throws {
        try Files.remove(replica.path + "/file")
        try Files.remove(replica.path + "/large")
        try Files.rename(primary.path + "/file", primary.path + "/moved")
        try Files.setMode(primary.path + "/large", 0o600)
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        try expectEqual(drift: ["moved", "large"])
    }

    @Test func removedDirectoryComesBackWhenSomethingHappensInIt() throws {
        try Files.removeTree(replica.path + "/folder")
        try Files.write(primary.path + "/folder/new", "new")
        try Files.write(primary.path + "/file", "version 2")
        try primary.mark()
        try replica.follow(primary, blocks: blocks)
        let drift = replica.quarantine.takeDrift().map(\.path)
        #expect(drift.contains("folder") && drift.contains("folder/deep/file"))
        try expectEqual(drift: [])
    }

    /// Without anybody to ask, the rest is applied, and what is lost comes with the next connection.
    @Test func whatIsLostWaitsForAConnection() throws {
        try Files.remove(replica.path + "/twin")
        try Files.write(replica.path + "/file", "edited")
        try Files.setMode(primary.path + "/file", 0o600)
        try Files.write(primary.path + "/new", "new")
        try primary.mark()
        try replica.follow(primary)
        #expect(try Files.read(replica.path + "/new") == Array("new".utf8))
        #expect(!Files.exists(replica.path + "/file"))
        #expect(try !replica.catalog.state().isComplete)
        try replica.restart()
        try replica.applier.recover()
        #expect(try replica.applier.fetchMissing(from: blocks) == 0)
        #expect(try Files.read(replica.path + "/file") == Array("version 1".utf8))
        #expect(try replica.catalog.state().isComplete)
    }

    /// A restart publishes the last batch again: what somebody did to it since is not an error.
    @Test func recoverStandsWhatWasDoneSince() throws {
        try Files.write(primary.path + "/file", "version 2")
        try Files.symlink(primary.path + "/link", to: "file")
        try primary.mark()
        try replica.follow(primary)
        try Files.remove(replica.path + "/file")
        try Files.remove(replica.path + "/link")
        try Files.write(replica.path + "/link", "foreign")
        try replica.restart()
        try replica.applier.recover()
        #expect(try kept() == ["link": Array("foreign".utf8)])
        #expect(try replica.applier.fetchMissing(from: blocks) == 0)
        try expectEqual(drift: ["file", "link"])
    }
}
