import Foundation
import Glibc
import WALTestKit

/// Somebody who works in a directory: creates, rewrites, appends, renames, deletes, and moves whole directories.
struct Workload {
    let root: String
    var random: SeededRandom
    private var files: [String] = []
    private var folders: [String] = []
    private var made = 0

    init(_ root: String, _ random: SeededRandom) throws {
        self.root = root
        self.random = random
        var names = try FileManager.default.subpathsOfDirectory(atPath: root).sorted()
        names.removeAll { $0 == ".wal" || $0.hasPrefix(".wal/") }
        for name in names {
            switch try kind(of: name) {
            case S_IFDIR: folders.append(name)
            case S_IFREG: files.append(name)
            default: break
            }
        }
    }

    mutating func run(_ steps: Int) throws {
        for _ in 0..<steps { try step() }
    }

    private mutating func step() throws {
        switch random.int(in: 0..<100) {
        case 0..<25: try create()
        case 25..<40: try rewrite()
        case 40..<50: try append()
        case 50..<58: try replaceByRename()
        case 58..<68: try rename()
        case 68..<80: try delete()
        case 80..<84: try makeFolder()
        case 84..<88: try moveFolder()
        case 88..<90: try deleteFolder()
        case 90..<94: try link()
        case 94..<97: try changeMode()
        default: try changeTime()
        }
    }

    // MARK: What is done

    private mutating func create() throws {
        let name = newName()
        try write(name, bytes())
        files.append(name)
    }

    private mutating func rewrite() throws {
        guard let name = anyFile() else { return }
        try write(name, bytes())
    }

    private mutating func append() throws {
        guard let name = anyFile() else { return }
        let descriptor = open(path(name), O_WRONLY | O_APPEND | O_CLOEXEC)
        try check(descriptor, name)
        defer { close(descriptor) }
        let more = bytes()
        try check(Int32(clamping: Glibc.write(descriptor, more, more.count)), name)
    }

    /// As editors do.
    private mutating func replaceByRename() throws {
        guard let name = anyFile() else { return }
        try write(name + ".new", bytes())
        try check(Glibc.rename(path(name + ".new"), path(name)), name)
    }

    private mutating func rename() throws {
        guard let old = takeFile() else { return }
        let new = newName()
        try check(Glibc.rename(path(old), path(new)), old)
        files.append(new)
    }

    private mutating func delete() throws {
        guard let name = takeFile() else { return }
        try check(unlink(path(name)), name)
    }

    private mutating func makeFolder() throws {
        let name = newName()
        try check(mkdir(path(name), 0o755), name)
        folders.append(name)
    }

    private mutating func moveFolder() throws {
        guard let old = folders.randomElement(using: &random) else { return }
        let new = newName()
        guard !(new + "/").hasPrefix(old + "/") else { return }
        try check(Glibc.rename(path(old), path(new)), old)
        func moved(_ name: String) -> String {
            name == old || name.hasPrefix(old + "/") ? new + name.dropFirst(old.count) : name
        }
        folders = folders.map(moved)
        files = files.map(moved)
    }

    private mutating func deleteFolder() throws {
        guard let name = folders.randomElement(using: &random), files.count > 100 else { return }
        // A few at a time, or little would be left soon.
        guard files.count(where: { $0.hasPrefix(name + "/") }) < 50 else { return }
        try FileManager.default.removeItem(atPath: path(name))
        folders.removeAll { $0 == name || $0.hasPrefix(name + "/") }
        files.removeAll { $0.hasPrefix(name + "/") }
    }

    private mutating func link() throws {
        let name = newName()
        try check(symlink("../target/\(random.int(in: 0..<1000))", path(name)), name)
    }

    private mutating func changeMode() throws {
        guard let name = anyFile() else { return }
        try check(chmod(path(name), mode_t(0o400 + random.int(in: 0..<0o400))), name)
    }

    private mutating func changeTime() throws {
        guard let name = anyFile() else { return }
        let time = timespec(tv_sec: random.int(in: 0..<2_000_000_000), tv_nsec: random.int(in: 0..<1_000_000_000))
        try check(utimensat(AT_FDCWD, path(name), [time, time], 0), name)
    }

    // MARK: Helpers

    private func path(_ name: String) -> String { root + "/" + name }

    private func kind(of name: String) throws -> mode_t {
        var status = stat()
        try check(lstat(path(name), &status), name)
        return status.st_mode & S_IFMT
    }

    private mutating func anyFile() -> String? { files.randomElement(using: &random) }

    private mutating func takeFile() -> String? {
        files.isEmpty ? nil : files.swapRemove(random.int(in: 0..<files.count))
    }

    private mutating func newName() -> String {
        made += 1
        // Now and then a name that is not as names usually are.
        let odd = random.once(in: 20) ? " \u{E4}\u{1F4A1}'\"\\" : ""
        let name = "made-\(made)\(odd)"
        guard !random.once(in: 5), let folder = folders.randomElement(using: &random) else { return name }
        return folder + "/" + name
    }

    /// Mostly small, sometimes nothing, sometimes several blocks.
    private mutating func bytes() -> [UInt8] {
        switch random.int(in: 0..<20) {
        case 0: []
        case 1: random.bytes(random.int(in: 0..<700_000))
        default: random.bytes(random.int(in: 0..<20_000))
        }
    }

    private func write(_ name: String, _ bytes: [UInt8]) throws {
        try writeFile(path(name), bytes)
    }

    private func check(_ result: Int32, _ name: String) throws {
        if result < 0 { throw Failed("\(path(name)): \(String(cString: strerror(errno)))") }
    }
}

extension Array {
    fileprivate mutating func swapRemove(_ index: Int) -> Element {
        swapAt(index, count - 1)
        return removeLast()
    }
}

/// Makes the file or writes it anew in place.
func writeFile(_ path: String, _ bytes: [UInt8]) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw Failed("\(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { throw Failed("\(path): \(String(cString: strerror(errno)))") }
        rest = rest.dropFirst(count)
    }
}

func writeFile(_ path: String, _ text: String) throws {
    try writeFile(path, Array(text.utf8))
}

extension World {
    /// Real files: the first `count` of what Python and `/usr/share` hold, or all with WALSHIP_TEST_FULL=1.
    func copyRealFiles(to name: String, count: Int) throws -> String {
        let target = try folder(name)
        let found = try must(
            "sh", "-c", "cd / && find usr/lib/python3* usr/share -xdev \\( -type f -o -type l -o -type d \\) | sort")
        var names = found.split(separator: "\n")
        if ProcessInfo.processInfo.environment["WALSHIP_TEST_FULL"] != "1" { names = Array(names.prefix(count)) }
        try writeFile("\(path)/\(name).list", names.joined(separator: "\n"))
        try must("rsync", "-a", "--files-from=\(path)/\(name).list", "/", target + "/")
        return target
    }
}
