import CLinux
import WALFormat

// Operations on the names of a directory. None follows a symlink in the last component, and as a name is a single
// component there is no other. What is made here is durable after `sync()` of the directory, not before.

extension Directory {
    /// Opens a file for reading, openat(2) with `O_NOFOLLOW`. It does not wait for the writer of a FIFO; that it is a
    /// regular file is for the caller to ask with ``File/status()``.
    ///
    /// - Parameter keepAccessTime: do not change the access time, where this process may ask for that.
    package func openFile(_ name: Name, keepAccessTime: Bool = false) throws(SystemError) -> File {
        let result = cl_open_file(descriptor, name.bytes, name.bytes.count, keepAccessTime ? 1 : 0)
        return File(descriptor: try check(result, "openat", describe(descriptor, name.bytes)))
    }

    /// Opens an existing file for reading and writing; its content stays.
    package func openFileForWriting(_ name: Name) throws(SystemError) -> File {
        let result = cl_open_file_for_writing(descriptor, name.bytes, name.bytes.count)
        return File(descriptor: try check(result, "openat", describe(descriptor, name.bytes)))
    }

    /// Creates a file and opens it for reading and writing.
    ///
    /// - Parameters:
    ///   - permissions: before the umask is taken off; ``File/setMode(_:)`` sets exact ones.
    ///   - exclusive: false also opens a file that exists, with its content and its permissions.
    package func createFile(
        _ name: Name, permissions: UInt16 = 0o600, exclusive: Bool = true
    ) throws(SystemError) -> File {
        let result = cl_create_file(
            descriptor, name.bytes, name.bytes.count, UInt32(permissions), exclusive ? 1 : 0)
        return File(descriptor: try check(result, "openat", describe(descriptor, name.bytes)))
    }

    /// mkdirat(2); the umask is taken off the permissions.
    package func makeDirectory(_ name: Name, permissions: UInt16 = 0o700) throws(SystemError) {
        try check(
            cl_make_directory(descriptor, name.bytes, name.bytes.count, UInt32(permissions)), "mkdirat",
            describe(descriptor, name.bytes))
    }

    /// symlinkat(2).
    ///
    /// - Parameter target: 1–4095 bytes without NUL, not looked at otherwise.
    package func makeSymlink(_ name: Name, target: [UInt8]) throws(SystemError) {
        guard !target.contains(0) else {
            throw SystemError(code: Errno.invalid, call: "symlinkat", path: describe(descriptor, name.bytes))
        }
        let terminated = target.map(CChar.init(bitPattern:)) + [0]
        try check(
            cl_make_symlink(terminated, descriptor, name.bytes, name.bytes.count), "symlinkat",
            describe(descriptor, name.bytes))
    }

    /// A FIFO or a device node with the permissions 0600, mknodat(2). Devices need a privilege: `EPERM`.
    ///
    /// - Parameter kind: one of the three.
    package func makeNode(_ name: Name, _ kind: Kind, _ number: DeviceNumber) throws(SystemError) {
        let type: UInt32 =
            switch kind {
            case .characterDevice: 0o020000
            case .blockDevice: 0o060000
            default: 0o010000
            }
        try check(
            cl_make_node(descriptor, name.bytes, name.bytes.count, type, 0o600, number.major, number.minor), "mknodat",
            describe(descriptor, name.bytes))
    }

    /// The target of a symlink, readlinkat(2); `EINVAL` when it is none.
    package func readLink(_ name: Name) throws(SystemError) -> [UInt8] {
        // One byte more than a target can have, so that a cut one would be seen.
        let (bytes, result) = withUnsafeTemporaryAllocation(byteCount: Limits.maxLinkTargetBytes + 1, alignment: 1) {
            buffer in
            let count = cl_read_link(descriptor, name.bytes, name.bytes.count, buffer.baseAddress, buffer.count)
            return (Array(buffer.prefix(Int(max(count, 0)))), count)
        }
        try check(result, "readlinkat", describe(descriptor, name.bytes))
        guard bytes.count <= Limits.maxLinkTargetBytes else {
            throw SystemError(code: Errno.nameTooLong, call: "readlinkat", path: describe(descriptor, name.bytes))
        }
        return bytes
    }

