import Glibc
import Synchronization
import Testing
import WALSystem

/// Times of all ages, and names that change hands.
@Suite struct FidelityTimeTests {
    /// What ext4 with inodes of 256 bytes keeps: 1901 to 2446.
    static let times: [(Int, Int)] = [
        (-2_147_483_648, 0), (-2_147_483_648, 999_999_999), (-1, 1), (-1, 999_999_999), (0, 0), (0, 1),
        (2_147_483_647, 999_999_999), (2_147_483_648, 0), (4_294_967_296, 5), (9_999_999_999, 123), (15_032_385_535, 0),
    ]

    @Test func timesOfAllAges() throws {
        try withWorld { world in
            func make(_ root: Bytes, _ label: String) throws {
                for (number, time) in Self.times.enumerated() {
                    try Do.write(root / "file\(label)\(number)")
                    try Do.makeDirectory(root / "folder\(label)\(number)")
                    try Do.write(root / "folder\(label)\(number)/inside")
                    try Do.symlink(root / "link\(label)\(number)", to: "x")
                    try Do.makeNode(root / "fifo\(label)\(number)", S_IFIFO | 0o600)
                    for kind in ["file", "folder", "link", "fifo"] {
                        try Do.setTime(root / "\(kind)\(label)\(number)", time.0, time.1)
                    }
                }
            }
            let mirrored = try Mirrored(world) { root in
                try make(root, "a")
                try Do.setTime(root, 1, 1)
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("later") { root in
                try make(root, "b")
                try Do.setTime(root, -1, 1)
            }
            try mirrored.step("each has the time of another, and nothing else changes") { root in
                for (number, time) in Self.times.reversed().enumerated() {
                    for kind in ["filea", "folderb", "linka", "fifob"] {
                        try Do.setTime(root / "\(kind)\(number)", time.0, time.1)
                    }
                }
            }
            // A directory's time is of its entries; who sets it back afterwards is believed.
            try mirrored.step("entries of directories with set times") { root in
                for (number, time) in Self.times.enumerated() {
                    try Do.write(root / "foldera\(number)/new")
                    try Do.setTime(root / "foldera\(number)", time.0, time.1)
                    try Do.remove(root / "folderb\(number)/inside")
                }
            }
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    /// tmpfs keeps any time, ext4 does not, and with small inodes neither later times than 2038 nor parts of a second: the
    /// replica has the nearest that there is, and is right by its digest.
    @Test(arguments: [(256, 15_032_385_535), (128, 2_147_483_647)])
    func timesThatTheReplicaCannotKeep(_ inodeBytes: Int, _ last: Int) throws {
        try withWorld { world in
            let source = try world.mountTmpfs("source", megabytes: 50)
            _ = try world.mountExt4("replica", megabytes: 400, "-I", "\(inodeBytes)")
            let far = [15_032_385_536, 32_503_680_000, -2_147_483_649, -100_000_000_000, 5_000_000_000, 1]
            let mirrored = try Mirrored(world, source: source) { root in
                for (number, time) in far.enumerated() {
                    try Do.write(root / "file\(number)")
                    try Do.makeDirectory(root / "folder\(number)")
                    try Do.symlink(root / "link\(number)", to: "x")
                    for kind in ["file", "folder", "link"] { try Do.setTime(root / "\(kind)\(number)", time, 7) }
                }
                try Do.write(root / "large", [UInt8](repeating: 1, count: 5 << 20))
                try Do.setTime(root / "large", far[1], 1)
            }
            let replica = try mirrored.replica()
            try world.catchUp(mirrored.primary, [replica])
            // They can be changed, patched, moved and removed like any other.
            try Do.write(mirrored.root / "file0", "changed")
            try Do.setTime(mirrored.root / "file0", far[0], 8)
            try Do.write(mirrored.root / "large", [2], at: 3_000_000)
            try Do.setTime(mirrored.root / "large", far[1], 2)
            try Do.setMode(mirrored.root / "file1", 0o600)
            try Do.rename(mirrored.root / "file2", mirrored.root / "folder1/moved")
            try Do.setTime(mirrored.root / "folder1", far[1], 9)
            try Do.remove(mirrored.root / "file3")
            try world.catchUp(mirrored.primary, [replica])
            let root = Bytes(replica.folder)
            #expect(try text(ofFile: replica.folder + "/file0") == "changed")
            #expect(try Do.status(root / "file0").st_mtim.tv_sec == last)
            #expect(try Do.status(root / "folder1/moved").st_mtim.tv_sec == -2_147_483_648)
            #expect(try Do.status(root / "file4").st_mtim.tv_sec == min(last, far[4]))
            #expect(try Do.status(root / "file1").st_mode & 0o777 == 0o600)
            #expect(!Do.exists(root / "file3"))
            // That is no drift, and no reason to fetch anything again.
            try replica.stop()
            try replica.restart()
            try world.catchUp(mirrored.primary, [replica])
            try Do.write(mirrored.root / "file5", "changed, too")
            try world.catchUp(mirrored.primary, [replica])
            #expect(!replica.child.errors.contains("drift"), "\(replica.child.errors)")
            let verify = try world.run(
                "walctl", "verify", "--deep", replica.folder, "--against", "127.0.0.1:\(mirrored.port)")
            #expect(verify.status == 0, "\(verify)")
            // Who edits the replica is found all the same.
            try Do.write(root / "file4", "edited")
            #expect(try world.run("walctl", "verify", replica.folder).status == 2)
            try mirrored.stop()
        }
    }

    @Test func timesThatToolsSetBack() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.write(root / "small", "version 1")
                try Do.write(root / "large", [UInt8](repeating: 1, count: 6 << 20))
                for name in ["small", "large"] as [Bytes] { try Do.setTime(root / name, 1_000_000_000, 0) }
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            for round in 2...4 {
                try mirrored.step("other content, same size, same time, round \(round)") { root in
                    try Do.write(root / "small", "version \(round)")
                    try Do.write(root / "large", [UInt8(round)], at: 3_000_000)
                    for name in ["small", "large"] as [Bytes] { try Do.setTime(root / name, 1_000_000_000, 0) }
                }
            }
            try mirrored.step("touch -d alone") { _ in
                try world.must("touch", "-d", "1969-07-20 20:17:40.25 UTC", mirrored.source + "/small")
            }
            try mirrored.step("replaced by another file of the same size and time") { root in
                try Do.write(root / "new", "version 9")
                try Do.setTime(root / "new", -14_182_939, 750_000_000)
                try Do.rename(root / "new", root / "small")
            }
            // While nobody looks.
            try mirrored.primary.stop()
            try Do.write(mirrored.root / "large", [99], at: 5_000_000)
            try Do.setTime(mirrored.root / "large", 1_000_000_000, 0)
            try mirrored.primary.restart()
            try mirrored.expectEqual("after a start")
            try mirrored.stop()
        }
    }

    @Test func namesChangeHands() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                for name in ["a", "b", "c", "d"] { try Do.write(root / Bytes(name), "content of \(name)") }
                try Do.makeDirectory(root / "folder")
                try Do.write(root / "folder/inside", "inside")
                try Do.makeDirectory(root / "other")
                try Do.makeDirectory(root / "other/deep")
                try Do.write(root / "other/deep/file", "deep")
                try Do.symlink(root / "link", to: "a")
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("a file becomes a directory") { root in
                try Do.remove(root / "a")
                try Do.makeDirectory(root / "a")
                try Do.write(root / "a/inside", "a was a file")
            }
            try mirrored.step("and back, and there again, at once") { root in
                try world.must("rm", "-r", mirrored.source + "/a")
                try Do.write(root / "a", "a file again")
                try Do.remove(root / "a")
                try Do.makeDirectory(root / "a")
                try world.must("rm", "-r", mirrored.source + "/a")
                try Do.write(root / "a", "a file for good")
            }
            try mirrored.step("exchanged: files, file and directory, directories, link and file") { root in
                try Do.exchange(root / "a", root / "b")
                try Do.exchange(root / "c", root / "folder")
                try Do.exchange(root / "other", root / "c")
                try Do.exchange(root / "link", root / "d")
            }
            try mirrored.step("exchanged twice, which is nothing, and across levels") { root in
                try Do.exchange(root / "a", root / "b")
                try Do.exchange(root / "a", root / "b")
                try Do.exchange(root / "c/deep/file", root / "a")
            }
            try mirrored.step("a chain and a circle in one segment") { root in
                try Do.rename(root / "a", root / "z")
                try Do.rename(root / "b", root / "a")
                try Do.rename(root / "d", root / "b")
                try Do.rename(root / "z", root / "d")
                try Do.rename(root / "c", root / "y")
                try Do.rename(root / "other", root / "c")
                try Do.rename(root / "y", root / "other")
            }
            try mirrored.step("a directory goes below one that was in it") { root in
                try Do.rename(root / "other/deep", root / "up")
                try Do.rename(root / "other", root / "up/down")
            }
            try mirrored.step("case alone, and a name that comes back") { root in
                try Do.rename(root / "up", root / "UP")
                try Do.rename(root / "a", root / "A")
                try Do.write(root / "a", "another a")
            }
            try mirrored.step("open, unlinked and written to; another takes the name") { root in
                let file = try Do.openFile(root / "b", O_RDWR)
                defer { close(file) }
                try Do.remove(root / "b")
                try Do.write(file, Array("nobody sees this".utf8), at: 0)
                try Do.write(root / "b", "the new b")
                try Do.write(file, Array("nor this".utf8), at: 100)
            }
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    /// Made and removed, renamed and linked as fast as a thread can, while marks are asked for.
    @Test func whatAppearsAndVanishesDuringCapture() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                for name in ["stay", "work"] as [Bytes] { try Do.makeDirectory(root / name) }
                for number in 0..<200 { try Do.write(root / "stay/\(number)", "stays \(number)") }
            }
            let replica = try mirrored.replica()
            try mirrored.expectEqual("at first")
            let isStopped = Atomic<Bool>(false)
            let work = mirrored.root / "work"
            let thread = try WorkerThread.start(name: "churn") {
                var number = 0
                while !isStopped.load(ordering: .relaxed) {
                    number += 1
                    let (one, two) = (work / "f\(number % 50)", work / "d\(number % 7)")
                    try? Do.write(one, "round \(number)")
                    try? Do.makeDirectory(two)
                    try? Do.rename(one, two / "g\(number % 11)")
                    try? Do.link(two / "g\(number % 11)", work / "h\(number % 13)")
                    try? Do.remove(two / "g\(number % 5)")
                    try? Do.rename(two, work / "e\(number % 3)")
                    try? Do.removeDirectory(work / "e\((number + 1) % 3)")
                    try? Do.remove(work / "h\(number % 4)")
                }
            }
            for round in 0..<10 {
                try Do.write(mirrored.root / "stay/\(round)", "changed \(round)")
                try world.catchUp(mirrored.primary, [replica])
                #expect(try text(ofFile: replica.folder + "/stay/\(round)") == "changed \(round)")
            }
            isStopped.store(true, ordering: .relaxed)
            thread.join()
            try mirrored.expectEqual("when it is quiet")
            #expect(try mirrored.primary.status()?.notes == [])
            try mirrored.stop()
        }
    }
}
