import Glibc
import Testing

/// Several names of one object, names that lead elsewhere, and what is no file at all.
@Suite struct FidelityLinkTests {
    @Test func hardLinksAreNamesOfOneObject() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.makeDirectory(root / "a")
                try Do.makeDirectory(root / "b")
                try Do.write(root / "a/one", "first")
                try Do.link(root / "a/one", root / "a/two")
                try Do.link(root / "a/one", root / "b/three")
                try Do.symlink(root / "a/soft", to: "nowhere")
                try Do.link(root / "a/soft", root / "b/soft")
                try Do.makeNode(root / "a/fifo", S_IFIFO | 0o640)
                try Do.link(root / "a/fifo", root / "b/fifo")
                try Do.write(root / "pair", "pair")
                try Do.link(root / "pair", root / "other")
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("added") { root in
                try Do.link(root / "b/three", root / "b/four")
                try Do.link(root / "b/soft", root / "soft")
                try Do.link(root / "b/fifo", root / "fifo")
            }
            try mirrored.step("renamed inside the group") { root in
                try Do.rename(root / "a/two", root / "a/deux")
                try Do.rename(root / "b/soft", root / "b/doux")
            }
            // rename(2) of one name of an object to another one does nothing at all.
            try mirrored.step("renamed onto a name of itself") { try Do.rename($0 / "a/one", $0 / "a/deux") }
            try mirrored.step("across directories") { root in
                try Do.rename(root / "a/deux", root / "b/deux")
                try Do.rename(root / "b/fifo", root / "a/tube")
            }
            try mirrored.step("first name removed") { try Do.remove($0 / "a/one") }
            try mirrored.step("written by one name, metadata by another") { root in
                try Do.write(root / "b/four", "second, and longer")
                try Do.setMode(root / "b/three", 0o4711)
                try Do.setTime(root / "b/deux", 1_000_000, 5)
            }
            try mirrored.step("a name replaced by a file of its own") { root in
                try Do.write(root / "new", "alone")
                try Do.rename(root / "new", root / "b/three")
            }
            try mirrored.step("names of two groups exchanged") { try Do.exchange($0 / "pair", $0 / "b/four") }
            try mirrored.step("a directory with some of the names moved, and a name more") { root in
                try Do.rename(root / "b", root / "a/inner")
                try Do.link(root / "a/inner/deux", root / "again")
            }
            try mirrored.step("all but one removed, and one made again") { root in
                try Do.remove(root / "again")
                try Do.remove(root / "pair")
                try Do.remove(root / "a/inner/deux")
                try Do.link(root / "other", root / "a/inner/deux")
            }
            // Unlinked while it is open, and given a name again: the same object throughout.
            try mirrored.step("nameless for a while") { root in
                try Do.write(root / "open", "kept open")
                let file = try Do.openFile(root / "open", O_RDWR)
                defer { close(file) }
                try mirrored.expectEqual("with its name")
                try Do.remove(root / "open")
                try mirrored.expectEqual("without its name")
                try Do.write(file, Array("written while nameless".utf8), at: 0)
                linkat(AT_FDCWD, "/proc/self/fd/\(file)", AT_FDCWD, mirrored.source + "/closed", AT_SYMLINK_FOLLOW)
            }
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    /// As backups by hard links have: a look at one name must not become a look at all of them.
    @Test func anObjectWithManyNames() throws {
        try withWorld { world in
            let count = 20_000
            let mirrored = try Mirrored(world) { root in
                try Do.makeDirectory(root / "first")
                try Do.write(root / "file")
                for number in 0..<100 { try Do.link(root / "file", root / "first/\(number)") }
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("many names") { root in
                try Do.makeDirectory(root / "second")
                for number in 0..<count { try Do.link(root / "file", root / "second/\(number)") }
            }
            try mirrored.step("written to by one of them") { try Do.write($0 / "second/77", "other") }
            try mirrored.step("half of them renamed") { root in
                try Do.makeDirectory(root / "third")
                for number in 0..<count / 2 { try Do.rename(root / "second/\(number)", root / "third/\(number)") }
            }
            try mirrored.step("most of them removed") { root in
                for number in 10..<count {
                    try Do.remove(root / (number < count / 2 ? "third/\(number)" : "second/\(number)"))
                }
            }
            try mirrored.stop()
        }
    }

    @Test func symlinksOfAnyTarget() throws {
        try withWorld { world in
            let long = Bytes([UInt8](repeating: 0x78, count: 4095))
            let odd = Bytes([0x2F, 0xFF, 0xFE, 0x0A, 0x1B, 0x5C, 0x20, 0x2D])
            let mirrored = try Mirrored(world) { root in
                try Do.symlink(root / "dangling", to: "not/there")
                try Do.symlink(root / "long", to: long)
                try Do.symlink(root / "odd", to: odd)
                try Do.symlink(root / "self", to: "self")
                try Do.symlink(root / "above", to: "../../../../etc/passwd")
                try Do.symlink(root / "state", to: ".wal")
                for name in ["dangling", "long", "odd", "above"] as [Bytes] {
                    try Do.setOwner(root / name, 12_345, 4_000_000_000)
                    try Do.setTime(root / name, -86_400, 123_456_789)
                }
                try Do.setAttribute(root / "odd", "trusted.note", [0, 1, 2])
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("new ones") { root in
                try Do.symlink(root / "long2", to: long)
                try Do.symlink(root / "odd2", to: odd)
                try Do.setOwner(root / "odd2", 7, 8)
                try Do.setTime(root / "odd2", 4_000_000_000, 1)
                try Do.setAttribute(root / "long2", "trusted.note", [3])
            }
            try mirrored.step("another target under the same name, and of the same length") { root in
                try Do.remove(root / "dangling")
                try Do.symlink(root / "dangling", to: "got/here!")
                try Do.symlink(root / "new", to: "replaced")
                try Do.rename(root / "new", root / "long")
            }
            try mirrored.step("only its owner, its time, its attribute") { root in
                try Do.setOwner(root / "self", 1, 2)
                try Do.setTime(root / "above", 99, 99)
                try Do.removeAttribute(root / "odd", "trusted.note")
            }
            try mirrored.step("a file, a directory and a symlink again") { root in
                try Do.remove(root / "odd")
                try Do.write(root / "odd", "file")
                try mirrored.expectEqual("file")
                try Do.remove(root / "odd")
                try Do.makeDirectory(root / "odd")
                try Do.write(root / "odd/inside", "x")
                try mirrored.expectEqual("directory")
                try Do.remove(root / "odd/inside")
                try Do.removeDirectory(root / "odd")
                try Do.symlink(root / "odd", to: odd)
            }
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    @Test func fifosAreThereAndSocketsAreCounted() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.makeNode(root / "fifo", S_IFIFO | 0o2600)
                try Do.setTime(root / "fifo", 1000, 1000)
                try Do.setAttribute(root / "fifo", "trusted.x", [1])
                try Do.makeSocket(root / "s1")
                try Do.makeDirectory(root / "run")
                try Do.makeSocket(root / "run/s2")
                try Do.makeSocket(root / "run/s3")
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.expectNote("sockets and devices are not replicated: 3 ")
            try mirrored.step("a fifo more, and a socket") { root in
                try Do.makeNode(root / "run/fifo", S_IFIFO | 0o600)
                try Do.setOwner(root / "run/fifo", 3, 4)
                try Do.makeSocket(root / "run/s4")
            }
            try mirrored.expectNote("sockets and devices are not replicated: 4 ")
            try mirrored.step("a file in the place of a socket, and a socket in that of a file") { root in
                try Do.remove(root / "s1")
                try Do.write(root / "s1", "a file now")
                try Do.remove(root / "fifo")
                try Do.makeSocket(root / "fifo")
            }
            try mirrored.expectNote("sockets and devices are not replicated: 4 ")
            try mirrored.step("moved with their directory") { try Do.rename($0 / "run", $0 / "ran") }
            try mirrored.expectNote("sockets and devices are not replicated: 4 ")
            try mirrored.step("removed with their directory") { _ in
                try world.must("rm", "-r", mirrored.source + "/ran")
            }
            try mirrored.expectNote("sockets and devices are not replicated: 1 ")
            try mirrored.step("moved out of the tree with their directory") { root in
                try Do.makeDirectory(root / "out")
                try Do.makeSocket(root / "out/s5")
                try mirrored.expectEqual("made")
                try mirrored.expectNote("sockets and devices are not replicated: 2 ")
                try Do.rename(root / "out", Bytes(world.path) / "outside")
            }
            try mirrored.expectNote("sockets and devices are not replicated: 1 ")
            try mirrored.step("the last one") { try Do.remove($0 / "fifo") }
            try mirrored.expectNoNote("sockets and devices")
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    /// Of drivers that do not exist, so that nobody can do harm by opening one.
    private func makeDevices(_ root: Bytes, _ minor: UInt64) throws {
        try Do.makeNode(root / "char\(minor)", S_IFCHR | 0o640, dev_t(0xF000 + minor))
        try Do.makeNode(root / "block\(minor)", S_IFBLK | 0o604, dev_t(0xF100 + minor))
        try Do.setTime(root / "char\(minor)", 2_000_000_000, 7)
        try Do.setOwner(root / "block\(minor)", 5, 6)
    }

    @Test func devicesWhenAskedFor() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world, ["--devices"]) { root in
                try makeDevices(root, 1)
                try Do.setAttribute(root / "char1", "trusted.x", [1])
                try Do.link(root / "char1", root / "twin")
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("more") { try makeDevices($0, 2) }
            try mirrored.step("another device under the same name") { root in
                try Do.remove(root / "char2")
                try Do.makeNode(root / "char2", S_IFCHR | 0o640, dev_t(0xF022))
            }
            try mirrored.step("a socket, of which the note speaks alone") { try Do.makeSocket($0 / "socket") }
            try mirrored.expectNote("sockets are not replicated: 1 ")
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    @Test func devicesAreCountedOtherwise() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { try makeDevices($0, 1) }
            mirrored.oracle = { $0.ignoredKinds.formUnion([S_IFCHR, S_IFBLK]) }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.expectNote("sockets and devices are not replicated: 2 ")
            try mirrored.step("more", isVerified: true) { try makeDevices($0, 2) }
            try mirrored.expectNote("sockets and devices are not replicated: 4 ")
            try mirrored.stop()
        }
    }

    /// It waits and says so, and goes on when the device is gone.
    @Test func aDeviceOnAReplicaThatMayNotMakeOne() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world, ["--devices"]) { try Do.write($0 / "file") }
            let folder = try world.folder("replica")
            try Do.setOwner(Bytes(folder), 65_534, 65_534)
            let replica = try mirrored.replica(wrapper: World.asNobody)
            mirrored.oracle = { $0.ignoresOwners = true }
            try mirrored.expectEqual("at first")
            try makeDevices(mirrored.root, 1)
            _ = try world.mark(mirrored.primary)
            try mirrored.expectNote("create special file", of: replica)
            #expect(try replica.status()?.state == "stalled")
            for name in ["char1", "block1"] as [Bytes] { try Do.remove(mirrored.root / name) }
            try Do.write(mirrored.root / "later")
            try mirrored.expectEqual("after they are gone")
            try mirrored.stop()
        }
    }
}

extension World {
    /// Becomes a user who may do nothing, and then what follows.
    static let asNobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
}
