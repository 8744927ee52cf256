import Glibc
import Testing
import WALFormat
import WALSystem

func makeFifo(_ path: String) -> Bool { mkfifo(path, 0o600) == 0 }

@Suite struct DirectoryNamesTests {
    @Test func renameReplacesUnlessToldNotTo() throws {
        try withScratch { directory, path in
            try directory.put("a", "A")
            try directory.put("b", "B")
            let error = systemError { () throws(SystemError) in
                try directory.rename("a", to: directory, "b", noReplace: true)
            }
            #expect(error?.code == Errno.exists)
            #expect(error?.path == "\(path)/a' to '\(path)/b")
            #expect(try directory.text("a") == "A")
            #expect(try directory.text("b") == "B")

            try directory.rename("a", to: directory, "b")
            #expect(try directory.text("b") == "A")
            #expect(try directory.names() == ["b"])
            try directory.rename("b", to: directory, "c", noReplace: true)
            #expect(try directory.names() == ["c"])
        }
    }

    @Test func exchangeSwapsAFileAndADirectory() throws {
        try withScratch { directory, path in
            try directory.put("x", "file")
            try directory.makeDirectory("other")
            let other = try directory.openDirectory("other")
            try other.makeDirectory("y")
            try directory.rename("x", to: other, "y", exchange: true)
            #expect(try directory.status(of: "x").kind == .directory)
            #expect(try other.text("y") == "file")
            let error = systemError { () throws(SystemError) in
                try directory.rename("x", to: directory, "missing", exchange: true)
            }
            #expect(error?.isNotFound == true)
        }
    }

    /// ext4, xfs, btrfs and tmpfs keep all of these times to the nanosecond.
    @Test(arguments: [
        Timestamp(seconds: -1, nanoseconds: 999_999_999), Timestamp(seconds: -1_000_000_000, nanoseconds: 1),
        Timestamp(seconds: 0, nanoseconds: 0), Timestamp(seconds: 1_700_000_000, nanoseconds: 123_456_789),
        Timestamp(seconds: 0x7FFF_FFFF, nanoseconds: 5), Timestamp(seconds: 0x8000_0000, nanoseconds: 0),
        Timestamp(seconds: 7_000_000_000, nanoseconds: 42),
    ])
    func modificationTimesComeBack(time: Timestamp) throws {
        try withScratch { directory, path in
            try directory.put("file")
            try directory.makeDirectory("directory")
            try directory.makeSymlink("symlink", target: Array("file".utf8))
            let fileBefore = try directory.status(of: "file").mtime
            for name in ["directory", "symlink"] as [Name] {
                try directory.setModificationTime(name, time)
                #expect(try directory.status(of: name).mtime == time)
            }
            // The symlink's time is its own.
            #expect(try directory.status(of: "file").mtime == fileBefore)
            let file = try directory.openFileForWriting("file")
            try file.setModificationTime(time)
            let after = try file.status().mtime
            #expect(after == time)
            let sub = try directory.openDirectory("directory")
            try sub.setModificationTime(Timestamp(seconds: 1, nanoseconds: 2))
            #expect(try sub.status().mtime == Timestamp(seconds: 1, nanoseconds: 2))
        }
    }

    /// 0x3FFFFFFF and 0x3FFFFFFE are UTIME_NOW and UTIME_OMIT: they would be obeyed, not stored.
    @Test(arguments: [1_000_000_000, 0x3FFF_FFFF, 0x3FFF_FFFE] as [UInt32])
    func nanosecondsBeyondASecondAreRefused(nanoseconds: UInt32) throws {
        try withScratch { directory, path in
            try directory.put("file")
            let time = Timestamp(seconds: 5, nanoseconds: nanoseconds)
            let byName = systemError { () throws(SystemError) in try directory.setModificationTime("file", time) }
            #expect(byName?.code == Errno.invalid)
            let itself = systemError { () throws(SystemError) in try directory.setModificationTime(time) }
            #expect(itself?.code == Errno.invalid)
        }
    }

    @Test func modeIsExactAndNeverOfASymlinksTarget() throws {
        try withScratch { directory, path in
            try directory.put("file")
            try directory.makeSymlink("symlink", target: Array("file".utf8))
            try directory.setMode("file", 0o6751)
            #expect(try directory.status(of: "file").mode == 0o6751)
            let error = systemError { () throws(SystemError) in try directory.setMode("symlink", 0o777) }
            #expect(error?.isUnsupported == true)
            #expect(try directory.status(of: "file").mode == 0o6751)
            try directory.setMode(0o1750)
            #expect(try directory.status().mode == 0o1750)
        }
    }

