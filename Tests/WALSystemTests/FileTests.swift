import Testing
import WALFormat
import WALSystem

@Suite struct FileTests {
    @Test func readStopsAtTheEnd() throws {
        try withScratch { directory, path in
            try directory.put("file", "0123456789")
            let file = try directory.openFile("file")
            var buffer = [UInt8](repeating: 0xAA, count: 16)
            let whole = try buffer.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
            #expect(whole == 10)
            #expect(buffer == Array("0123456789".utf8) + Array(repeating: 0xAA, count: 6))
            let tail = try file.read(count: 16, at: 7)
            #expect(tail == Array("789".utf8))
            let atEnd = try file.read(count: 16, at: 10)
            #expect(atEnd == [])
            let beyond = try buffer.withUnsafeMutableBytes { try file.read(into: $0, at: 1 << 40) }
            #expect(beyond == 0)
            let none = try file.read(count: 0, at: 0)
            #expect(none == [])
            try file.close()
        }
    }

    @Test func writeAtAnOffsetLeavesZerosBefore() throws {
        try withScratch { directory, path in
            let file = try directory.createFile("file")
            try file.write([1, 2], at: 4)
            try file.write([], at: 100)
            let bytes = try file.read(count: 100, at: 0)
            #expect(bytes == [0, 0, 0, 0, 1, 2])
        }
    }

    /// More buffers than go into one pwritev(2), with empty ones first, between and last.
    @Test func gatheredBuffersAreWrittenInOrder() throws {
        try withScratch { directory, path in
            let parts = (0..<300).map { index in
                [UInt8](repeating: UInt8(index % 251), count: index % 7 == 0 ? 0 : (index * 37) % 5000)
            }
            let flat = parts.flatMap { $0 }
            let file = try directory.createFile("file")
            try flat.withUnsafeBytes { bytes in
                var start = 0
                var buffers: [UnsafeRawBufferPointer] = []
                for part in parts {
                    buffers.append(UnsafeRawBufferPointer(rebasing: bytes[start..<start + part.count]))
                    start += part.count
                }
                buffers.insert(UnsafeRawBufferPointer(start: nil, count: 0), at: 0)
                buffers.append(UnsafeRawBufferPointer(start: nil, count: 0))
                try file.write(gathering: buffers, at: 10)
                try file.write(gathering: [], at: 1 << 30)
            }
            let size = try file.size()
            #expect(size == UInt64(flat.count + 10))
            let read = try file.read(count: flat.count, at: 10)
            #expect(read == flat)
        }
    }

    @Test func truncateCutsAndGrows() throws {
        try withScratch { directory, path in
            let file = try directory.createFile("file")
            try file.write([1, 2, 3], at: 0)
            try file.truncate(to: 1)
            try file.truncate(to: 3)
            let bytes = try file.read(count: 10, at: 0)
            #expect(bytes == [1, 0, 0])
            try file.syncData()
            try file.sync()
        }
    }

    @Test func closedDescriptorIsGone() throws {
        try withScratch { directory, path in
            let file = try directory.createFile("file")
            let number = file.descriptor
            let before = try #require(descriptorPath(number))
            #expect(String(decoding: before, as: UTF8.self) == path + "/file")
            try file.close()
            // Other tests open descriptors meanwhile, so the number may be taken again, but by another file.
            #expect(descriptorPath(number) != before)
        }
    }

    @Test func fileIsClosedWhenDropped() throws {
        try withScratch { directory, path in
            func openAndDrop() throws -> Int32 {
                let file = try directory.createFile("file")
                return file.descriptor
            }
            let number = try openAndDrop()
            #expect(descriptorPath(number).map { String(decoding: $0, as: UTF8.self) } != path + "/file")
        }
    }

    @Test func closingABadDescriptorThrows() throws {
        let error = systemError { () throws(SystemError) in try File(descriptor: 1_000_000_000).close() }
        #expect(error?.code == 9)
        #expect(error?.call == "close")
    }

    @Test func readOnlyFileRefusesWrites() throws {
        try withScratch { directory, path in
            try directory.put("file")
            let file = try directory.openFile("file")
            var code: Int32 = 0
            do throws(SystemError) {
                try file.write([1], at: 0)
            } catch {
                code = error.code
                #expect(error.path == path + "/file")
            }
            #expect(code == 9)
        }
    }

    @Test func lockIsRefusedTheSecondTimeAndGivenBackByClose() throws {
        try withScratch { directory, path in
            let first = try directory.createFile("lock")
            let second = try directory.openFileForWriting("lock")
            let got = try first.lockExclusive()
            #expect(got)
            let refused = try second.lockExclusive()
            #expect(!refused)
            try first.close()
            let gotNow = try second.lockExclusive()
            #expect(gotNow)
        }
    }

    @Test func modeIsExact() throws {
        try withScratch { directory, path in
            let file = try directory.createFile("file", permissions: 0o600)
            try file.setMode(0o666)
            let mode = try file.status().mode
            #expect(mode == 0o666)
        }
    }
}
