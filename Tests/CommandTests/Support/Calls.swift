import Glibc

// Calls of libc that Swift's Glibc module does not have: xattr(7), fallocate(2), renameat2(2).

@_silgen_name("lsetxattr")
private func lsetxattr(
    _ path: UnsafePointer<CChar>, _ name: UnsafePointer<CChar>, _ value: UnsafeRawPointer?, _ size: Int, _ flags: CInt
) -> CInt

@_silgen_name("lgetxattr")
private func lgetxattr(
    _ path: UnsafePointer<CChar>, _ name: UnsafePointer<CChar>, _ value: UnsafeMutableRawPointer?, _ size: Int
) -> Int

@_silgen_name("llistxattr")
private func llistxattr(_ path: UnsafePointer<CChar>, _ list: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int

@_silgen_name("lremovexattr")
private func lremovexattr(_ path: UnsafePointer<CChar>, _ name: UnsafePointer<CChar>) -> CInt

@_silgen_name("fallocate")
private func fallocate(_ descriptor: CInt, _ mode: CInt, _ offset: Int, _ length: Int) -> CInt

@_silgen_name("renameat2")
private func renameat2(
    _ from: CInt, _ old: UnsafePointer<CChar>, _ to: CInt, _ new: UnsafePointer<CChar>, _ flags: CUnsignedInt
) -> CInt

/// A path as the kernel takes it: bytes.
struct Bytes: ExpressibleByStringLiteral, ExpressibleByStringInterpolation, CustomStringConvertible {
    var bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }
    init(stringLiteral text: String) { bytes = Array(text.utf8) }
    init(_ text: String) { bytes = Array(text.utf8) }

    static func / (left: Bytes, right: Bytes) -> Bytes { Bytes(left.bytes + [0x2F] + right.bytes) }

    var description: String { bytes.reduce("") { $0 + (0x21..<0x7F ~= $1 ? String(Unicode.Scalar($1)) : "%\($1)") } }

    fileprivate func with<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
        (bytes + [0]).withUnsafeBufferPointer { $0.withMemoryRebound(to: CChar.self) { body($0.baseAddress!) } }
    }
}

/// What programs do to files, straight from libc, with paths of any bytes.
enum Do {
    @discardableResult
    private static func check(_ result: Int32, _ call: @autoclosure () -> String) throws -> Int32 {
        let code = errno
        guard result >= 0 else { throw Failed("\(call()): \(String(cString: strerror(code)))") }
        return result
    }

    static func write(_ path: Bytes, _ text: String = "content", at offset: Int? = nil) throws {
        try write(path, Array(text.utf8), at: offset)
    }

    /// Anew, or at an offset into what is there.
    static func write(_ path: Bytes, _ bytes: [UInt8], at offset: Int? = nil) throws {
        let flags = O_WRONLY | O_CREAT | O_CLOEXEC | (offset == nil ? O_TRUNC : 0)
        let descriptor = try check(path.with { open($0, flags, 0o644) }, "open \(path)")
        defer { close(descriptor) }
        try write(descriptor, bytes, at: offset ?? 0)
    }

