import Glibc

/// Tells in what two directories differ, by libc alone: not a line of the suite has a part in it. Names are bytes, and all
/// is reached through directory handles, so that neither an odd name nor a deep path is out of its sight.
///
/// Compared are names, kinds, modes, owners, times to the nanosecond, link counts and who shares an object with whom,
/// targets, device numbers, extended attributes, sizes, where the data and the holes of a file are, and all data.
struct Oracle {
    /// Of a replica that may not set them.
    var ignoresOwners = false
    /// Of a replica that is not root: what its owner may always do, walrecv(8).
    var leavesOwnersReading = false
    /// Attributes with these beginnings are left out.
    var ignoredAttributes: [String] = []
    /// Kinds that are not replicated.
    var ignoredKinds: Set<mode_t> = [S_IFSOCK]
    /// Some file systems keep holes of another grain.
    var comparesHoles = true

    private var differences: [String] = []
    private var twins: [[ino_t: String]] = [[:], [:]]

    init() {}

    /// A line each; none when both are equal.
    static func differences(
        _ source: String, _ replica: String, _ configure: (inout Oracle) -> Void = { _ in }
    ) throws -> [String] {
        var oracle = Oracle()
        configure(&oracle)
        let roots = [try Do.openFile(Bytes(source), O_DIRECTORY), try Do.openFile(Bytes(replica), O_DIRECTORY)]
        defer { for root in roots { close(root) } }
        try oracle.compare(roots, "")
        return oracle.differences
    }

    private mutating func differ(_ path: String, _ what: String, _ left: Any, _ right: Any) {
        differences.append("\(path.isEmpty ? "/" : path): \(what) is \(left), on the replica \(right)")
    }