    @Test(.enabled(if: ProcessFacts.effectiveUserID == 0, "only root gives files away"))
    func ownerIsSetOnTheSymlinkItself() throws {
        try withScratch { directory, path in
            try directory.put("file")
            try directory.makeSymlink("symlink", target: Array("file".utf8))
            try directory.setOwner("symlink", uid: 12, gid: 4_000_000_000)
            let symlink = try directory.status(of: "symlink")
            #expect(symlink.uid == 12)
            #expect(symlink.gid == 4_000_000_000)
            #expect(try directory.status(of: "file").uid == 0)
            try directory.setOwner(uid: 7, gid: 8)
            #expect(try directory.status().uid == 7)
            let file = try directory.openFileForWriting("file")
            try file.setOwner(uid: 3, gid: 4)
            #expect(try directory.status(of: "file").gid == 4)
        }
    }

    @Test func symlinkTargetsAreBytes() throws {
        try withScratch { directory, path in
            let longest = Array(repeating: UInt8(0xFE), count: Limits.maxLinkTargetBytes)
            try directory.makeSymlink("long", target: longest)
            #expect(try directory.readLink("long") == longest)
            try directory.makeSymlink("short", target: [0x2E])
            #expect(try directory.readLink("short") == [0x2E])
            let cut = systemError { () throws(SystemError) in
                try directory.makeSymlink("cut", target: [0x61, 0, 0x62])
            }
            #expect(cut?.code == Errno.invalid)
            try directory.put("file")
            let error = systemError { () throws(SystemError) in _ = try directory.readLink("file") }
            #expect(error?.code == Errno.invalid)
        }
    }

    @Test func linkIsAnotherNameOfTheSymlinkItself() throws {
        try withScratch { directory, path in
            try directory.put("file")
            try directory.makeSymlink("symlink", target: Array("file".utf8))
            try directory.link("symlink", to: directory, "again")
            #expect(try directory.status(of: "again").ino == directory.status(of: "symlink").ino)
            #expect(try directory.status(of: "again").linkCount == 2)
            #expect(try directory.status(of: "file").linkCount == 1)
        }
    }

    @Test func unlinkAndRemoveDirectoryKeepToTheirKind() throws {
        try withScratch { directory, path in
            try directory.put("file")
            try directory.makeDirectory("directory")
            try directory.openDirectory("directory").put("inside")
            let a = systemError { () throws(SystemError) in try directory.unlink("directory") }
            #expect(a?.code == Errno.isDirectory)
            let b = systemError { () throws(SystemError) in try directory.removeDirectory("file") }
            #expect(b?.code == Errno.notDirectory)
            let c = systemError { () throws(SystemError) in try directory.removeDirectory("directory") }
            #expect(c?.isExisting == true)
            try directory.unlink("file")
            let d = systemError { () throws(SystemError) in try directory.unlink("file") }
            #expect(d?.isNotFound == true)
        }
    }

    @Test func filesAreNotOpenedThroughSymlinks() throws {
        try withScratch { directory, path in
            try directory.put("file", "secret")
            try directory.makeSymlink("symlink", target: Array("file".utf8))
            try directory.makeSymlink("dangling", target: Array("new".utf8))
            let read = systemError { () throws(SystemError) in _ = try directory.openFile("symlink") }
            #expect(read?.isSymlinkOrEscape == true)
            let write = systemError { () throws(SystemError) in _ = try directory.openFileForWriting("symlink") }
            #expect(write?.isSymlinkOrEscape == true)
            let create = systemError { () throws(SystemError) in
                _ = try directory.createFile("dangling", exclusive: false)
            }
            #expect(create?.isSymlinkOrEscape == true)
            #expect(try directory.has("new") == false)
        }
    }

    @Test func fifoDoesNotHangTheOpener() throws {
        try withScratch { directory, path in
            #expect(makeFifo(path + "/fifo"))
            let type = Monitor<UInt16>(0)
            let opener = try WorkerThread.start(name: "opener") {
                let status = try? directory.openFile("fifo").status()
                type.update { $0 = status?.fileType ?? 1 }
            }
            #expect(opener.join(timeoutNanoseconds: 10_000_000_000))
            #expect(type.withLock { $0 } == 0o010000)
        }
    }

    @Test func createFileIsExclusiveUnlessToldOtherwise() throws {
        try withScratch { directory, path in
            try directory.put("file", "old")
            let error = systemError { () throws(SystemError) in _ = try directory.createFile("file") }
            #expect(error?.isExisting == true)
            let file = try directory.createFile("file", exclusive: false)
            let bytes = try file.read(count: 10, at: 0)
            #expect(bytes == Array("old".utf8))
        }
    }
}