    static func write(_ descriptor: Int32, _ bytes: [UInt8], at offset: Int) throws {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress! + done, $0.count - done, off_t(offset + done))
            }
            try check(Int32(clamping: count), "pwrite")
            done += count
        }
    }

    static func makeDirectory(_ path: Bytes, _ mode: mode_t = 0o755) throws {
        try check(path.with { mkdir($0, mode) }, "mkdir \(path)")
    }

    static func rename(_ path: Bytes, _ new: Bytes) throws {
        try check(path.with { path in new.with { Glibc.rename(path, $0) } }, "rename \(path) \(new)")
    }

    static func exchange(_ path: Bytes, _ other: Bytes) throws {
        let flag: CUnsignedInt = 2  // RENAME_EXCHANGE
        try check(
            path.with { path in other.with { renameat2(AT_FDCWD, path, AT_FDCWD, $0, flag) } },
            "exchange \(path) \(other)")
    }

    static func link(_ path: Bytes, _ new: Bytes) throws {
        try check(path.with { path in new.with { Glibc.link(path, $0) } }, "link \(path) \(new)")
    }

    static func symlink(_ path: Bytes, to target: Bytes) throws {
        try check(target.with { target in path.with { Glibc.symlink(target, $0) } }, "symlink \(path)")
    }

    static func remove(_ path: Bytes) throws { try check(path.with { unlink($0) }, "unlink \(path)") }
    static func removeDirectory(_ path: Bytes) throws { try check(path.with { rmdir($0) }, "rmdir \(path)") }
    static func setMode(_ path: Bytes, _ mode: mode_t) throws {
        try check(path.with { chmod($0, mode) }, "chmod \(path)")
    }

    static func setOwner(_ path: Bytes, _ uid: uid_t, _ gid: gid_t) throws {
        try check(path.with { lchown($0, uid, gid) }, "chown \(path)")
    }

    static func setTime(_ path: Bytes, _ seconds: Int, _ nanoseconds: Int = 0) throws {
        let time = timespec(tv_sec: seconds, tv_nsec: nanoseconds)
        try check(path.with { utimensat(AT_FDCWD, $0, [time, time], AT_SYMLINK_NOFOLLOW) }, "utimensat \(path)")
    }

    static func makeNode(_ path: Bytes, _ mode: mode_t, _ device: dev_t = 0) throws {
        try check(path.with { mknod($0, mode, device) }, "mknod \(path)")
    }

    static func truncate(_ path: Bytes, _ size: Int) throws {
        try check(path.with { Glibc.truncate($0, size) }, "truncate \(path)")
    }

    static func punch(_ path: Bytes, _ offset: Int, _ length: Int) throws {
        let descriptor = try check(path.with { open($0, O_WRONLY | O_CLOEXEC) }, "open \(path)")
        defer { close(descriptor) }
        // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        try check(fallocate(descriptor, 3, offset, length), "fallocate \(path)")
    }

    static func setAttribute(_ path: Bytes, _ name: Bytes, _ value: [UInt8]) throws {
        try check(
            path.with { path in name.with { lsetxattr(path, $0, value, value.count, 0) } }, "setxattr \(path) \(name)")
    }

    static func removeAttribute(_ path: Bytes, _ name: Bytes) throws {
        try check(path.with { path in name.with { lremovexattr(path, $0) } }, "removexattr \(path) \(name)")
    }

    static func attributes(_ path: Bytes) throws -> [[UInt8]: [UInt8]] {
        // Most have none, and are done with this.
        let size = path.with { llistxattr($0, nil, 0) }
        if size == 0 || (size < 0 && errno == ENOTSUP) { return [:] }
        var list = [CChar](repeating: 0, count: 1 << 16)
        let count = path.with { llistxattr($0, &list, list.count) }
        try check(Int32(clamping: count), "llistxattr \(path)")
        var found: [[UInt8]: [UInt8]] = [:]
        for part in list[..<count].split(separator: 0) {
            let name = Bytes(part.map(UInt8.init(bitPattern:)))
            var value = [UInt8](repeating: 0, count: 1 << 16)
            let length = path.with { path in name.with { lgetxattr(path, $0, &value, value.count) } }
            try check(Int32(clamping: length), "lgetxattr \(path) \(name)")
            found[name.bytes] = Array(value[..<length])
        }
        return found
    }

    static func status(_ path: Bytes) throws -> stat {
        var status = stat()
        try check(path.with { lstat($0, &status) }, "lstat \(path)")
        return status
    }

    static func exists(_ path: Bytes) -> Bool { (try? status(path)) != nil }

    static func openFile(_ path: Bytes, _ flags: Int32 = O_RDONLY) throws -> Int32 {
        try check(path.with { open($0, flags | O_CLOEXEC, 0o644) }, "open \(path)")
    }

    /// Of a socket that is bound there, for which the path must be short.
    static func makeSocket(_ path: Bytes) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.bytes.prefix($0.count - 1)) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try check(result, "bind \(path)")
    }

    /// acl(5) as the kernel keeps it: version 2, then tag, permissions and id of each entry.
    static func accessList(user: UInt8, _ permissions: UInt8, others: UInt8 = 5) -> [UInt8] {
        func entry(_ tag: UInt8, _ permissions: UInt8, _ id: UInt8?) -> [UInt8] {
            [tag, 0, permissions, 0] + (id.map { [$0, 0, 0, 0] } ?? [255, 255, 255, 255])
        }
        return [2, 0, 0, 0] + entry(1, 7, nil) + entry(2, permissions, user) + entry(4, 5, nil) + entry(16, 7, nil)
            + entry(32, others, nil)
    }

    /// `cap_net_bind_service=ep`, capabilities(7), revision 2.
    static let capability: [UInt8] = [1, 0, 0, 2, 0, 4] + [UInt8](repeating: 0, count: 14)
}
