import Testing
import WALFormat
import WALSystem

@Suite struct InotifyTests {
    /// Reads until an event satisfies `isLast`, for 10 seconds at most; all that came.
    private func events(_ inotify: Inotify, until isLast: (InotifyEvent) -> Bool) throws -> [InotifyEvent] {
        var all: [InotifyEvent] = []
        let deadline = Clock.monotonicNanoseconds() + 10_000_000_000
        while Clock.monotonicNanoseconds() < deadline, !all.contains(where: isLast) {
            _ = try Poller.poll(descriptors: [inotify.descriptor], timeoutMilliseconds: 100)
            all += try inotify.readEvents()
        }
        return all
    }

    @Test func changesArriveWithNameAndCookie() throws {
        try withScratch { directory, path in
            let inotify = try Inotify()
            let wd = try inotify.add(directory)
            let name = Name(trusted: [0xFF, 0x0A])
            try directory.put(name, "content")
            try directory.rename(name, to: directory, "renamed")
            try directory.makeDirectory("directory")
            try directory.unlink("renamed")
            let all = try events(inotify) { $0.mask.contains(.delete) }
            #expect(all.allSatisfy { $0.wd == wd })
            #expect(all.contains { $0.mask == .create && $0.name == name.bytes })
            #expect(all.contains { $0.mask == .closeWrite && $0.name == name.bytes })
            let from = try #require(all.first { $0.mask == .movedFrom })
            let to = try #require(all.first { $0.mask == .movedTo })
            #expect(from.name == name.bytes)
            #expect(to.name == Array("renamed".utf8))
            #expect(from.cookie == to.cookie)
            #expect(from.cookie != 0)
            #expect(all.contains { $0.mask == [.create, .isDirectory] && $0.name == Array("directory".utf8) })
            #expect(all.last?.mask == .delete)
        }
    }

    /// The watch is of the directory that is open, not of what has its name now.
    @Test func watchFollowsTheHandleNotTheName() throws {
        try withScratch { directory, path in
            try directory.makeDirectory("a")
            let handle = try directory.openDirectory("a")
            try directory.rename("a", to: directory, "b")
            try directory.makeDirectory("a")
            let inotify = try Inotify()
            let wd = try inotify.add(handle)
            #expect(try inotify.add(handle) == wd)
            #expect(try inotify.add(directory.openDirectory("a")) != wd)
            try directory.openDirectory("b").put("inside")
            let all = try events(inotify) { $0.mask == .create }
            #expect(all.first { $0.mask == .create }?.wd == wd)
        }
    }

    @Test func nothingHappenedReadsAsNothing() throws {
        let inotify = try Inotify()
        #expect(try inotify.readEvents() == [])
        #expect(try Poller.poll(descriptors: [inotify.descriptor], timeoutMilliseconds: 0) == [])
    }

    @Test func removedWatchSaysIgnored() throws {
        try withScratch { directory, path in
            let inotify = try Inotify()
            let wd = try inotify.add(directory)
            try inotify.remove(wd)
            let all = try events(inotify) { $0.mask.contains(.ignored) }
            #expect(all == [InotifyEvent(wd: wd, mask: .ignored, cookie: 0, name: [])])
            let error = systemError { () throws(SystemError) in try inotify.remove(wd) }
            #expect(error?.code == Errno.invalid)
        }
    }

    @Test func removedDirectorySaysSo() throws {
        try withScratch { directory, path in
            try directory.makeDirectory("a")
            let inotify = try Inotify()
            var handle: Directory? = try directory.openDirectory("a")
            let wd = try inotify.add(try #require(handle))
            // The object lives on while a handle is open.
            handle = nil
            try directory.removeDirectory("a")
            let all = try events(inotify) { $0.mask.contains(.ignored) }
            #expect(all.map(\.mask) == [.deleteSelf, .ignored])
            #expect(all.allSatisfy { $0.wd == wd && $0.name == [] })
        }
    }

    @Test func manyEventsInASmallBufferAreAllRead() throws {
        try withScratch { directory, path in
            let inotify = try Inotify()
            _ = try inotify.add(directory, mask: .create)
            var expected: [[UInt8]] = []
            for index in 0..<500 {
                let bytes = Array("\(index)-".utf8) + Array(repeating: 0x78, count: index % 240)
                expected.append(bytes)
                try directory.put(try Name(bytes))
            }
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
            defer { buffer.deallocate() }
            var names: [[UInt8]] = []
            while true {
                let events = Array(try inotify.read(into: buffer))
                if events.isEmpty { break }
                names += events.map(\.name)
            }
            #expect(names == expected)
        }
    }

    @Test func watchLimitIsNotAFullDisk() {
        #expect(SystemError(code: Errno.noSpace, call: "inotify_add_watch").isWatchLimit)
        #expect(!SystemError(code: Errno.noSpace, call: "pwrite").isWatchLimit)
    }
}
