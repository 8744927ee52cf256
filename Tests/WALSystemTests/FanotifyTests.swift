import Testing
import WALFormat
import WALSystem

/// As root on a file system with handles, which the tests' scratch folder is on. Events of others are there, too.
@Suite struct FanotifyTests {
    private func events(
        _ fanotify: Fanotify, in directory: FileHandleKey, until isLast: (FanotifyEvent) -> Bool
    ) throws -> [FanotifyEvent] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
        defer { buffer.deallocate() }
        var all: [FanotifyEvent] = []
        let deadline = Clock.monotonicNanoseconds() + 10_000_000_000
        while Clock.monotonicNanoseconds() < deadline, !all.contains(where: isLast) {
            _ = try Poller.poll(descriptors: [fanotify.descriptor], timeoutMilliseconds: 100)
            all += try fanotify.read(into: buffer).filter { $0.directory == directory }
        }
        return all
    }

    @Test func eventsNameTheDirectoryByItsHandle() throws {
        try withScratch { directory, path in
            try directory.makeDirectory("watched")
            let watched = try directory.openDirectory("watched")
            let key = try FileHandleKey(of: watched)
            #expect(try key != FileHandleKey(of: directory))
            let fanotify = try Fanotify()
            try fanotify.watchFilesystem(of: directory)
            let name = Name(trusted: [0xFF, 0x0A])
            try watched.put(name, "content")
            // The handle follows the directory, whatever it is called.
            try directory.rename("watched", to: directory, "renamed")
            #expect(try FileHandleKey(of: directory.openDirectory("renamed")) == key)
            try watched.setMode(0o711)
            try watched.unlink(name)
            let all = try events(fanotify, in: key) { $0.mask.contains(.delete) }
            #expect(all.contains { $0.mask.contains(.create) && $0.name == name.bytes })
            #expect(all.contains { $0.mask.contains(.modify) && $0.name == name.bytes })
            #expect(all.contains { $0.mask.contains(.attributes) && $0.name.isEmpty })
            #expect(all.contains { $0.mask.contains(.delete) && $0.name == name.bytes })
        }
    }

    @Test func nothingIsAnAnswer() throws {
        let fanotify = try Fanotify()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
        defer { buffer.deallocate() }
        #expect(try Array(fanotify.read(into: buffer)) == [])
    }
}
