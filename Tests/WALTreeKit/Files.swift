import Glibc
import WALFormat
import WALSystem

/// The calls of a program that works in a tree, straight from libc: what the code under test sees must not come from the
/// code under test. Paths are text; odd bytes go through `Glibc` directly.
package enum Files {
    package struct Failure: Error, CustomStringConvertible {
        package let call: String
        package let code: Int32
        package var description: String { "\(call): \(String(cString: strerror(code)))" }
    }

    @discardableResult
    private static func check(_ result: Int32, _ call: @autoclosure () -> String) throws(Failure) -> Int32 {
        if result < 0 { throw Failure(call: call(), code: errno) }
        return result
    }

    package static func makeDirectory(_ path: String, mode: mode_t = 0o755) throws(Failure) {
        try check(mkdir(path, mode), "mkdir \(path)")
    }

    // Nothing waits for the other end of a FIFO.

    package static func write(_ path: String, _ bytes: [UInt8], mode: mode_t = 0o644) throws(Failure) {
        let descriptor = try check(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, mode), "open \(path)")
        defer { close(descriptor) }
        try writeAll(descriptor, bytes, at: 0)
    }

    package static func write(_ path: String, _ text: String) throws(Failure) {
        try write(path, Array(text.utf8))
    }

    /// Into a file that exists, without changing what stands around it.
    package static func patch(_ path: String, at offset: Int, _ bytes: [UInt8]) throws(Failure) {
        let descriptor = try check(open(path, O_WRONLY | O_NONBLOCK), "open \(path)")
        defer { close(descriptor) }
        try writeAll(descriptor, bytes, at: offset)
    }

    package static func append(_ path: String, _ bytes: [UInt8]) throws(Failure) {
        try patch(path, at: Int(try status(path).st_size), bytes)
    }

    private static func writeAll(_ descriptor: Int32, _ bytes: [UInt8], at offset: Int) throws(Failure) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress! + done, bytes.count - done, offset + done)
            }
            if count < 0 { throw Failure(call: "pwrite", code: errno) }
            done += count
        }
    }

    package static func read(_ path: String) throws(Failure) -> [UInt8] {
        let descriptor = try check(open(path, O_RDONLY | O_NONBLOCK), "open \(path)")
        defer { close(descriptor) }
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = Glibc.read(descriptor, &part, part.count)
            if count < 0 { throw Failure(call: "read \(path)", code: errno) }
            if count == 0 { return all }
            all += part[..<count]
        }
    }

    package static func truncate(_ path: String, to size: Int) throws(Failure) {
        try check(Glibc.truncate(path, size), "truncate \(path)")
    }

    package static func rename(_ path: String, _ new: String) throws(Failure) {
        try check(Glibc.rename(path, new), "rename \(path) \(new)")
    }

    /// renameat2(2) with `RENAME_EXCHANGE`, which Glibc does not show to Swift.
    package static func exchange(_ path: String, _ other: String) throws {
        let (from, name) = try split(path)
        let (to, newName) = try split(other)
        try from.rename(name, to: to, newName, exchange: true)
    }

    private static func split(_ path: String) throws -> (Directory, Name) {
        let slash = path.lastIndex(of: "/")!
        return (
            try Directory.open(path: String(path[..<slash])), try Name(Array(path[path.index(after: slash)...].utf8))
        )
    }

    package static func remove(_ path: String) throws(Failure) {
        try check(unlink(path), "unlink \(path)")
    }

    package static func removeDirectory(_ path: String) throws(Failure) {
        try check(rmdir(path), "rmdir \(path)")
    }

    package static func removeTree(_ path: String) throws(Failure) {
        if try status(path).st_mode & S_IFMT == S_IFDIR {
            chmod(path, 0o700)
            // Through directory handles: a name need not be UTF-8, nor a path shorter than PATH_MAX.
            do throws(SystemError) {
                try Directory.open(path: path).removeContents()
            } catch {
                throw Failure(call: "removeTree \(path): \(error)", code: error.code)
            }
            try removeDirectory(path)
        } else {
            try remove(path)
        }
    }

    package static func link(_ path: String, _ new: String) throws(Failure) {
        try check(Glibc.link(path, new), "link \(path) \(new)")
    }

    package static func symlink(_ path: String, to target: String) throws(Failure) {
        try check(Glibc.symlink(target, path), "symlink \(path)")
    }

    package static func setMode(_ path: String, _ mode: mode_t) throws(Failure) {
        try check(chmod(path, mode), "chmod \(path)")
    }

    /// `mode` with its type; `device` as makedev(3) gives it.
    package static func makeNode(_ path: String, _ mode: mode_t, _ device: dev_t = 0) throws(Failure) {
        try check(mknod(path, mode, device), "mknod \(path)")
    }

    package static func setAttribute(_ path: String, _ name: String, _ value: [UInt8]) throws(Failure) {
        try check(lsetxattr(path, name, value, value.count, 0), "lsetxattr \(path) \(name)")
    }

    package static func removeAttribute(_ path: String, _ name: String) throws(Failure) {
        try check(lremovexattr(path, name), "lremovexattr \(path) \(name)")
    }

    /// All of them, those of the host's own security module excepted.
    package static func attributes(_ path: String) throws(Failure) -> [String: [UInt8]] {
        var list = [CChar](repeating: 0, count: 1 << 16)
        let count = llistxattr(path, &list, list.count)
        if count < 0, errno == ENOTSUP { return [:] }
        try check(Int32(clamping: count), "llistxattr \(path)")
        var found: [String: [UInt8]] = [:]
        for part in list[..<count].split(separator: 0) {
            let name = String(decoding: part.map(UInt8.init(bitPattern:)), as: UTF8.self)
            if name == "security.selinux" { continue }
            var value = [UInt8](repeating: 0, count: 1 << 16)
            let length = lgetxattr(path, name, &value, value.count)
            try check(Int32(clamping: length), "lgetxattr \(path) \(name)")
            found[name] = Array(value[..<length])
        }
        return found
    }

    /// Deallocates a range: it reads as zeros, and the size stays.
    package static func punch(_ path: String, at offset: Int, _ count: Int) throws(Failure) {
        let descriptor = try check(open(path, O_WRONLY | O_NONBLOCK), "open \(path)")
        defer { close(descriptor) }
        // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        try check(fallocate(descriptor, 3, offset, count), "fallocate \(path)")
    }

    /// Writes through a mapping that is gone then.
    package static func writeMapped(_ path: String, at offset: Int, _ bytes: [UInt8]) throws(Failure) {
        try Mapping(path).write(bytes, at: offset)
    }

    package static func setOwner(_ path: String, _ uid: uid_t, _ gid: gid_t) throws(Failure) {
        try check(lchown(path, uid, gid), "chown \(path)")
    }

    package static func setTime(_ path: String, _ seconds: Int, _ nanoseconds: Int = 0) throws(Failure) {
        let time = timespec(tv_sec: seconds, tv_nsec: nanoseconds)
        try check(utimensat(AT_FDCWD, path, [time, time], AT_SYMLINK_NOFOLLOW), "utimensat \(path)")
    }

    /// The calling thread alone sees files as another user does, setfsuid(2): root's rights on files go with it.
    package static func setFileUser(_ user: UInt32) {
        typealias Call = @convention(c) (UInt32) -> Int32
        for name in ["setfsgid", "setfsuid"] { _ = unsafeBitCast(dlsym(nil, name), to: Call.self)(user) }
    }

    package static func status(_ path: String) throws(Failure) -> stat {
        var status = stat()
        try check(lstat(path, &status), "lstat \(path)")
        return status
    }

    package static func exists(_ path: String) -> Bool { (try? status(path)) != nil }

    /// Names in the directory in the order of their bytes; those that are no UTF-8 are left out.
    package static func list(_ path: String) throws(Failure) -> [String] {
        guard let stream = opendir(path) else { throw Failure(call: "opendir \(path)", code: errno) }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let name, name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Every path below `root`, without it, parents first.
    package static func walk(_ root: String) throws(Failure) -> [(path: String, status: stat)] {
        var found: [(path: String, status: stat)] = []
        var waiting = [root]
        while let directory = waiting.popLast() {
            for name in try list(directory) {
                let path = directory + "/" + name
                let status = try status(path)
                found.append((path, status))
                if status.st_mode & S_IFMT == S_IFDIR { waiting.append(path) }
            }
        }
        return found
    }
}
