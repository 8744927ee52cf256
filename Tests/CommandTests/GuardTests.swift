import Foundation
import Testing
import WALTestKit

/// What looks like a deletion and may be none is never replicated as one.
@Suite(.hangLimit) struct GuardTests {
    private static let files = 1_500

    /// A source of so many files, with a primary and a replica that has them all.
    private func withPair(
        _ arguments: [String] = [],
        _ body: (_ world: World, _ source: String, _ primary: Node, _ replica: Node) throws -> Void
    ) throws {
        try withWorld { world in
            let source = try world.folder("place") + "/source"
            try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
            for number in 0..<Self.files { try writeFile("\(source)/file \(number)", "content") }
            let port = try freePort()
            let primary = try Node(world, "walship", source, ["--listen", "127.0.0.1:\(port)"] + arguments)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            try body(world, source, primary, replica)
            for node in [primary, replica] { try node.stop() }
        }
    }

    private func empty(_ source: String) throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: source) where name != ".wal" {
            try FileManager.default.removeItem(atPath: source + "/" + name)
        }
    }

    private func count(_ folder: String) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: folder).count { $0 != ".wal" }
    }

    /// Another disk of that size is mounted there: the tree is no smaller, and it is gone all the same.
    @Test func anotherTreeInItsPlaceIsNoReplacement() throws {
        try withPair { world, source, primary, replica in
            try primary.stop()
            try empty(source)
            // They are found first, and are in the log before it is seen what is gone.
            let content = [UInt8](repeating: 7, count: 12_000)
            for number in 0..<Self.files { try writeFile("\(source)/another \(number)", content) }
            try primary.restart()
            try expectStalled(world, primary, "\(Self.files) of \(Self.files + 1) objects are gone")
            // Nor does it end by itself.
            try until("another look") {
                (try primary.status()?.notes.filter { $0.contains("objects are gone") }.count ?? 0) > 0
            }
            usleep(7_000_000)
            try expectStalled(world, primary, "objects are gone")
            #expect(try text(ofFile: replica.folder + "/file 1") == "content")
            try world.must("walctl", "resume", source, "--accept-deletions")
            try world.catchUp(primary, [replica])
            #expect(FileManager.default.fileExists(atPath: replica.folder + "/another 1"))
            #expect(try count(replica.folder) == Self.files)
        }
    }

    /// Stalled, for a reason that says what to do, and not by word only: a mark is refused with the same words.
    private func expectStalled(_ world: World, _ primary: Node, _ reason: String) throws {
        let status = try primary.waitForState("stalled")
        #expect(status.notes.contains { $0.contains(reason) }, "\(status.notes)")
        let mark = try world.run("walctl", "mark", primary.folder)
        #expect(mark.status == 1 && mark.errors.contains(reason), "\(mark)")
        #expect(primary.child.errors.contains(reason), "\(primary.child.errors)")
    }

    @Test func anEmptiedSourceWaitsForAWord() throws {
        try withPair { world, source, primary, replica in
            try primary.stop()
            try empty(source)
            try primary.restart()
            try expectStalled(world, primary, "\(Self.files) of \(Self.files + 1) objects are gone")
            #expect(primary.child.errors.contains("walctl resume \(source) --accept-deletions"))
            #expect(try count(replica.folder) == Self.files)
            // Without the word nothing changes.
            let resumed = try world.run("walctl", "resume", source)
            #expect(resumed.status == 1 && resumed.errors.contains("are gone"), "\(resumed)")
            #expect(try count(replica.folder) == Self.files)

            let accepted = try world.must("walctl", "resume", source, "--accept-deletions")
            try world.must("walctl", "wait", replica.folder, accepted)
            #expect(try count(replica.folder) == 0)
            #expect(try primary.waitForState("streaming").notes.isEmpty)
        }
    }

    @Test func nobodyIsThereToAnswerForOnce() throws {
        try withPair { world, source, primary, replica in
            try primary.stop()
            try empty(source)
            let dead = try freePort()
            let refused = try world.run("walship", source, "--to", "127.0.0.1:\(dead)", "--once")
            #expect(refused.status == 1 && refused.errors.contains("start again with --accept-deletions"), "\(refused)")
            #expect(try count(replica.folder) == Self.files)

            let target = try freePort()
            let listening = try Node(
                world, "walrecv", try world.folder("listening"), ["--listen", "127.0.0.1:\(target)"])
            try until("it listens") { try listening.status() != nil }
            try world.must("walship", source, "--to", "127.0.0.1:\(target)", "--once", "--accept-deletions")
            #expect(try count(listening.folder) == 0)
            try listening.stop()
            try primary.restart()
        }
    }

    /// While it runs a removal takes its time, and its parts are each a small part of the tree.
    @Test func aSourceThatIsBeingEmptiedStopsHalfWay() throws {
        try withPair(["--settle", "1ms"]) { world, source, primary, replica in
            for number in 0..<Self.files {
                try FileManager.default.removeItem(atPath: "\(source)/file \(number)")
                if number % 50 == 0 { usleep(20_000) }
            }
            try expectStalled(world, primary, "objects are gone")
            #expect(try count(replica.folder) >= Self.files / 2)
            // Put back, it goes on without a word.
            for number in 0..<Self.files { try writeFile("\(source)/file \(number)", "content") }
            try primary.waitForState("streaming")
            try world.catchUp(primary, [replica])
            #expect(try world.difference(source, replica.folder) == "")
        }
    }

    /// Editors and restores put something new under each name.
    @Test func replacedFilesAreNotDeleted() throws {
        try withPair { world, source, primary, replica in
            try primary.stop()
            for number in 0..<Self.files {
                try writeFile("\(source)/new", "other \(number)")
                try FileManager.default.removeItem(atPath: "\(source)/file \(number)")
                try FileManager.default.moveItem(atPath: "\(source)/new", toPath: "\(source)/file \(number)")
            }
            try primary.restart()
            try world.catchUp(primary, [replica])
            #expect(try world.difference(source, replica.folder) == "")
        }
    }

    @Test func theLimitIsTheUsersChoice() throws {
        try withPair(["--max-delete", "10"]) { world, source, primary, replica in
            for number in 0..<11 { try FileManager.default.removeItem(atPath: "\(source)/file \(number)") }
            try expectStalled(world, primary, "of \(Self.files + 1) objects are gone")
            #expect(try count(replica.folder) >= Self.files - 10)
            try primary.stop()
            // None at all.
            let unlimited = try Node(world, "walship", source, Array(primary.arguments.dropLast()) + ["100%"])
            try empty(source)
            try world.catchUp(unlimited, [replica])
            #expect(try count(replica.folder) == 0)
            try unlimited.stop()
            try primary.restart()
        }
    }

    /// Its state went with it, so nothing is there to be lost.
    @Test func aRootThatIsReplacedDeletesNothing() throws {
        try withPair { world, source, primary, replica in
            try FileManager.default.moveItem(atPath: source, toPath: source + ".away")
            try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: false)
            // Something happens in the directory that is watched, so that it is looked at.
            try writeFile(source + ".away/file 0", "changed")
            let away = source + ".away"
            try until("it is stalled") {
                try Status(world.must("walctl", "status", away, "--json")).state == "stalled"
            }
            let mark = try world.run("walctl", "mark", away)
            #expect(mark.status == 1 && mark.errors.contains("is not the directory that it was"), "\(mark)")
            #expect(try count(replica.folder) == Self.files)
            #expect(try text(ofFile: replica.folder + "/file 0") == "content")
            // Put back, it goes on without a word.
            try FileManager.default.removeItem(atPath: source)
            try FileManager.default.moveItem(atPath: away, toPath: source)
            try primary.waitForState("streaming")
            try world.catchUp(primary, [replica])
            #expect(try text(ofFile: replica.folder + "/file 0") == "changed")
        }
    }

    /// What the message says to do, done to the letter.
    @Test func aNewRootThatIsMeantGoesOnWithTheHistory() throws {
        try withPair { world, source, primary, replica in
            let away = source + ".away"
            try FileManager.default.moveItem(atPath: source, toPath: away)
            try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: false)
            try writeFile(source + "/new", "of the new root")
            try writeFile(away + "/file 0", "changed")
            let note = try poll("a note") {
                let status = try Status(world.must("walctl", "status", away, "--json"))
                return status.notes.first { $0.contains("new one is meant") }
            }
            #expect(note.contains("stop, move .wal from the old one into it, start again there and then"), "\(note)")
            #expect(note.hasSuffix("walctl resume \(source) --accept-deletions"), "\(note)")
            #expect(try primary.child.terminate() == 0)
            try FileManager.default.moveItem(atPath: away + "/.wal", toPath: source + "/.wal")
            try primary.restart()
            try primary.waitForState("stalled")
            try world.must("walctl", "resume", source, "--accept-deletions")
            try world.catchUp(primary, [replica])
            #expect(try count(replica.folder) == 1)
            #expect(try text(ofFile: replica.folder + "/new") == "of the new root")
        }
    }

    @Test func aSymlinkForARootIsFollowedAndWatched() throws {
        try withWorld { world in
            let target = try world.folder("target")
            let other = try world.folder("other")
            try writeFile(target + "/file", "content")
            let source = world.path + "/source"
            try FileManager.default.createSymbolicLink(atPath: source, withDestinationPath: target)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            #expect(try text(ofFile: replica.folder + "/file") == "content")

            try FileManager.default.removeItem(atPath: source)
            try FileManager.default.createSymbolicLink(atPath: source, withDestinationPath: other)
            try writeFile(target + "/file", "changed")
            try until("it is stalled") {
                try Status(world.must("walctl", "status", target, "--json")).state == "stalled"
            }
            #expect(try text(ofFile: replica.folder + "/file") == "content")
            try FileManager.default.removeItem(atPath: source)
            try FileManager.default.createSymbolicLink(atPath: source, withDestinationPath: target)
            try until("it arrives") { try text(ofFile: replica.folder + "/file") == "changed" }
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// The lazy kind, as the others are refused while somebody has the root open.
    @Test func anUnmountedRootDeletesNothing() throws {
        try withWorld { world in
            let source = try world.mountExt4("source", megabytes: 32)
            for number in 0..<50 { try writeFile("\(source)/file \(number)", "content") }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            let device = try world.must("findmnt", "--noheadings", "--output", "SOURCE", source)
            try world.must("umount", "-l", source)
            try until("it says so") { primary.child.errors.contains("is not the directory that it was") }
            #expect(try count(replica.folder) == 50)
            try world.must("mount", device, source)
            defer { _ = try? world.run("umount", "-l", source) }
            try primary.waitForState("streaming")
            try writeFile(source + "/after", "after")
            try world.catchUp(primary, [replica])
            #expect(try count(replica.folder) == 51)
            for node in [primary, replica] { try node.stop() }
        }
    }

    @Test func aRemovedStateFolderIsNotWrittenTo() throws {
        try withMirroredFile { world, primary, replica, _, _ in
            let source = primary.folder
            try world.must("rm", "-rf", source + "/.wal")
            try writeFile(source + "/file", "changed")
            // Its socket is gone, too, so only the log tells.
            try until("it says so") {
                primary.child.errors.contains("was removed or replaced while it was in use")
            }
            #expect(try primary.child.terminate() == 0)
            // A history begins that the replica of the old one refuses.
            try primary.restart()
            try primary.waitForState("streaming")
            try until("it is refused") { replica.child.errors.contains("name the right primary") }
            #expect(try text(ofFile: replica.folder + "/file") == "content")
            for node in [primary, replica] { try node.stop() }
        }
    }

    @Test func whatAMountCoversIsKept() throws {
        try withWorld { world in
            let source = try world.folder("source")
            for name in ["sub", "bound", "elsewhere"] {
                try FileManager.default.createDirectory(atPath: "\(source)/\(name)", withIntermediateDirectories: true)
                try writeFile("\(source)/\(name)/precious", "kept")
            }
            try writeFile(source + "/file", "kept")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            try primary.stop()
            // Another file system; a directory of this one a second time; the same for a file; the tree in itself.
            try world.must("mount", "-t", "tmpfs", "tmpfs", source + "/sub")
            defer { _ = try? world.run("umount", "-l", source + "/sub") }
            try world.must("mount", "--bind", source + "/elsewhere", source + "/bound")
            defer { _ = try? world.run("umount", "-l", source + "/bound") }
            try writeFile(source + "/other", "of the bound file")
            try world.must("mount", "--bind", source + "/other", source + "/file")
            defer { _ = try? world.run("umount", "-l", source + "/file") }
            try FileManager.default.createDirectory(atPath: source + "/itself", withIntermediateDirectories: true)
            try world.must("mount", "--bind", source, source + "/itself")
            defer { _ = try? world.run("umount", "-l", source + "/itself") }
            try writeFile(source + "/sub/elsewhere", "on another file system")
            try writeFile(source + "/elsewhere/more", "more")
            try writeFile(source + "/beside", "beside")
            try primary.restart()
            try world.catchUp(primary, [replica])
            // Live, too.
            try writeFile(source + "/sub/live", "on another file system")
            try writeFile(source + "/bound/live", "in both directories")
            try world.catchUp(primary, [replica])

            let mirror = replica.folder
            #expect(try text(ofFile: mirror + "/beside") == "beside")
            #expect(try text(ofFile: mirror + "/sub/precious") == "kept")
            #expect(!FileManager.default.fileExists(atPath: mirror + "/sub/elsewhere"))
            #expect(!FileManager.default.fileExists(atPath: mirror + "/sub/live"))
            #expect(try FileManager.default.contentsOfDirectory(atPath: mirror + "/bound") == ["precious"])
            #expect(try text(ofFile: mirror + "/elsewhere/more") == "more")
            #expect(try text(ofFile: mirror + "/elsewhere/live") == "in both directories")
            #expect(try text(ofFile: mirror + "/file") == "kept")
            #expect(!FileManager.default.fileExists(atPath: mirror + "/itself"))
            let notes = try #require(try primary.status()).notes
            for name in ["sub", "bound", "file", "itself"] {
                #expect(notes.contains { $0.contains(name) && $0.contains("mount point") }, "\(name): \(notes)")
            }
            #expect(try world.run("walctl", "verify", source).status == 0)
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// No event of the tree tells of either. Nor of what is done in a directory that was covered when all were looked at.
    @Test func mountsThatComeAndGoAreSeenAtOnce() throws {
        try withWorld { world in
            let source = try world.folder("source")
            let point = source + "/above/with space"
            try FileManager.default.createDirectory(atPath: point, withIntermediateDirectories: true)
            try writeFile(point + "/precious", "kept")
            try world.must("mount", "-t", "tmpfs", "tmpfs", point)
            defer { _ = try? world.run("umount", "-l", source + "/beside/with space") }
            defer { _ = try? world.run("umount", "-l", point) }
            let port = try freePort()
            let primary = try world.primary(source, port: port, "--scan-interval", "0")
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            try world.must("umount", point)
            try world.catchUp(primary, [replica])
            try writeFile(point + "/later", "seen by its event")
            try world.catchUp(primary, [replica])
            #expect(try world.difference(source, replica.folder) == "")
            #expect(try #require(try primary.status()).notes.isEmpty)

            try world.must("mount", "-t", "tmpfs", "tmpfs", point)
            func note(_ path: String) throws -> Bool {
                try #require(try primary.status()).notes.contains { $0.hasPrefix(path + ": is a mount point") }
            }
            try until("the note") { try note("above/with space") }
            // The note goes with the directory.
            try FileManager.default.moveItem(atPath: source + "/above", toPath: source + "/beside")
            try until("the note of the other path") { try note("beside/with space") }
            #expect(try !note("above/with space"))
            try world.must("umount", source + "/beside/with space")
            try world.catchUp(primary, [replica])
            #expect(try #require(try primary.status()).notes.isEmpty)
            #expect(try world.difference(source, replica.folder) == "")
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// Its content is not to be had any more, and the mode that says so is.
    @Test func aFileThatItsOwnerClosesIsClosedOnTheReplica() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            try world.must("chown", "-R", "65534:65534", source)
            let port = try freePort()
            let primary = try Node(
                world, "walship", source, ["--listen", "127.0.0.1:\(port)"], wrapper: World.asNobody)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            // With a write that has left size and time as they were, so that it would have to be read.
            try world.must(
                "sh", "-c", "cd $0; chmod 200 file; touch -r file ../time; printf CONTENT >file; touch -r ../time file",
                source)
            try world.catchUp(primary, [replica])
            var status = stat()
            #expect(stat(replica.folder + "/file", &status) == 0 && status.st_mode & 0o777 == 0o200)
            #expect(try text(ofFile: replica.folder + "/file") == "content")
            #expect(try #require(try primary.status()).notes.contains { $0.contains("file") && $0.contains("denied") })
            // Written to by somebody else meanwhile: it is taken when it can be read again.
            try writeFile(source + "/file", "another")
            chmod(source + "/file", 0o600)
            try world.catchUp(primary, [replica])
            #expect(try text(ofFile: replica.folder + "/file") == "another")
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// Adopting removes what the primary does not have, and that must not be another file system.
    @Test func aMountIsNotAdopted() throws {
        try withWorld { world in
            let mirror = try world.folder("mirror")
            try FileManager.default.createDirectory(atPath: mirror + "/disk", withIntermediateDirectories: false)
            try world.must("mount", "-t", "tmpfs", "tmpfs", mirror + "/disk")
            defer { _ = try? world.run("umount", "-l", mirror + "/disk") }
            try writeFile(mirror + "/disk/file", "precious")
            let port = try freePort()
            let refused = try world.run("walrecv", mirror, "--adopt", "--from", "127.0.0.1:\(port)")
            #expect(refused.status == 1 && refused.errors.contains("disk is a mount point"), "\(refused)")
            #expect(try text(ofFile: mirror + "/disk/file") == "precious")
        }
    }

    @Test func onceCountsOnlyTheReplicasThatItDials() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let port = try freePort()
            let dead = try freePort()
            let primary = try world.start(
                "walship", [source, "--listen", "127.0.0.1:\(port)", "--to", "127.0.0.1:\(dead)", "--once"])
            let replica = try world.replica("replica", from: port)
            try until("the other replica has the tree") {
                FileManager.default.fileExists(atPath: replica.folder + "/file")
            }
            _ = try replica.waitForState("streaming")
            #expect(primary.isRunning)
            // Stopped before its condition was met, it does not claim that it was.
            #expect(try primary.terminate() == 2)
            try replica.stop()
        }
    }
}