    /// Gives an object one more name; a symlink itself, not its target, linkat(2).
    package func link(_ name: Name, to directory: Directory, _ newName: Name) throws(SystemError) {
        try check(
            cl_link(
                descriptor, name.bytes, name.bytes.count, directory.descriptor, newName.bytes, newName.bytes.count),
            "linkat", describe(directory.descriptor, newName.bytes))
    }

    /// Removes a name of anything but a directory (`EISDIR`), unlinkat(2).
    package func unlink(_ name: Name) throws(SystemError) {
        try check(
            cl_unlink(descriptor, name.bytes, name.bytes.count, 0), "unlinkat", describe(descriptor, name.bytes))
    }

    /// Removes an empty directory, unlinkat(2) with `AT_REMOVEDIR`.
    package func removeDirectory(_ name: Name) throws(SystemError) {
        try check(
            cl_unlink(descriptor, name.bytes, name.bytes.count, 1), "unlinkat", describe(descriptor, name.bytes))
    }

    /// Moves an object, renameat2(2). What has the new name already is replaced in one step, unless:
    ///
    /// - Parameters:
    ///   - noReplace: fails with `EEXIST` when the new name is taken.
    ///   - exchange: both names exist and swap what they mean. File systems without it answer `EINVAL`.
    package func rename(
        _ name: Name, to directory: Directory, _ newName: Name, noReplace: Bool = false, exchange: Bool = false
    ) throws(SystemError) {
        try check(
            cl_rename(
                descriptor, name.bytes, name.bytes.count, directory.descriptor, newName.bytes, newName.bytes.count,
                noReplace ? 1 : 0, exchange ? 1 : 0),
            "renameat2",
            "\(describe(descriptor, name.bytes))' to '\(describe(directory.descriptor, newName.bytes))")
    }

    /// fchownat(2), of a symlink itself. Takes setuid and setgid off a file, so it comes before the mode.
    package func setOwner(_ name: Name, uid: UInt32, gid: UInt32) throws(SystemError) {
        try check(
            cl_set_owner_of(descriptor, name.bytes, name.bytes.count, uid, gid), "fchownat",
            describe(descriptor, name.bytes))
    }

    /// fchmodat(2), 0...0o7777. Not for symlinks, which have no mode of their own on Linux: `EOPNOTSUPP`.
    package func setMode(_ name: Name, _ mode: UInt16) throws(SystemError) {
        try check(
            cl_set_mode_of(descriptor, name.bytes, name.bytes.count, UInt32(mode)), "fchmodat",
            describe(descriptor, name.bytes))
    }

    /// utimensat(2), of a symlink itself; the access time stays. File systems hold times beyond their range at its end.
    package func setModificationTime(_ name: Name, _ time: Timestamp) throws(SystemError) {
        try check(
            cl_set_mtime_of(descriptor, name.bytes, name.bytes.count, time.seconds, time.nanoseconds), "utimensat",
            describe(descriptor, name.bytes))
    }

    /// fchown(2) of this directory itself.
    package func setOwner(uid: UInt32, gid: UInt32) throws(SystemError) {
        try check(cl_set_owner(descriptor, uid, gid), "fchown", describe(descriptor))
    }

    /// fchmod(2) of this directory itself, 0...0o7777.
    package func setMode(_ mode: UInt16) throws(SystemError) {
        try check(cl_set_mode(descriptor, UInt32(mode)), "fchmod", describe(descriptor))
    }

    /// futimens(3) of this directory itself; the access time stays.
    package func setModificationTime(_ time: Timestamp) throws(SystemError) {
        try check(cl_set_mtime(descriptor, time.seconds, time.nanoseconds), "futimens", describe(descriptor))
    }
}
