import Glibc
import Testing

/// What objects have beside names and content.
@Suite struct FidelityAttributeTests {
    private func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) } }

    @Test func extendedAttributes() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.setAttribute(root, "user.of-the-root", [1])
                try Do.makeDirectory(root / "folder")
                try Do.write(root / "file")
                try Do.symlink(root / "link", to: "file")
                for name in ["folder", "file", "link"] as [Bytes] {
                    try Do.setAttribute(root / name, "trusted.t", bytes(200))
                }
                try Do.setAttribute(root / "file", "user.empty", [])
                try Do.setAttribute(root / "file", Bytes(Array("user.".utf8) + [0xFF, 0x0A, 0x1B]), [0xFF])
                try Do.setAttribute(root / "file", "security.capability", Do.capability)
                try Do.setAttribute(root / "folder", "user.large", bytes(3_000))
                // Without a right to write, and still with its attributes.
                try Do.write(root / "read-only")
                try Do.setAttribute(root / "read-only", "user.x", [9])
                try Do.setMode(root / "read-only", 0)
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("set") { root in
                try Do.write(root / "new", "new")
                try Do.setAttribute(root / "new", "user.a", bytes(100))
                try Do.setAttribute(root / "new", "security.capability", Do.capability)
                try Do.setAttribute(root / "read-only", "user.y", bytes(20))
                try Do.setAttribute(root, "trusted.of-the-root", [2])
            }
            try mirrored.step("changed and removed") { root in
                try Do.setAttribute(root / "new", "user.a", bytes(101))
                try Do.removeAttribute(root / "file", "trusted.t")
                try Do.removeAttribute(root / "link", "trusted.t")
                try Do.removeAttribute(root, "user.of-the-root")
            }
            // The kernel takes a capability away with a change of the content or the owner.
            try mirrored.step("a capability that is lost by a write") { try Do.write($0 / "file", "more", at: 3) }
            try mirrored.step("a capability that is lost by a new owner") { try Do.setOwner($0 / "new", 5, 5) }
            try mirrored.step("a capability after the owner") { root in
                try Do.setOwner(root / "new", 6, 6)
                try Do.setAttribute(root / "new", "security.capability", Do.capability)
            }
            try mirrored.step("content and attribute at once, time set back") { root in
                let before = try Do.status(root / "file")
                try Do.setAttribute(root / "file", "user.empty", [1])
                try Do.write(root / "file", "abcd", at: 0)
                try Do.setTime(root / "file", before.st_mtim.tv_sec, before.st_mtim.tv_nsec)
            }
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    @Test func accessControlLists() throws {
        try withWorld { world in
            let access: Bytes = "system.posix_acl_access"
            let byDefault: Bytes = "system.posix_acl_default"
            let mirrored = try Mirrored(world) { root in
                try Do.setAttribute(root, byDefault, Do.accessList(user: 3, 7))
                try Do.makeDirectory(root / "heir")
                try Do.write(root / "heir/file")
                try Do.makeDirectory(root / "own")
                try Do.setAttribute(root / "own", byDefault, Do.accessList(user: 9, 5, others: 0))
                try Do.write(root / "own/file")
                try Do.setAttribute(root / "own/file", access, Do.accessList(user: 4, 6, others: 0))
                try Do.removeAttribute(root / "heir", byDefault)
                try Do.removeAttribute(root / "heir", access)
                try Do.makeDirectory(root / "heir/plain")
                try Do.write(root / "heir/plain/file")
                // Made where a list is inherited, and without one.
                try Do.write(root / "own/bare")
                try Do.removeAttribute(root / "own/bare", access)
                try Do.setMode(root / "own/bare", 0o4755)
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("made below lists that are inherited") { root in
                try Do.makeDirectory(root / "own/deep")
                try Do.makeDirectory(root / "own/deep/deeper")
                try Do.write(root / "own/deep/deeper/file")
                try Do.write(root / "own/bare2")
                try Do.removeAttribute(root / "own/bare2", access)
                try Do.makeDirectory(root / "own/bare3")
                try Do.removeAttribute(root / "own/bare3", access)
                try Do.removeAttribute(root / "own/bare3", byDefault)
                try Do.write(root / "own/bare3/file")
                try Do.symlink(root / "own/link", to: "x")
                try Do.makeNode(root / "own/fifo", S_IFIFO | 0o600)
            }
            try mirrored.step("changed, taken away, and the mode after it") { root in
                try Do.setAttribute(root / "own", byDefault, Do.accessList(user: 1, 1))
                try Do.removeAttribute(root / "own/file", access)
                try Do.setAttribute(root / "own/bare", access, Do.accessList(user: 8, 4))
                try Do.setMode(root / "own/bare", 0o2710)
            }
            try mirrored.step("without a default at the root") { try Do.removeAttribute($0, byDefault) }
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    /// What a replica's folder hands down to new files is not a part of them.
    @Test func aReplicaFolderThatHandsDownAList() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.makeDirectory(root / "folder")
                try Do.write(root / "folder/file")
                try Do.symlink(root / "link", to: "x")
                try Do.makeNode(root / "fifo", S_IFIFO | 0o600)
            }
            let folder = Bytes(try world.folder("replica"))
            try Do.setAttribute(folder, "system.posix_acl_default", Do.accessList(user: 77, 7))
            try Do.setMode(folder, 0o2755)
            try Do.setOwner(folder, 0, 50)
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("later", isVerified: true) { root in
                try Do.write(root / "folder/new")
                try Do.makeDirectory(root / "more")
                try Do.write(root / "more/inner")
                try Do.makeNode(root / "fifo2", S_IFIFO | 0o600)
                try Do.write(root / "folder/file", "changed")
            }
            try mirrored.stop()
        }
    }

    @Test func immutableFilesAreCountedAndComeAllTheSame() throws {
        try withWorld { world in
            // No event tells of the flags alone: a scan does.
            let mirrored = try Mirrored(world, ["--scan-interval", "1s"]) { root in
                try Do.write(root / "fixed", "fixed")
                try Do.makeDirectory(root / "folder")
                try Do.write(root / "folder/inside", "inside")
                try Do.write(root / "log", "one\n")
            }
            let source = mirrored.source
            defer {
                _ = try? world.run("chattr", "-R", "-i", "-a", source + "/fixed", source + "/folder", source + "/log")
            }
            try world.must("chattr", "+i", source + "/fixed", source + "/folder/inside")
            try world.must("chattr", "+a", source + "/log")
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.expectNote("3 objects are immutable or append-only")
            try mirrored.step("made immutable while it is watched, and appended to") { root in
                try world.must("chattr", "+i", source + "/folder")
                let file = try Do.openFile(root / "log", O_WRONLY | O_APPEND)
                defer { close(file) }
                write(file, "two\n", 4)
            }
            try mirrored.expectNote("4 objects are immutable or append-only")
            try mirrored.step("not any more") { _ in
                try world.must("chattr", "-i", source + "/folder", source + "/folder/inside", source + "/fixed")
            }
            try mirrored.expectNote("1 objects are immutable or append-only")
            try mirrored.step("removed", isVerified: true) { root in
                try world.must("chattr", "-a", source + "/log")
                try Do.remove(root / "log")
                try Do.write(root / "fixed", "changed")
            }
            try mirrored.expectNoNote("immutable")
            try mirrored.stop()
        }
    }

    @Test func ownersAreNumbersAndBitsSurviveThem() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                for (number, mode) in [0o4755, 0o2755, 0o6711, 0o1777, 0o7777, 0o4000, 0o0].enumerated() {
                    try Do.write(root / "file\(number)")
                    try Do.setOwner(root / "file\(number)", 60_000 + uid_t(number), 4_294_967_000)
                    try Do.setMode(root / "file\(number)", mode_t(mode))
                    try Do.makeDirectory(root / "folder\(number)")
                    try Do.setOwner(root / "folder\(number)", 4_294_967_000, 60_000 + gid_t(number))
                    try Do.setMode(root / "folder\(number)", mode_t(mode))
                }
                try Do.setOwner(root, 1234, 5678)
                try Do.setMode(root, 0o3770)
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("a new owner, and the bits again") { root in
                for number in 0..<7 {
                    let file = root / "file\(number)"
                    let mode = try Do.status(file).st_mode & 0o7777
                    try Do.setOwner(file, 5, 6)
                    try Do.setMode(file, mode)
                }
                try Do.setOwner(root / "folder1", 7, 7)
                try Do.setOwner(root, 5678, 1234)
            }
            try mirrored.step("a new owner alone, which takes bits") { root in
                for number in 0..<7 { try Do.setOwner(root / "file\(number)", 8, 9) }
            }
            try mirrored.step("content of files with bits", isVerified: true) { root in
                for number in 0..<7 {
                    let file = root / "file\(number)"
                    let mode = try Do.status(file).st_mode & 0o7777
                    try Do.write(file, "more")
                    try Do.setMode(file, mode | 0o4000)
                }
                try Do.write(root / "folder1/inherits the group")
                try Do.makeDirectory(root / "folder1/and the bit")
            }
            try mirrored.stop()
        }
    }

    @Test func aReplicaThatIsNotRoot() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.makeDirectory(root / "locked")
                try Do.write(root / "locked/file", "inside of what nobody may write to")
                try Do.write(root / "locked/secret", "mode 0")
                try Do.setMode(root / "locked/secret", 0)
                try Do.makeDirectory(root / "locked/deeper")
                try Do.write(root / "locked/deeper/file")
                try Do.setMode(root / "locked/deeper", 0o555)
                try Do.setMode(root / "locked", 0o500)
                try Do.write(root / "owned")
                try Do.setOwner(root / "owned", 12, 13)
                try Do.setMode(root / "owned", 0o2750)
                try Do.setAttribute(root / "owned", "user.x", [1])
                try Do.setAttribute(root / "owned", "trusted.x", [1])
                try Do.setAttribute(root / "owned", "security.capability", Do.capability)
                try Do.makeNode(root / "fifo", S_IFIFO | 0o400)
                try Do.symlink(root / "link", to: "owned")
                try Do.setOwner(root / "link", 9, 9)
            }
            let folder = try world.folder("replica")
            try Do.setOwner(Bytes(folder), 65_534, 65_534)
            let replica = try mirrored.replica(wrapper: World.asNobody)
            mirrored.oracle = {
                $0.ignoresOwners = true
                $0.leavesOwnersReading = true
                $0.ignoredAttributes = ["trusted.", "security."]
            }
            try mirrored.expectEqual("at first")
            try mirrored.expectNote("not run by root: owners are kept but not applied", of: replica)
            #expect(try Do.status(Bytes(folder) / "owned").st_uid == 65_534)
            try mirrored.step("content, owner and mode", isVerified: true) { root in
                try Do.write(root / "owned", "changed")
                try Do.setOwner(root / "owned", 99, 99)
                try Do.setMode(root / "owned", 0o400)
                try Do.setAttribute(root / "owned", "user.x", [2])
                try Do.write(root / "locked/secret", "still mode 0")
            }
            try mirrored.step("in directories that their owner may not write to", isVerified: true) { root in
                try Do.write(root / "locked/new")
                try Do.rename(root / "locked/file", root / "locked/deeper/moved")
                try Do.remove(root / "locked/deeper/file")
                try Do.makeDirectory(root / "locked/deeper/made")
                try Do.write(root / "locked/deeper/made/file")
                try Do.setMode(root / "locked/deeper/made", 0o111)
            }
            try mirrored.step("moved and removed", isVerified: true) { root in
                try Do.rename(root / "locked/deeper", root / "deeper")
                try world.must("rm", "-r", mirrored.source + "/locked")
            }
            try mirrored.step("the root's own mode", isVerified: true) { root in
                try Do.setMode(root, 0o555)
                try Do.write(root / "in a root that is read-only")
            }
            try replica.stop()
            try Do.write(mirrored.root / "while it was away")
            try replica.restart()
            try mirrored.expectEqual("after a restart")
            // Owners are in its catalog all the same.
            let log = try world.must(
                "sh", "-c", "for f in \(folder)/.wal/log/*.log; do \(World.programs)/walctl dump $f; done")
            #expect(log.contains("owner 99:99"))
            try mirrored.stop()
        }
    }
}