    /// Two open directories.
    private mutating func compare(_ directories: [Int32], _ path: String) throws {
        try compareObject(
            try directories.map { try Self.status($0) },
            directories.map { "/proc/self/fd/\($0)" }.map { Bytes($0 + "/.") }, path)
        var names = try directories.map { try Self.names($0) }
        for side in 0..<2 {
            if path.isEmpty { names[side].removeAll { $0 == Array(".wal".utf8) } }
        }
        names[0] = try names[0].filter { !ignoredKinds.contains(try Self.status(directories[0], $0).st_mode & S_IFMT) }
        for name in Set(names[0]).union(names[1]).sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            let shown = "\(path)/\(Bytes(name))"
            guard names[0].contains(sorted: name), names[1].contains(sorted: name) else {
                differ(shown, "there", names[0].contains(sorted: name), names[1].contains(sorted: name))
                continue
            }
            let status = try directories.map { try Self.status($0, name) }
            guard status[0].st_mode & S_IFMT == status[1].st_mode & S_IFMT else {
                differ(shown, "kind", status[0].st_mode & S_IFMT, status[1].st_mode & S_IFMT)
                continue
            }
            if status[0].st_mode & S_IFMT == S_IFDIR {
                let opened = try directories.map { try Self.open($0, name, O_DIRECTORY) }
                defer { for descriptor in opened { close(descriptor) } }
                try compare(opened, shown)
                continue
            }
            let paths = directories.map { Bytes("/proc/self/fd/\($0)") / Bytes(name) }
            try compareObject(status, paths, shown)
            compareTwins(status, shown)
            switch status[0].st_mode & S_IFMT {
            case S_IFREG:
                // Each object once, whatever names it has.
                guard status[0].st_nlink == 1 || twins[0][status[0].st_ino] == shown else { continue }
                let files = try directories.map { try Self.open($0, name, 0) }
                defer { for file in files { close(file) } }
                try compareContent(files, Int(status[0].st_size), Int(status[1].st_size), shown)
            case S_IFLNK:
                let targets = try directories.map { try Self.target($0, name) }
                if targets[0] != targets[1] { differ(shown, "target", Bytes(targets[0]), Bytes(targets[1])) }
            case S_IFCHR, S_IFBLK:
                if status[0].st_rdev != status[1].st_rdev {
                    differ(shown, "device", status[0].st_rdev, status[1].st_rdev)
                }
            default: break
            }
        }
    }

    private mutating func compareObject(_ status: [stat], _ paths: [Bytes], _ path: String) throws {
        let (one, two) = (status[0], status[1])
        var mode = one.st_mode
        if leavesOwnersReading, mode & S_IFMT == S_IFREG { mode |= 0o400 }
        if leavesOwnersReading, mode & S_IFMT == S_IFDIR { mode |= 0o500 }
        if mode != two.st_mode {
            differ(path, "mode", String(one.st_mode, radix: 8), String(two.st_mode, radix: 8))
        }
        if !ignoresOwners, one.st_uid != two.st_uid || one.st_gid != two.st_gid {
            differ(path, "owner", "\(one.st_uid):\(one.st_gid)", "\(two.st_uid):\(two.st_gid)")
        }
        let times = status.map { "\($0.st_mtim.tv_sec) s \($0.st_mtim.tv_nsec) ns" }
        if times[0] != times[1] { differ(path, "time", times[0], times[1]) }
        var attributes = try paths.map { try Do.attributes($0) }
        for side in 0..<2 {
            attributes[side] = attributes[side].filter { name, _ in
                !ignoredAttributes.contains { name.starts(with: Array($0.utf8)) }
            }
        }
        for name in Set(attributes[0].keys).union(attributes[1].keys)
        where attributes[0][name] != attributes[1][name] {
            differ(
                path, "attribute \(Bytes(name))", attributes[0][name].map { "\($0)" } ?? "none",
                attributes[1][name].map { "\($0)" } ?? "none")
        }
    }

    private mutating func compareTwins(_ status: [stat], _ path: String) {
        if status[0].st_nlink != status[1].st_nlink {
            differ(path, "link count", status[0].st_nlink, status[1].st_nlink)
        }
        for side in 0..<2 where status[side].st_nlink > 1 && twins[side][status[side].st_ino] == nil {
            twins[side][status[side].st_ino] = path
        }
        let first = (0..<2).map { twins[$0][status[$0].st_ino] ?? path }
        if first[0] != first[1] { differ(path, "first name of the object", first[0], first[1]) }
    }

    private mutating func compareContent(_ files: [Int32], _ size: Int, _ other: Int, _ path: String) throws {
        guard size == other else { return differ(path, "size", size, other) }
        let maps = try files.map { try Self.dataRanges($0, size) }
        if comparesHoles, maps[0] != maps[1] { differ(path, "data", maps[0], maps[1]) }
        // What is a hole on one side alone must read as zeros on the other.
        for range in Self.union(maps[0], maps[1]) {
            var offset = range.lowerBound
            while offset < range.upperBound {
                let count = min(1 << 20, range.upperBound - offset)
                let parts = files.map { Self.read($0, offset, count) }
                guard parts[0] == parts[1], parts[0].count == count else {
                    return differ(path, "content", "another", "at \(offset) or within \(count) bytes of it")
                }
                offset += count
            }
        }
    }

    // MARK: libc

    static func dataRanges(_ file: Int32, _ size: Int) throws -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        var offset = 0
        while offset < size {
            let data = lseek(file, off_t(offset), 3)  // SEEK_DATA
            if data < 0 { break }
            let hole = lseek(file, data, 4)  // SEEK_HOLE
            guard hole > data else { throw Failed("lseek: \(String(cString: strerror(errno)))") }
            ranges.append(data..<min(Int(hole), size))
            offset = Int(hole)
        }
        return ranges
    }

    private static func union(_ one: [Range<Int>], _ two: [Range<Int>]) -> [Range<Int>] {
        var all: [Range<Int>] = []
        for range in (one + two).sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = all.last, range.lowerBound <= last.upperBound {
                all[all.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                all.append(range)
            }
        }
        return all
    }

    private static func read(_ file: Int32, _ offset: Int, _ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, done in
            while done < count {
                let more = pread(file, buffer.baseAddress! + done, count - done, off_t(offset + done))
                guard more > 0 else { break }
                done += more
            }
        }
    }

    private static func status(_ descriptor: Int32) throws -> stat {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw Failed("fstat: \(String(cString: strerror(errno)))") }
        return status
    }

    private static func status(_ directory: Int32, _ name: [UInt8]) throws -> stat {
        var status = stat()
        let result = with(name) { fstatat(directory, $0, &status, AT_SYMLINK_NOFOLLOW) }
        guard result == 0 else { throw Failed("fstatat \(Bytes(name)): \(String(cString: strerror(errno)))") }
        return status
    }

    private static func open(_ directory: Int32, _ name: [UInt8], _ flags: Int32) throws -> Int32 {
        let descriptor = with(name) { openat(directory, $0, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | flags) }
        guard descriptor >= 0 else { throw Failed("openat \(Bytes(name)): \(String(cString: strerror(errno)))") }
        return descriptor
    }

    private static func target(_ directory: Int32, _ name: [UInt8]) throws -> [UInt8] {
        var target = [UInt8](repeating: 0, count: 5000)
        let count = with(name) { name in
            target.withUnsafeMutableBytes { readlinkat(directory, name, $0.baseAddress!, $0.count) }
        }
        guard count >= 0 else { throw Failed("readlinkat \(Bytes(name)): \(String(cString: strerror(errno)))") }
        return Array(target[..<count])
    }

    /// In the order of their bytes.
    static func names(_ directory: Int32) throws -> [[UInt8]] {
        let copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0, let stream = fdopendir(copy) else {
            throw Failed("opendir: \(String(cString: strerror(errno)))")
        }
        defer { closedir(stream) }
        var names: [[UInt8]] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != [0x2E], name != [0x2E, 0x2E] { names.append(name) }
        }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
    }

    private static func with<Result>(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> Result) -> Result {
        (name + [0]).withUnsafeBufferPointer { $0.withMemoryRebound(to: CChar.self) { body($0.baseAddress!) } }
    }
}

extension [[UInt8]] {
    /// Of an array in the order of its bytes.
    fileprivate func contains(sorted name: [UInt8]) -> Bool {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if self[middle].lexicographicallyPrecedes(name) { low = middle + 1 } else { high = middle }
        }
        return low < count && self[low] == name
    }
}
