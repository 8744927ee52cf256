import CLinux
import Glibc

/// What the kernel says of this process and others.
package enum ProcessFacts {
    package static var effectiveUserID: UInt32 { geteuid() }
    /// May give files to any owner: root, in a user namespace that has all owners, user_namespaces(7).
    package static let isPrivileged =
        geteuid() == 0 && hasAllOwners("/proc/self/uid_map") && hasAllOwners("/proc/self/gid_map")

    /// `0 0 4294967295`. A file that is not there is one of a kernel without such namespaces.
    private static func hasAllOwners(_ map: String) -> Bool {
        guard let bytes = readProc(map) else { return true }
        let numbers = bytes.split { $0 == 0x20 || $0 == 0x0A }.map { UInt64(String(decoding: $0, as: UTF8.self)) ?? 0 }
        return numbers == [0, 0, UInt64(UInt32.max)]
    }
    package static var effectiveGroupID: UInt32 { getegid() }
    package static var processID: Int32 { getpid() }

    /// gethostname(2).
    package static func hostName() throws(SystemError) -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        try check(cl_host_name(&buffer, buffer.count), "gethostname", nil)
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// The first 15 bytes of a process's name, `/proc/PID/comm` of proc(5); nil when there is no such process.
    package static func processName(_ pid: Int32) -> String? {
        readProc("/proc/\(pid)/comm").map { String(decoding: $0.prefix { $0 != 0x0A }, as: UTF8.self) }
    }

    /// False also for a process that has ended and only waits for its parent to ask. Numbers are given again: another
    /// process may have it by now.
    package static func processIsAlive(_ pid: Int32) -> Bool {
        guard cl_process_exists(pid) == 1 else { return false }
        // `PID (name) state …`; a name may have parentheses itself, so the last one counts.
        guard let stat = readProc("/proc/\(pid)/stat"), let end = stat.lastIndex(of: UInt8(ascii: ")")),
            end + 2 < stat.count
        else { return cl_process_exists(pid) == 1 }
        let state = stat[end + 2]
        return state != UInt8(ascii: "Z") && state != UInt8(ascii: "X")
    }

    /// Bytes of this process in memory now; 0 without `/proc`.
    package static func residentBytes() -> UInt64 { statusKilobytes("VmRSS:") * 1024 }

    /// The most that ``residentBytes()`` ever was; 0 without `/proc`. Not from getrusage(2), whose number a process
    /// inherits from the one that started it.
    package static func peakResidentBytes() -> UInt64 { statusKilobytes("VmHWM:") * 1024 }

    /// The process that holds the lock of a file or directory, flock(2), by `/proc/locks` of proc(5). Nil when there is
    /// none, and where the kernel does not tell: the holder is in another container, or the file system shows other
    /// numbers there than to statx(2) (btrfs).
    package static func lockHolder(of status: FileStatus) -> Int32? {
        readProc("/proc/locks", limit: 4 << 20).flatMap { lockHolder(inLocks: $0, dev: status.dev, ino: status.ino) }
    }

    /// `1: FLOCK  ADVISORY  WRITE 4711 08:01:131089 0 EOF`; who only waits for a lock has an arrow before FLOCK.
    static func lockHolder(inLocks text: [UInt8], dev: UInt64, ino: UInt64) -> Int32? {
        for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count >= 6, words[1] == "FLOCK", let pid = Int32(words[4]), pid > 0 else { continue }
            let file = words[5].split(separator: ":")
            guard file.count == 3, let major = UInt32(file[0], radix: 16), let minor = UInt32(file[1], radix: 16),
                UInt64(file[2]) == ino, deviceNumber(UInt64(major), UInt64(minor)) == dev
            else { continue }
            return pid
        }
        return nil
    }

    /// makedev(3), which is a macro that Swift does not import.
    private static func deviceNumber(_ major: UInt64, _ minor: UInt64) -> UInt64 {
        (major & 0xFFF) << 8 | (major & ~0xFFF) << 32 | (minor & 0xFF) | (minor & ~0xFF) << 12
    }

    /// Raises the soft limit of open descriptors to the hard one, setrlimit(2).
    ///
    /// - Returns: the limit from now on.
    @discardableResult
    package static func raiseOpenFilesLimit() throws(SystemError) -> UInt64 {
        UInt64(try check(cl_raise_open_files_limit(), "getrlimit", nil))
    }

    /// How many directories a walk over a tree keeps open. Several walks run at once, and other things need descriptors, too.
    package static let openDirectories: Int = {
        let limit = (try? raiseOpenFilesLimit()) ?? 1024
        return Int(min(400, max(8, limit / 24)))
    }()

    private static func statusKilobytes(_ key: String) -> UInt64 {
        guard let status = readProc("/proc/self/status") else { return 0 }
        for line in status.split(separator: 0x0A) where line.starts(with: key.utf8) {
            let digits = line.filter { (0x30...0x39).contains($0) }
            return UInt64(String(decoding: digits, as: UTF8.self)) ?? 0
        }
        return 0
    }

    /// Files in `/proc` have no size, so they are read to the end.
    static func readProc(_ path: String, limit: Int = 16 << 10) -> [UInt8]? {
        let descriptor = cl_open_proc(path)
        guard descriptor >= 0 else { return nil }
        let file = File(descriptor: descriptor)
        return try? file.read(count: limit, at: 0)
    }
}
