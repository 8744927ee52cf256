import Testing
import WALFormat
import WALSystem

@Suite struct WholeFileTests {
    @Test func limitIsInclusive() throws {
        try withScratch { directory, path in
            try directory.put("file", "12345")
            #expect(try readWholeFile(in: directory, "file", limit: 5) == Array("12345".utf8))
            let error = systemError { () throws(SystemError) in _ = try readWholeFile(in: directory, "file", limit: 4) }
            #expect(error?.code == Errno.tooBig)
            #expect(error?.path == path + "/file")
            try directory.put("empty")
            #expect(try readWholeFile(in: directory, "empty", limit: 0) == [])
        }
    }

    /// Files of `/proc` say that they have no bytes.
    @Test func fileWithoutASizeIsReadToItsEnd() throws {
        let bytes = try readWholeFile(in: try Directory.open(path: "/proc/self"), "status", limit: 1 << 20)
        #expect(bytes.starts(with: Array("Name:".utf8)))
        #expect(bytes.count > 500)
    }

    @Test func replaceCreatesThenReplacesAndLeavesNothingElse() throws {
        try withScratch { directory, path in
            try durableReplace(in: directory, "state", Array("one".utf8))
            let first = try directory.status(of: "state")
            #expect(first.mode == 0o600)
            try durableReplace(in: directory, "state", Array("2".utf8), permissions: 0o666)
            #expect(try directory.text("state") == "2")
            #expect(try directory.status(of: "state").mode == 0o666)
            #expect(try directory.status(of: "state").identity != first.identity)
            #expect(try directory.names() == ["state"])
        }
    }

    @Test func openReadersKeepTheOldContent() throws {
        try withScratch { directory, path in
            try durableReplace(in: directory, "state", Array("old".utf8))
            let reader = try directory.openFile("state")
            try durableReplace(in: directory, "state", Array("new".utf8))
            let seen = try reader.read(count: 10, at: 0)
            #expect(seen == Array("old".utf8))
        }
    }

    @Test func failedReplaceLeavesOldContentAndNoTemporaryFile() throws {
        try withScratch { directory, path in
            try directory.makeDirectory("taken")
            try directory.openDirectory("taken").put("inside")
            let error = systemError { () throws(SystemError) in
                try durableReplace(in: directory, "taken", [1, 2, 3])
            }
            #expect(error?.call == "renameat2")
            #expect(try directory.names() == ["taken"])
        }
    }

    @Test func replaceOfASymlinkReplacesTheSymlink() throws {
        try withScratch { directory, path in
            try directory.put("file", "untouched")
            try directory.makeSymlink("state", target: Array("file".utf8))
            try durableReplace(in: directory, "state", [0x78])
            #expect(try directory.status(of: "state").kind == .file)
            #expect(try directory.text("file") == "untouched")
        }
    }

    @Test func temporaryNamesDiffer() {
        let names = Set((0..<100).map { _ in temporaryName() })
        #expect(names.count == 100)
        #expect(names.allSatisfy { Name.isValid($0.bytes) })
        #expect(names.allSatisfy { $0.description.hasPrefix(".walship-temporary-") })
    }
}
