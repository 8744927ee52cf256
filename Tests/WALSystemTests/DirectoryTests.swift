import Testing
import WALFormat

import WALSystem

@Suite struct DirectoryTests {
    @Test func rootIsOpenedThroughSymlink() throws {
        try withScratch { directory, path in
            try directory.makeDirectory("real")
            try directory.makeSymlink("alias", target: Array("real".utf8))
            let opened = try Directory.open(path: path + "/alias").status()
            #expect(try opened.ino == directory.status(of: "real").ino)
        }
    }

    @Test func openOfMissingPathSaysWhatAndWhy() throws {
        let error = systemError { () throws(SystemError) in _ = try Directory.open(path: "/no-such/place") }
        #expect(error == SystemError(code: Errno.noEntry, call: "open", path: "/no-such/place"))
        #expect("\(try #require(error))" == "cannot open '/no-such/place': No such file or directory (open)")
    }

    @Test func pathWithNulIsRefusedNotCut() throws {
        let error = systemError { () throws(SystemError) in
            _ = try Directory.open(path: Array("/tmp".utf8) + [0] + Array("x".utf8))
        }
        #expect(error?.code == Errno.invalid)
    }

    /// With openat2 and with the walk that stands in for it, first, middle and last component.
    @Test(arguments: [false, true]) func symlinkBeneathIsRefused(walking: Bool) throws {
        try withScratch { directory, path in
            try directory.makeDirectory("in")
            let inside = try directory.openDirectory("in")
            try inside.makeDirectory("sub")
            try inside.openDirectory("sub").makeDirectory("deep")
            try inside.makeSymlink("out", target: Array("..".utf8))
            try inside.makeSymlink("absolute", target: Array("/etc".utf8))
            try inside.makeSymlink("sideways", target: Array("sub".utf8))
            try inside.openDirectory("sub").makeSymlink("back", target: Array("../..".utf8))

            func open(_ names: [Name]) throws(SystemError) {
                _ = walking ? try inside.openDirectory(walking: names) : try inside.openDirectory(at: names)
            }
            try open(["sub", "deep"])
            let refused: [[Name]] = [
                ["out"], ["absolute"], ["sideways"], ["sideways", "deep"], ["sub", "back"], ["sub", "back", "in"],
            ]
            for names in refused {
                let error = try #require(
                    systemError { () throws(SystemError) in try open(names) }, "\(names) was opened")
                #expect(error.isSymlinkOrEscape || error.isNotFound, "\(names): \(error)")
            }
        }
    }

    @Test func dotDotAndNulInComponentsAreRefused() throws {
        try withScratch { directory, path in
            try directory.makeDirectory("a")
            let inside = try directory.openDirectory("a")
            for bytes in [[0x2E, 0x2E], [0x2E], [], [0x61, 0, 0x62], [0x61, 0x2F, 0x62]] as [[UInt8]] {
                let name = Name(trusted: bytes)
                let many = systemError { () throws(SystemError) in _ = try inside.openDirectory(at: [name]) }
                #expect(many?.code == Errno.invalid, "\(bytes)")
                let one = systemError { () throws(SystemError) in _ = try inside.openDirectory(name) }
                #expect(one?.code == Errno.invalid, "\(bytes)")
                let made = systemError { () throws(SystemError) in try inside.makeDirectory(name) }
                #expect(made?.code == Errno.invalid, "\(bytes)")
            }
        }
    }

    @Test(arguments: [false, true]) func pathLongerThanPathMaxIsOpened(walking: Bool) throws {
        try withScratch { directory, path in
            let depth = 60
            let names = (0..<depth).map { level in
                Name(trusted: Array(repeating: UInt8(0x61 + level % 26), count: 200))
            }
            #expect(names.reduce(0) { $0 + $1.bytes.count + 1 } > 2 * 4096)
            var current = directory
            for name in names {
                try current.makeDirectory(name)
                current = try current.openDirectory(name)
            }
            let opened =
                walking ? try directory.openDirectory(walking: names) : try directory.openDirectory(at: names)
            #expect(try opened.status().ino == current.status().ino)

            let missing = names + ["missing"]
            let error = systemError { () throws(SystemError) in _ = try directory.openDirectory(at: missing) }
            #expect(error?.isNotFound == true)
        }
    }

    /// 16 components of 254 bytes, 16 slashes and 15 bytes are PATH_MAX with the NUL, 4096.
    @Test(arguments: [1, 14, 15, 16, 17, 255]) func pathAroundPathMaxIsOpened(lastBytes: Int) throws {
        try withScratch { directory, path in
            let lengths = Array(repeating: 254, count: 16) + [lastBytes]
            let names = lengths.map { Name(trusted: Array(repeating: 0x78, count: $0)) }
            var current = directory
            for name in names {
                try current.makeDirectory(name)
                current = try current.openDirectory(name)
            }
            #expect(try directory.openDirectory(at: names).status().ino == current.status().ino)
        }
    }

    @Test func noComponentsOpenTheDirectoryItself() throws {
        try withScratch { directory, path in
            let again = try directory.openDirectory(at: [])
            #expect(again.descriptor != directory.descriptor)
            #expect(try again.status().identity == directory.status().identity)
        }
    }

    @Test func statusTellsKindsApart() throws {
        try withScratch { directory, path in
            try directory.put("file", "12345")
            try directory.makeDirectory("directory")
            try directory.makeSymlink("symlink", target: Array("nowhere".utf8))
            #expect(makeFifo(path + "/fifo"))
            #expect(try directory.status(of: "file").kind == .file)
            #expect(try directory.status(of: "file").size == 5)
            #expect(try directory.status(of: "directory").kind == .directory)
            #expect(try directory.status(of: "symlink").kind == .symlink)
            #expect(try directory.status(of: "symlink").size == 7)
            #expect(try directory.status(of: "fifo").kind == .fifo)
            #expect(try directory.status(of: "fifo").fileType == 0o010000)
            #expect(try directory.status().isMountRoot == false)
            #expect(try Directory.open(path: "/").status().isMountRoot)
        }
    }

    @Test func identityIsKeptByRenameAndNotByReplacement() throws {
        try withScratch { directory, path in
            try directory.put("a")
            let before = try directory.status(of: "a").identity
            try directory.rename("a", to: directory, "b")
            #expect(try directory.status(of: "b").identity == before)
            #expect(before.birthNanos > 1_600_000_000_000_000_000)
            try directory.put("c")
            #expect(try directory.status(of: "c").identity != before)
        }
    }

    @Test func spaceIsThatOfTheFileSystem() throws {
        try withScratch { directory, path in
            let space = try directory.space()
            #expect(space.availableBytes > 0)
            #expect(space.availableBytes <= space.totalBytes)
        }
    }

    @Test func errorNamesTheObject() throws {
        try withScratch { directory, path in
            let error = systemError { () throws(SystemError) in _ = try directory.status(of: "gone") }
            #expect(error == SystemError(code: Errno.noEntry, call: "statx", path: path + "/gone"))
        }
    }
}
