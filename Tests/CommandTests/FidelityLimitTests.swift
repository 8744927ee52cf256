import Foundation
import Glibc
import Testing
import WALTestKit

/// What an entry, a file system or a user namespace does not take is said, and ends no process.
@Suite(.enabled(if: World.isRoot, "needs root, to mount file systems"), .hangLimit) struct FidelityLimitTests {
    private static let xfs = ["mkfs.xfs", "-q"]

    @Test func moreAttributesThanAnEntryHolds() throws {
        try withWorld { world in
            _ = try world.mountImage("disk", megabytes: 700, Self.xfs)
            let source = try world.folder("disk/source")
            let large = [UInt8](repeating: 7, count: 60_000)
            let mirrored = try Mirrored(world, source: source) { root in
                try Do.write(root / "file", "content")
                try Do.makeDirectory(root / "folder")
                for name in ["file", "folder"] {
                    try Do.setAttribute(root / Bytes(name), "user.small", [1, 2])
                    for attribute in ["user.a", "user.b"] {
                        try Do.setAttribute(root / Bytes(name), Bytes(attribute), large)
                    }
                }
            }
            let replica = try mirrored.replica("disk/replica")
            try world.catchUp(mirrored.primary, [replica])
            func small(_ name: String) throws -> [UInt8]? {
                try Do.attributes(Bytes("\(replica.folder)/\(name)"))[Array("user.small".utf8)]
            }
            let note = "2 objects have more than 98304 bytes of extended attributes"
            try mirrored.expectNote(note)
            for name in ["file", "folder"] { #expect(try small(name) == [1, 2], "\(name)") }
            // Also of one whose content or time is looked at later, and after a restart.
            try Do.write(mirrored.root / "file", "other content")
            try Do.setAttribute(mirrored.root / "file", "user.small", [3])
            try world.catchUp(mirrored.primary, [replica])
            #expect(try small("file") == [3])
            try mirrored.expectNote(note)
            try mirrored.primary.stop()
            try mirrored.primary.restart()
            try world.catchUp(mirrored.primary, [replica])
            try mirrored.expectNote(note)
            // What they are is no reason not to look at the content: same size, same time, while nobody looks.
            try mirrored.primary.stop()
            let before = try Do.status(mirrored.root / "file").st_mtim
            try Do.write(mirrored.root / "file", "OTHER CONTENT")
            try Do.setTime(mirrored.root / "file", before.tv_sec, before.tv_nsec)
            try mirrored.primary.restart()
            try world.catchUp(mirrored.primary, [replica])
            #expect(try text(ofFile: replica.folder + "/file") == "OTHER CONTENT")
            for name in ["file", "folder"] {
                try Do.removeAttribute(mirrored.root / Bytes(name), "user.b")
            }
            try world.catchUp(mirrored.primary, [replica])
            try mirrored.expectNoNote("bytes of extended attributes")
            mirrored.oracle = { _ in }
            try mirrored.expectEqual("with all of them")
            try mirrored.stop()
        }
    }

    /// XFS takes targets of up to 1023 bytes.
    @Test func aSymlinkThatTheFileSystemDoesNotTake() throws {
        try withWorld { world in
            _ = try world.mountImage("disk", megabytes: 700, Self.xfs)
            let mirrored = try Mirrored(world) { try Do.write($0 / "file") }
            let replica = try mirrored.replica("disk/replica")
            try mirrored.expectEqual("before it")
            try Do.symlink(mirrored.root / "long", to: Bytes([UInt8](repeating: 0x78, count: 1500)))
            let stalled = try replica.waitForState("stalled")
            #expect(stalled.notes.contains { $0.contains("File name too long (symlinkat)") }, "\(stalled.notes)")
            // It is tried again for as long as it takes.
            usleep(1_500_000)
            #expect(try replica.status()?.state == "stalled")
            #expect(replica.child.errors.contains("; trying again"), "\(replica.child.errors)")
            try mirrored.stop()
        }
    }

    /// As root of a container, to whom most owners do not exist.
    @Test func ownersThatANamespaceLacks() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.write(root / "file", "content")
                try Do.setOwner(root / "file", 1234, 1234)
            }
            let replica = try mirrored.replica(wrapper: ["unshare", "--user", "--map-root-user"])
            mirrored.oracle = { oracle in
                oracle.ignoresOwners = true
                oracle.leavesOwnersReading = true
                oracle.ignoredAttributes = ["trusted.", "security."]
            }
            try world.catchUp(mirrored.primary, [replica])
            try mirrored.step("another owner", isVerified: false) { root in
                try Do.setOwner(root / "file", 4321, 4321)
                try Do.write(root / "new")
                try Do.setOwner(root / "new", 99, 98)
            }
            try mirrored.expectNote("user namespace that lacks owners", of: replica)
            try mirrored.stop()
        }
    }
}
