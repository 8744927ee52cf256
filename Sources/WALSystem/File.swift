import CLinux
import WALFormat

/// An open file. All reading and writing is at given offsets, so no two users of a file share a position.
///
/// Close it with ``close()``, which reports what the file system only then finds out (NFS, quota). The close in
/// `deinit` is for paths that already throw another error: it loses that report. Neither makes anything durable.
package struct File: ~Copyable, Sendable {
    package let descriptor: Int32

    /// Takes over the descriptor.
    package init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit {
        _ = cl_close(descriptor)
    }

    /// close(2). The descriptor is gone even when it throws.
    package consuming func close() throws(SystemError) {
        let result = cl_close(descriptor)
        discard self
        try check(result, "close", nil)
    }

    /// Fills the buffer from `offset` on until it is full or the file ends, pread(2).
    ///
    /// - Returns: bytes read, less than the buffer's only at the end of the file.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(SystemError) -> Int {
        guard buffer.count > 0 else { return 0 }
        let result = cl_read(descriptor, buffer.baseAddress, buffer.count, Int64(clamping: offset))
        return Int(try check(result, "pread", describe(descriptor)))
    }

    /// Up to `count` bytes from `offset` on; fewer only at the end of the file.
    package func read(count: Int, at offset: UInt64) throws(SystemError) -> [UInt8] {
        var result: Int64 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            if count > 0 { result = cl_read(descriptor, buffer.baseAddress, count, Int64(clamping: offset)) }
            filled = Int(max(result, 0))
        }
        try check(result, "pread", describe(descriptor))
        return bytes
    }

    /// Writes all bytes at `offset`, pwrite(2). After an error any part of them may be written.
    package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(SystemError) {
        guard bytes.count > 0 else { return }
        let result = cl_write(descriptor, bytes.baseAddress, bytes.count, Int64(clamping: offset))
        try check(result, "pwrite", describe(descriptor))
    }

    package func write(_ bytes: [UInt8], at offset: UInt64) throws(SystemError) {
        let result = cl_write(descriptor, bytes, bytes.count, Int64(clamping: offset))
        try check(result, "pwrite", describe(descriptor))
    }

    /// Writes all buffers one after another from `offset` on, pwritev(2). After an error any part may be written.
    package func write(gathering buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(SystemError) {
        let slices = buffers.map { cl_slice(base: $0.baseAddress, length: $0.count) }
        let result = cl_write_slices(descriptor, slices, slices.count, Int64(clamping: offset))
        try check(result, "pwritev", describe(descriptor))
    }

    /// Cuts the file or grows it with a hole, ftruncate(2).
    package func truncate(to size: UInt64) throws(SystemError) {
        try check(cl_truncate(descriptor, Int64(clamping: size)), "ftruncate", describe(descriptor))
    }

    /// statx(2).
    package func status() throws(SystemError) -> FileStatus {
        var raw = cl_status()
        try check(cl_descriptor_status(descriptor, &raw), "statx", describe(descriptor))
        return FileStatus(raw)
    }

    /// Bytes.
    package func size() throws(SystemError) -> UInt64 {
        try status().size
    }

    /// Makes content and size durable, fdatasync(2). After an error the kernel may have dropped what it could not
    /// write: doing it again and seeing no error proves nothing.
    package func syncData() throws(SystemError) {
        try check(cl_fdatasync(descriptor), "fdatasync", describe(descriptor))
    }

    /// Makes content and metadata durable, fsync(2), with the same warning as ``syncData()``. The file's name becomes
    /// durable with ``Directory/sync()``.
    package func sync() throws(SystemError) {
        try check(cl_fsync(descriptor), "fsync", describe(descriptor))
    }

    /// fchown(2). Takes setuid and setgid off, so it comes before the mode.
    package func setOwner(uid: UInt32, gid: UInt32) throws(SystemError) {
        try check(cl_set_owner(descriptor, uid, gid), "fchown", describe(descriptor))
    }

    /// fchmod(2), 0...0o7777, exactly: no umask.
    package func setMode(_ mode: UInt16) throws(SystemError) {
        try check(cl_set_mode(descriptor, UInt32(mode)), "fchmod", describe(descriptor))
    }

    /// futimens(3); the access time stays.
    package func setModificationTime(_ time: Timestamp) throws(SystemError) {
        try check(cl_set_mtime(descriptor, time.seconds, time.nanoseconds), "futimens", describe(descriptor))
    }

    /// Takes the file's lock, or returns false when another open handle has it, flock(2). It is given back when this
    /// handle is closed, also by the death of the process. Advisory; on NFS it is a lock of the whole process.
    package func lockExclusive() throws(SystemError) -> Bool {
        try check(cl_lock_exclusive(descriptor), "flock", describe(descriptor)) == 1
    }
}
