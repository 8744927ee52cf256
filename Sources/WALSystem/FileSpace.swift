import CLinux
import WALFormat

// Holes, reservations, copies inside the kernel, and hints.

extension File {
    /// Reserves space without changing the size, fallocate(2). Not everywhere: ``SystemError/isUnsupported``.
    package func allocate(offset: UInt64, length: UInt64) throws(SystemError) {
        let result = cl_allocate(descriptor, Int64(clamping: offset), Int64(clamping: length))
        try check(result, "fallocate", describe(descriptor))
    }

    /// Reserves space in a file that a library has open in this process and holds locks on, which a handle of one's own
    /// would give back when it is closed. Does nothing when nobody has it open for writing.
    package static func allocate(inOpenFile path: String, length: UInt64) throws(SystemError) {
        try check(cl_allocate_open(path, Int64(clamping: length)), "fallocate", PathText.escaped(Array(path.utf8)))
    }

    /// Turns a range into a hole, which reads as zeros; the size stays, fallocate(2). Not everywhere:
    /// ``SystemError/isUnsupported``.
    package func punchHole(offset: UInt64, length: UInt64) throws(SystemError) {
        let result = cl_punch_hole(descriptor, Int64(clamping: offset), Int64(clamping: length))
        try check(result, "fallocate", describe(descriptor))
    }

    /// The first byte of data at or after `offset`; nil when only a hole or the end follows, lseek(2). File systems
    /// without holes say that all is data.
    package func seekData(from offset: UInt64) throws(SystemError) -> UInt64? {
        try seek(cl_seek_data(descriptor, Int64(clamping: offset)))
    }

    /// The first byte of a hole at or after `offset`; there is one at the end of every file. Nil when `offset` lies
    /// beyond it, lseek(2).
    package func seekHole(from offset: UInt64) throws(SystemError) -> UInt64? {
        try seek(cl_seek_hole(descriptor, Int64(clamping: offset)))
    }

    /// No byte of the range is in a hole or behind the end. Zeros read the same from either.
    package func isData(_ range: Range<UInt64>) throws(SystemError) -> Bool {
        if range.isEmpty { return true }
        return try seekHole(from: range.lowerBound) ?? 0 >= range.upperBound
    }

    /// Returns when the writes that are under way now have ended. Where a file can be read while it is written to, as on
    /// ext4, btrfs and tmpfs, the search for a hole takes the lock that a write has; on XFS each read does.
    package func waitForWrites() throws(SystemError) {
        // At the end, where it has nothing to search.
        _ = try seekHole(from: max(try size(), 1) - 1)
    }

    private func seek(_ result: Int64) throws(SystemError) -> UInt64? {
        if result == Int64(-Errno.noSuchAddress) { return nil }
        return UInt64(try check(result, "lseek", describe(descriptor)))
    }

    /// Shares all blocks of another file of the same file system, ioctl_ficlone(2). This file's content becomes the
    /// source's.
    ///
    /// - Returns: false, and nothing changed, where the file system cannot.
    package func cloneAll(from source: borrowing File) throws(SystemError) -> Bool {
        let result = cl_clone(source.descriptor, descriptor)
        switch -result {
        case Errno.notSupported, Errno.crossDevice, Errno.invalid, Errno.notTypewriter, Errno.noCall: return false
        default: break
        }
        try check(result, "ioctl_ficlone", describe(descriptor))
        return true
    }

    /// Copies a range inside the kernel where it can, by reading and writing otherwise, copy_file_range(2). Source and
    /// target may be the same file, and the ranges may overlap.
    ///
    /// - Returns: bytes copied, less than `length` only when the source ended.
    @discardableResult
    package func copyRange(
        from source: borrowing File, sourceOffset: UInt64, to offset: UInt64, length: UInt64
    ) throws(SystemError) -> UInt64 {
        var done: UInt64 = 0
        while done < length {
            let result = cl_copy_file_range(
                source.descriptor, Int64(clamping: sourceOffset + done), descriptor, Int64(clamping: offset + done),
                Int(clamping: length - done))
            switch -result {
            // Some file systems answer 0 for what they cannot copy, so the end of the source is left to read(2) to
            // find.
            case 0, Int64(Errno.crossDevice), Int64(Errno.invalid), Int64(Errno.notSupported), Int64(Errno.noCall),
                Int64(Errno.notPermitted):
                return done
                    + (try copyByReading(
                        from: source, sourceOffset: sourceOffset + done, to: offset + done, length: length - done))
            default:
                done += UInt64(try check(result, "copy_file_range", describe(descriptor)))
            }
        }
        return done
    }

    /// ``copyRange(from:sourceOffset:to:length:)`` without the kernel's help.
    package func copyByReading(
        from source: borrowing File, sourceOffset: UInt64, to offset: UInt64, length: UInt64
    ) throws(SystemError) -> UInt64 {
        let sourceSize = try source.size()
        let total = min(length, sourceSize > sourceOffset ? sourceSize - sourceOffset : 0)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(min(total, 256 << 10)), alignment: 16)
        defer { buffer.deallocate() }
        // As memmove does: in the same file a target behind its source would overwrite what is still to be read.
        let backwards = offset > sourceOffset && offset - sourceOffset < total
        var done: UInt64 = 0
        while done < total {
            let part = min(total - done, UInt64(buffer.count))
            let at = backwards ? total - done - part : done
            let read = try source.read(
                into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(part)]), at: sourceOffset + at)
            try write(UnsafeRawBufferPointer(rebasing: buffer[..<read]), at: offset + at)
            if UInt64(read) < part, !backwards { return done + UInt64(read) }
            done += part
        }
        return done
    }

    /// The file will be read from front to back: read ahead more, posix_fadvise(2). A hint; it cannot fail.
    package func adviseSequential() {
        cl_advise_sequential(descriptor)
    }

    /// Drops clean pages of the range from the cache, so that a pass over large files does not push out what others
    /// need, posix_fadvise(2). Length 0: to the end. A hint; it cannot fail.
    package func adviseNotNeeded(offset: UInt64 = 0, length: UInt64 = 0) {
        cl_advise_not_needed(descriptor, Int64(clamping: offset), Int64(clamping: length))
    }
}
