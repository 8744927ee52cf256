import Glibc
import WALFormat

/// All that is replicated of a directory, read through libc alone, to compare two of them.
package struct TreeSnapshot {
    package struct Entry: Equatable, CustomStringConvertible {
        package var mode: UInt32
        package var uid: UInt32
        package var gid: UInt32
        package var seconds: Int
        package var nanoseconds: Int
        /// Bytes of a file, target of a symlink, nothing of a directory.
        package var content: Digest
        package var size: Int
        package var links: Int
        /// Extended attributes, access control lists among them.
        package var attributes: [String: [UInt8]] = [:]
        /// Of a device.
        package var device: UInt = 0
        /// First path of the same inode.
        package var twin: String

        package var description: String {
            "\(String(mode, radix: 8)) \(uid):\(gid) \(seconds).\(nanoseconds) \(size) bytes \(content), "
                + "\(links) links with \(twin)"
                + (attributes.isEmpty ? "" : " \(attributes.mapValues(\.count))")
                + (device == 0 ? "" : " device \(device)")
        }
    }

    package var entries: [String: Entry] = [:]
    /// Which inode each path is; of no meaning for another tree.
    package private(set) var inodes: [String: UInt] = [:]

    /// `skip` are names in the root that do not belong to the tree.
    package init(_ root: String, skip: Set<String> = [".wal"]) throws {
        var inodes: [UInt: String] = [:]
        try add(root, "", &inodes, skip)
        // Names outside of the tree are none of its own.
        let links = Dictionary(grouping: entries.values, by: \.twin).mapValues(\.count)
        for (path, entry) in entries { entries[path]!.links = links[entry.twin]! }
    }

    private mutating func add(
        _ path: String, _ name: String, _ inodes: inout [UInt: String], _ skip: Set<String>
    ) throws {
        let status = try Files.status(path)
        let kind = status.st_mode & S_IFMT
        self.inodes[name] = status.st_ino
        var entry = Entry(
            mode: status.st_mode, uid: status.st_uid, gid: status.st_gid, seconds: status.st_mtim.tv_sec,
            nanoseconds: status.st_mtim.tv_nsec, content: .zero, size: 0, links: 1, twin: name)
        entry.attributes = try Files.attributes(path)
        if kind == S_IFDIR {
            entries[name] = entry
            guard let stream = opendir(path) else { throw Files.Failure(call: "opendir \(path)", code: errno) }
            defer { closedir(stream) }
            var names: [[UInt8]] = []
            while let child = readdir(stream) {
                names.append(withUnsafeBytes(of: child.pointee.d_name) { Array($0.prefix { $0 != 0 }) })
            }
            for bytes in names.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
                let text = String(decoding: bytes, as: UTF8.self)
                if text == "." || text == ".." || (name.isEmpty && skip.contains(text)) { continue }
                // A name that is no UTF-8 is reached through the directory, and shown escaped.
                let shown = name.isEmpty ? PathText.escaped(bytes) : name + "/" + PathText.escaped(bytes)
                if Array(text.utf8) == bytes {
                    try add(path + "/" + text, shown, &inodes, skip)
                } else {
                    entries[shown] = try Self.odd(path, bytes, shown)
                }
            }
            return
        }
        if status.st_nlink > 1 {
            if inodes[status.st_ino] == nil { inodes[status.st_ino] = name }
            entry.twin = inodes[status.st_ino]!
        }
        if kind == S_IFLNK {
            var target = [UInt8](repeating: 0, count: 4096)
            let count = target.withUnsafeMutableBytes { readlink(path, $0.baseAddress!, $0.count) }
            entry.content = Digest(of: Array(target[..<max(count, 0)]))
        } else if kind != S_IFREG {
            entry.device = status.st_rdev
        } else {
            let bytes = try Files.read(path)
            entry.content = Digest(of: bytes)
            entry.size = bytes.count
        }
        entries[name] = entry
    }

    private static func odd(_ directory: String, _ name: [UInt8], _ shown: String) throws -> Entry {
        var status = stat()
        let path = Array(directory.utf8) + [0x2F] + name + [0]
        let bytes: [UInt8] = try path.withUnsafeBufferPointer { buffer in
            try buffer.withMemoryRebound(to: CChar.self) { text in
                guard lstat(text.baseAddress!, &status) == 0 else {
                    throw Files.Failure(call: "lstat \(shown)", code: errno)
                }
                let descriptor = open(text.baseAddress!, O_RDONLY)
                defer { close(descriptor) }
                var content = [UInt8](repeating: 0, count: Int(status.st_size))
                _ = content.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
                return content
            }
        }
        return Entry(
            mode: status.st_mode, uid: status.st_uid, gid: status.st_gid, seconds: status.st_mtim.tv_sec,
            nanoseconds: status.st_mtim.tv_nsec, content: Digest(of: bytes), size: bytes.count,
            links: 1, twin: shown)
    }

    /// Every difference on a line; empty when the trees are equal.
    package func differences(from other: TreeSnapshot) -> [String] {
        var lines: [String] = []
        for path in Set(entries.keys).union(other.entries.keys).sorted() {
            let (mine, theirs) = (entries[path], other.entries[path])
            guard mine != theirs else { continue }
            lines.append("'\(path)': \(mine?.description ?? "none") / \(theirs?.description ?? "none")")
        }
        return lines
    }
}
