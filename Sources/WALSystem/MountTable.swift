import CLinux

/// What is mounted where this process sees it, `/proc/self/mountinfo` of proc_pid_mountinfo(5).
package final class MountTable {
    /// To wait for as ``Poller``'s urgent one: ready once after each change of the table, whoever asks first.
    package let descriptor: Int32

    package init() throws(SystemError) {
        descriptor = try check(cl_open_proc(Self.path), "open", Self.path)
    }

    deinit {
        _ = cl_close(descriptor)
    }

    /// The lines of the mounts at the directory and below it; nil when the table cannot be read. One that is mounted again
    /// has another line.
    package func mounts(in directory: Directory) -> Set<[UInt8]>? {
        guard let path = directory.currentPath, let table = ProcessFacts.readProc(Self.path, limit: 16 << 20) else {
            return nil
        }
        let above = Self.escaped(path == [0x2F] ? [] : path)
        var found: Set<[UInt8]> = []
        for line in table.split(separator: 0x0A) {
            // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
            let parts = line.split(separator: 0x20, maxSplits: 5)
            guard parts.count == 6, parts[4].starts(with: above) else { continue }
            let rest = parts[4].dropFirst(above.count)
            if rest.isEmpty || rest.first == 0x2F { found.insert(Array(line)) }
        }
        return found
    }

    /// As the table writes it: `\040` for a space.
    private static func escaped(_ path: [UInt8]) -> [UInt8] {
        path.flatMap { byte -> [UInt8] in
            guard [0x20, 0x09, 0x0A, 0x5C].contains(byte) else { return [byte] }
            let digits = String(byte, radix: 8)
            return Array("\\\(String(repeating: "0", count: 3 - digits.count))\(digits)".utf8)
        }
    }

    private static let path = "/proc/self/mountinfo"
}
