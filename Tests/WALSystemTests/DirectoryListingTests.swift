import Testing
import WALFormat
import WALSystem

@Suite struct DirectoryListingTests {
    /// More than one buffer of names of all lengths and all bytes.
    @Test func manyOddNamesAreListedOnceEach() throws {
        try withScratch { directory, path in
            let allowed = (UInt8.min...UInt8.max).filter { $0 != 0 && $0 != 0x2F }
            var expected: Set<Name> = ["...", ".a", "-", "\n"]
            for byte in allowed { expected.insert(Name(trusted: [byte, 0xFF, byte])) }
            var index = 0
            while expected.count < 3000 {
                let filler = Array(repeating: allowed[index % allowed.count], count: index % 245)
                expected.insert(try Name(filler + Array("-\(index)".utf8)))
                index += 1
            }
            for name in expected { try directory.put(name) }
            for _ in 0..<2 {
                let entries = try directory.entries()
                #expect(entries.count == 3000)
                #expect(Set(entries.map(\.name)) == expected)
            }
            let some = try #require(directory.entries().first)
            #expect(try directory.status(of: some.name).ino == some.ino)
        }
    }

    @Test func emptyDirectoryHasNoEntries() throws {
        try withScratch { directory, path in
            let entries = try directory.entries()
            #expect(entries == [])
        }
    }

    @Test func typesAreToldApart() throws {
        try withScratch { directory, path in
            try directory.put("file")
            try directory.makeDirectory("directory")
            try directory.makeSymlink("symlink", target: [0x78])
            let types = Dictionary(uniqueKeysWithValues: try directory.entries().map { ($0.name, $0.type) })
            // ext4, xfs, btrfs and tmpfs all say the type; one that does not would be seen here.
            #expect(
                types == [
                    "file": DirectoryEntry.fileType, "directory": DirectoryEntry.directoryType,
                    "symlink": DirectoryEntry.symlinkType,
                ])
        }
    }

    @Test func threadsListTheSameHandleAtOnce() throws {
        try withScratch { directory, path in
            for index in 0..<2000 { try directory.put(try Name(Array("some-long-enough-name-\(index)".utf8))) }
            let counts = Monitor<[Int]>([])
            let threads = try (0..<4).map { index in
                try WorkerThread.start(name: "lister-\(index)") {
                    for _ in 0..<10 {
                        let count = (try? directory.entries().count) ?? -1
                        counts.update { $0.append(count) }
                    }
                }
            }
            for thread in threads { thread.join() }
            #expect(counts.withLock { $0 } == Array(repeating: 2000, count: 40))
        }
    }

    @Test func errorOfTheBodyEndsTheListing() throws {
        try withScratch { directory, path in
            for name in ["a", "b", "c"] as [Name] { try directory.put(name) }
            var seen = 0
            let mine = SystemError(code: Errno.busy, call: "test")
            let error = systemError { () throws(SystemError) in
                try directory.readAll { (_, _, _) throws(SystemError) in
                    seen += 1
                    throw mine
                }
            }
            #expect(error == mine)
            #expect(seen == 1)
        }
    }
}
