import CLinux
import WALFormat

/// One name in a directory, as getdents64(2) lists it.
package struct DirectoryEntry: Hashable, Sendable {
    package var name: Name
    package var ino: UInt64
    /// `DT_…` of readdir(3); file systems may say ``unknownType`` for anything.
    package var type: UInt8

    package init(name: Name, ino: UInt64, type: UInt8) {
        self.name = name
        self.ino = ino
        self.type = type
    }

    package static let unknownType: UInt8 = 0
    package static let directoryType: UInt8 = 4
    package static let fileType: UInt8 = 8
    package static let symlinkType: UInt8 = 10
}

extension Directory {
    /// All names but `.` and `..`, in the order of the file system. A name that is made or removed meanwhile may be in
    /// it or not; one that is renamed may be in it twice or not at all.
    package func entries() throws(SystemError) -> [DirectoryEntry] {
        var entries: [DirectoryEntry] = []
        try readAll { name, type, ino in
            entries.append(DirectoryEntry(name: Name(trusted: Array(name)), ino: ino, type: type))
        }
        return entries
    }

    /// Calls `body` with the bytes of each name (valid during the call), its `DT_…` type and its inode number; for
    /// directories too large for an array. Lists from the start each time, getdents64(2).
    package func readAll(
        _ body: (_ name: UnsafeRawBufferPointer, _ type: UInt8, _ ino: UInt64) throws(SystemError) -> Void
    ) throws(SystemError) {
        // The position belongs to the open file description. One of our own lets threads that share this handle list it
        // at the same time.
        let own = try reopen()
        // Below malloc's threshold for mmap, so that a scan of many small directories uses the same pages again.
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 96 << 10, alignment: 8)
        defer { buffer.deallocate() }
        while true {
            let count = Int(
                try check(
                    cl_getdents(own.descriptor, buffer.baseAddress, buffer.count), "getdents64",
                    describe(descriptor)))
            if count == 0 { return }
            try Directory.parse(UnsafeRawBufferPointer(rebasing: buffer[..<count]), body)
        }
    }

    /// `struct linux_dirent64`: ino 8, offset 8, record length 2, type 1, name with its NUL and padding.
    private static func parse(
        _ records: UnsafeRawBufferPointer,
        _ body: (_ name: UnsafeRawBufferPointer, _ type: UInt8, _ ino: UInt64) throws(SystemError) -> Void
    ) throws(SystemError) {
        let nameOffset = 19
        var start = 0
        while start + nameOffset < records.count {
            let ino = records.loadUnaligned(fromByteOffset: start, as: UInt64.self)
            let length = Int(records.loadUnaligned(fromByteOffset: start + 16, as: UInt16.self))
            let type = records[start + 18]
            precondition(length > nameOffset && start + length <= records.count, "getdents64 record out of bounds")
            let field = UnsafeRawBufferPointer(rebasing: records[start + nameOffset..<start + length])
            let name = UnsafeRawBufferPointer(rebasing: field[..<(field.firstIndex(of: 0) ?? field.count)])
            start += length
            let isDot = name[0] == 0x2E && (name.count == 1 || (name.count == 2 && name[1] == 0x2E))
            if !isDot { try body(name, type, ino) }
        }
    }
}
