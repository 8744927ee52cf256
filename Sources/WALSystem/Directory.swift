import CLinux
import WALFormat

/// An open directory: the anchor of every path operation. Names are single components, so that nothing but
/// ``open(path:)-([UInt8])`` and ``openDirectory(at:)`` ever resolves a path, and the latter follows no symlink.
///
/// The descriptor is closed in `deinit`: a directory handle holds no unwritten data, so an error of that close loses
/// nothing. All methods may be called from several threads at once; none of them moves a shared position.
package final class Directory: Sendable {
    package let descriptor: Int32

    /// Takes over the descriptor.
    package init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit {
        _ = cl_close(descriptor)
    }

    /// Opens a root that a user gave: absolute or relative to the working directory, symlinks are followed, open(2).
    package static func open(path: [UInt8]) throws(SystemError) -> Directory {
        guard !path.contains(0) else {
            throw SystemError(code: Errno.invalid, call: "open", path: PathText.escaped(path))
        }
        let terminated = path.map(CChar.init(bitPattern:)) + [0]
        return Directory(descriptor: try check(cl_open_directory(terminated), "open", PathText.escaped(path)))
    }

    package static func open(path: String) throws(SystemError) -> Directory {
        try open(path: Array(path.utf8))
    }

    /// Opens a directory in this one. A symlink is refused (``SystemError/isSymlinkOrEscape`` or
    /// ``SystemError/isNotFound``), openat(2).
    package func openDirectory(_ name: Name) throws(SystemError) -> Directory {
        let result = cl_open_directory_name(descriptor, name.bytes, name.bytes.count)
        return Directory(descriptor: try check(result, "openat", describe(descriptor, name.bytes)))
    }

    /// Opens a directory anywhere beneath this one, of any depth; no components: this one again, as a handle of its
    /// own. A symlink on the way is refused, openat2(2) with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
    /// RESOLVE_NO_MAGICLINKS`.
    package func openDirectory(at components: some Collection<Name>) throws(SystemError) -> Directory {
        var current = self
        var rest = components[...]
        repeat {
            let (path, count) = try current.longestPath(rest)
            let result = cl_open_directory_beneath(current.descriptor, path)
            // Kernels before 5.6 do not have openat2 (ENOSYS), and the filters of some containers answer EPERM to calls
            // that they do not know. Neither is an answer about the path.
            if result == -Errno.noCall || result == -Errno.notPermitted {
                return try current.openDirectory(walking: rest)
            }
            let shown = path.dropLast().lazy.map(UInt8.init(bitPattern:))
            current = Directory(descriptor: try check(result, "openat2", describe(current.descriptor, shown)))
            rest = rest.dropFirst(count)
        } while !rest.isEmpty
        return current
    }

    /// ``openDirectory(at:)`` with one handle a component, for kernels without openat2(2).
    package func openDirectory(walking components: some Collection<Name>) throws(SystemError) -> Directory {
        guard !components.isEmpty else { return try reopen() }
        var current = self
        for name in components {
            current = try current.openDirectory(name)
        }
        return current
    }

    /// This directory again, with a descriptor and a position of its own.
    func reopen() throws(SystemError) -> Directory {
        Directory(descriptor: try check(cl_reopen_directory(descriptor), "openat", describe(descriptor)))
    }

    /// As many components as fit into a path of `PATH_MAX` bytes with its NUL, and how many they are.
    private func longestPath(_ components: some Collection<Name>) throws(SystemError) -> (path: [CChar], count: Int) {
        let pathMax = 4096
        var path: [CChar] = []
        var count = 0
        for name in components {
            // A NUL inside would end the path early, and another directory would be opened.
            guard Name.isValid(name.bytes) else {
                throw SystemError(code: Errno.invalid, call: "openat2", path: describe(descriptor, name.bytes))
            }
            guard path.count + 1 + name.bytes.count + 1 <= pathMax else { break }
            if !path.isEmpty { path.append(0x2F) }
            path.append(contentsOf: name.bytes.lazy.map(CChar.init(bitPattern:)))
            count += 1
        }
        if path.isEmpty { path.append(0x2E) }
        path.append(0)
        return (path, count)
    }

    /// The status of an object in this directory; of a symlink itself, statx(2). Automounts are not triggered.
    ///
    /// Asks a network file system as stat(2) does, rather than with `AT_STATX_DONT_SYNC`: a rescan is there to see the
    /// writes of other hosts, and a cached answer would hide them. Local file systems do not tell the two apart.
    package func status(of name: Name) throws(SystemError) -> FileStatus {
        var raw = cl_status()
        try check(
            cl_status_of(descriptor, name.bytes, name.bytes.count, &raw), "statx", describe(descriptor, name.bytes))
        return FileStatus(raw)
    }

    /// The status of this directory, statx(2).
    package func status() throws(SystemError) -> FileStatus {
        var raw = cl_status()
        try check(cl_descriptor_status(descriptor, &raw), "statx", describe(descriptor))
        return FileStatus(raw)
    }

    /// Makes the names in this directory durable, fsync(2). After an error the kernel may have dropped what it could
    /// not write: doing it again and seeing no error proves nothing.
    package func sync() throws(SystemError) {
        try check(cl_fsync(descriptor), "fsync", describe(descriptor))
    }

    /// Makes everything on this directory's file system durable, syncfs(2). Errors of writing back are reported since
    /// Linux 5.8.
    package func syncFilesystem() throws(SystemError) {
        try check(cl_syncfs(descriptor), "syncfs", describe(descriptor))
    }

    /// Takes the directory's lock, or returns false when another open handle has it, flock(2). It is given back when this
    /// handle is closed, also by the death of the process. Advisory, and it writes nothing.
    package func lockExclusive() throws(SystemError) -> Bool {
        try check(cl_lock_exclusive(descriptor), "flock", describe(descriptor)) == 1
    }

    /// Whether this process may make and remove names here, faccessat(2).
    package var mayChangeNames: Bool { cl_may_change_names(descriptor) == 1 }

    /// fstatvfs(3) of the file system that holds this directory.
    package func space() throws(SystemError) -> FilesystemSpace {
        var raw = cl_space()
        try check(cl_descriptor_space(descriptor, &raw), "fstatvfs", describe(descriptor))
        return FilesystemSpace(
            totalBytes: raw.total_bytes, availableBytes: raw.available_bytes, availableInodes: raw.free_inodes,
            blockBytes: raw.block_bytes)
    }

    /// Where this directory is now. For messages, not for opening again: it may be renamed at any time.
    package var currentPath: [UInt8]? { descriptorPath(descriptor) }
}
