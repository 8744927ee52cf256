import Glibc
import Testing
import WALFormat
import WALSystem

@Suite struct RemoveTreeTests {
    @Test func symlinksAreRemovedNotFollowed() throws {
        try withScratch { directory, path in
            try directory.makeDirectory("keep")
            let keep = try directory.openDirectory("keep")
            try keep.put("precious", "still here")
            try directory.makeDirectory("tree")
            let tree = try directory.openDirectory("tree")
            try tree.makeSymlink("relative", target: Array("../keep".utf8))
            try tree.makeSymlink("absolute", target: Array("\(path)/keep".utf8))
            try tree.makeDirectory("sub")
            try tree.openDirectory("sub").makeSymlink("deeper", target: Array("../../keep".utf8))
            try tree.put("file")
            try directory.removeTree("tree")
            #expect(try directory.names() == ["keep"])
            #expect(try keep.text("precious") == "still here")

            try directory.makeSymlink("top", target: Array("keep".utf8))
            try directory.removeTree("top")
            #expect(try directory.names() == ["keep"])
            #expect(try keep.names() == ["precious"])
        }
    }

    @Test func whatIsNotThereIsNoError() throws {
        try withScratch { directory, path in
            try directory.removeTree("nothing")
        }
    }

    @Test func fileIsRemovedToo() throws {
        try withScratch { directory, path in
            try directory.put("file")
            try directory.removeTree("file")
            #expect(try directory.names() == [])
        }
    }

    /// Deeper than the levels that are open at once, many times over, and wide at the deep end; on the small stack of a
    /// worker. The descriptors are counted again and again meanwhile.
    @Test func deepTreeNeedsFewDescriptorsAndLittleStack() throws {
        try withScratch { directory, path in
            try directory.makeDirectory("tree")
            var current = try directory.openDirectory("tree")
            for level in 0..<1500 {
                try current.makeDirectory("next")
                if level % 100 == 99 { try current.put("file") }
                current = try current.openDirectory("next")
            }
            for index in 0..<50 { try current.makeDirectory(try Name(Array("leaf-\(index)".utf8))) }
            let failure = Monitor<SystemError?>(nil)
            let thread = try WorkerThread.start(name: "remover", stackBytes: 256 << 10) {
                let error = systemError { () throws(SystemError) in try directory.removeTree("tree") }
                failure.update { $0 = error }
            }
            var most = 0
            while !thread.join(timeoutNanoseconds: 0) {
                let numbers = try Directory.open(path: "/proc/self/fd").names().compactMap { Int32("\($0)") }
                let paths = numbers.compactMap(descriptorPath)
                most = max(most, paths.count { $0.starts(with: Array("\(path)/tree".utf8)) })
            }
            #expect(most < 100)
            #expect(failure.withLock { $0 } == nil)
            #expect(try directory.names() == [])
        }
    }

    @Test(.enabled(if: ProcessFacts.effectiveUserID == 0, "only root mounts"))
    func mountInsideIsRefusedAndNotEmptied() throws {
        // The enumerations of <sys/mount.h> are imported differently by different versions of Swift.
        let bind: UInt = 4096
        let detach: Int32 = 2
        try withScratch { directory, path in
            try directory.makeDirectory("other")
            try directory.openDirectory("other").put("precious")
            try directory.makeDirectory("tree")
            try directory.openDirectory("tree").makeDirectory("mount")
            let target = path + "/tree/mount"
            // Containers may forbid it even to root; there is nothing to test then.
            guard mount(path + "/other", target, nil, bind, nil) == 0 else { return }
            let error = systemError { () throws(SystemError) in try directory.removeTree("tree") }
            #expect(umount2(target, detach) == 0)
            #expect(error?.code == Errno.busy)
            #expect(try directory.openDirectory("other").names() == ["precious"])
        }
    }

    @Test func contentsGoAndTheDirectoryStays() throws {
        try withScratch { directory, path in
            try directory.makeDirectory("a")
            try directory.openDirectory("a").put("b")
            try directory.put("c")
            try directory.removeContents()
            #expect(try directory.names() == [])
            #expect(try directory.status().kind == .directory)
        }
    }
}
