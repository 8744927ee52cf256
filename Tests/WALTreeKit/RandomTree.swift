import Glibc
import WALFormat
import WALTestKit

/// Does to a directory what programs and people do to theirs, drawn from a seed.
package struct RandomTree {
    package var random: SeededRandom
    private let root: String
    /// On the same file system: where things come from and go to.
    private let outside: String
    private var made = 0
    private let isRoot = geteuid() == 0
    private let makesLinks: Bool
    private let makesDevices: Bool
    /// Writes that raise no event, which only a scan finds.
    package var makesSilentWrites: Bool
    private var mappings: [Mapping] = []
    /// What was done, for the message of a failure.
    package private(set) var history: [String] = []

    package init(
        _ root: String, outside: String, random: SeededRandom, makesLinks: Bool, makesDevices: Bool = true,
        makesSilentWrites: Bool = false
    ) {
        self.makesSilentWrites = makesSilentWrites
        self.makesLinks = makesLinks
        self.makesDevices = makesDevices
        self.root = root
        self.outside = outside
        self.random = random
    }

    private enum Operation: CaseIterable {
        case create, create2, create3, append, patch, truncate, extend, remove, removeTree, rename, renameInto,
            renameOver
        case exchange, chain, cycle, invert, link, link2, symlink, replaceKind, mode, owner, time, touchBack
        case save, saveWithBackup, makePath, moveIn, moveOut, sparse, hole, empty, oddName, manyEntries, copy, copyTree
        case rewriteSame, big, patchBig, growBig, copyBig, spliceBig, emptyBig
        case swapDirectories, rotate, replaceDirectory, linkAcross, moveClosed
        case attribute, attribute2, removeAttribute, accessList, fifo, device, punch, mapped
        case map, writeMap, writeMap2, writeMapAndFile, unmap
    }

    /// One operation. Those that make no sense just now do nothing.
    package mutating func step() {
        let operation = Operation.allCases.randomElement(using: &random)!
        history.append("\(operation)")
        try? perform(operation)
    }

    // MARK: Choice

    private mutating func pick(_ kind: mode_t? = nil, where isFit: (stat) -> Bool = { _ in true }) -> String? {
        let state = root + "/.wal"
        let all = ((try? Files.walk(root)) ?? []).filter { $0.path != state && !$0.path.hasPrefix(state + "/") }
        return all.filter { (kind == nil || $0.status.st_mode & S_IFMT == kind) && isFit($0.status) }
            .randomElement(using: &random)?.path
    }

    private mutating func note(_ path: String...) {
        history[history.count - 1] += " " + path.map { $0.replacing(root + "/", with: "") }.joined(separator: " ")
    }

    private mutating func file(atLeast size: Int = 0, below: Int = .max) throws -> String {
        guard let path = pick(S_IFREG, where: { Int($0.st_size) >= size && Int($0.st_size) < below }) else {
            throw Nothing()
        }
        note(path)
        return path
    }

    private mutating func directory(orRoot: Bool = true) throws -> String {
        if orRoot, random.once(in: 3) { return root }
        if let path = pick(S_IFDIR) {
            note(path)
            return path
        }
        guard orRoot else { throw Nothing() }
        return root
    }

    private mutating func any() throws -> String {
        guard let path = pick() else { throw Nothing() }
        note(path)
        return path
    }

    private struct Nothing: Error {}

    private mutating func newPath() throws -> String {
        made += 1
        // Few names, so that they are used again.
        let name = random.once(in: 2) ? "n\(random.int(in: 0..<12))" : "m\(made)"
        let path = try directory() + "/" + name
        note(path)
        return path
    }

    private mutating func content(_ limit: Int = 60_000) -> [UInt8] {
        random.bytes(random.once(in: 3) ? random.int(in: 0...limit) : random.int(in: 0...200))
    }

    // MARK: Operations

    private mutating func perform(_ operation: Operation) throws {
        switch operation {
        case .create, .create2, .create3:
            let path = try newPath()
            if Files.exists(path) { try Files.removeTree(path) }
            try Files.write(path, content())
        case .append: try Files.append(try file(), content())
        case .patch:
            let path = try file(atLeast: 1)
            let size = Int(try Files.status(path).st_size)
            try Files.patch(path, at: random.int(in: 0..<size), content(400))
        case .truncate:
            let path = try file(atLeast: 1)
            try Files.truncate(path, to: random.int(in: 0..<Int(try Files.status(path).st_size)))
        case .extend:
            let path = try file(below: 1 << 20)
            try Files.truncate(path, to: Int(try Files.status(path).st_size) + random.int(in: 1...500_000))
        case .remove:
            let path = try any()
            if (try? Files.remove(path)) == nil { try Files.removeDirectory(path) }
        case .removeTree: if random.once(in: 3) { try Files.removeTree(try any()) }
        case .rename: try Files.rename(try any(), try newPath())
        case .renameInto:
            let path = try any()
            try Files.rename(path, try directory() + "/" + last(path))
        case .renameOver: try Files.rename(try any(), try any())
        case .exchange: try Files.exchange(try any(), try any())
        case .chain: try chain(isCycle: false)
        case .cycle: try chain(isCycle: true)
        case .invert: try invert()
        case .link, .link2:
            guard makesLinks else { throw Nothing() }
            try Files.link(try file(), try newPath())
        case .linkAcross:
            guard makesLinks else { throw Nothing() }
            let path = try file()
            let other = try file()
            try Files.remove(other)
            try Files.link(path, other)
        case .symlink:
            let path = try newPath()
            if Files.exists(path) { try Files.removeTree(path) }
            try Files.symlink(path, to: "target-\(random.int(in: 0..<5))")
        case .replaceKind: try replaceKind()
        case .mode:
            guard let path = pick(nil, where: { $0.st_mode & S_IFMT != S_IFLNK }) else { throw Nothing() }
            note(path)
            var modes: [mode_t] = [0o755, 0o2770, 0o1777, 0o700, 0o555]
            // Only root can look into a directory without these rights.
            if try isRoot || Files.status(path).st_mode & S_IFMT == S_IFREG { modes += [0o644, 0o4711, 0o444, 0o600] }
            try Files.setMode(path, modes.randomElement(using: &random)!)
        case .owner:
            if isRoot { try Files.setOwner(try any(), uid_t(random.int(in: 0..<3)), gid_t(random.int(in: 0..<3))) }
        case .time:
            let seconds = [0, -1, -2_000_000_000, 1_700_000_000, 4_000_000_000, 9_000_000_000, 1].randomElement(
                using: &random)!
            try Files.setTime(try any(), seconds, random.int(in: 0...999_999_999))
        case .touchBack: try touchBack()
        case .save: try save(backup: false)
        case .saveWithBackup: try save(backup: true)
        case .makePath: try makePath(below: try directory())
        case .moveIn:
            let path = outside + "/in-\(made)"
            made += 1
            try Files.makeDirectory(path)
            try makePath(below: path)
            try Files.rename(path, try newPath())
        case .moveOut:
            let path = try any()
            made += 1
            try Files.rename(path, outside + "/out-\(made)")
            if random.once(in: 3) { try Files.rename(outside + "/out-\(made)", path) }
        case .sparse:
            let path = try newPath()
            try Files.write(path, random.bytes(5000))
            try Files.truncate(path, to: random.int(in: 200_000...900_000))
            try Files.append(path, random.bytes(3000))
        case .hole: try Files.patch(try file(below: 100_000), at: random.int(in: 100_000...300_000), content(3000))
        case .empty: try Files.write(try newPath(), [])
        case .oddName: try oddName()
        case .manyEntries: try manyEntries()
        case .copy:
            let path = try file(atLeast: 4096)
            try Files.write(try newPath(), try Files.read(path))
        case .copyTree: try copyTree()
        case .rewriteSame:
            let path = try file()
            try Files.write(path, try Files.read(path))
        case .big:
            if random.once(in: 4) {
                try Files.write(try newPath(), random.bytes(random.int(in: 4_100_000...5_500_000)))
            }
        case .patchBig:
            let path = try file(atLeast: 4 << 20)
            for _ in 0..<random.int(in: 1...3) {
                try Files.patch(path, at: random.int(in: 0..<4_000_000), random.bytes(random.int(in: 1...5000)))
            }
        case .growBig:
            let path = try file(atLeast: 4 << 20, below: 7 << 20)
            if random.once(in: 2) {
                try Files.append(path, random.bytes(100_000))
            } else {
                try Files.truncate(path, to: (4 << 20) + random.int(in: 0..<100_000))
            }
        case .copyBig:
            let path = try file(atLeast: 4 << 20, below: 7 << 20)
            let copy = try newPath()
            try Files.write(copy, try Files.read(path))
            let edited = random.once(in: 2) ? path : copy
            try Files.patch(edited, at: random.int(in: 0..<4_000_000), random.bytes(random.int(in: 1...5000)))
            if random.once(in: 3) { try Files.remove(path) }
        case .spliceBig:
            let bytes = try Files.read(try file(atLeast: 4 << 20, below: 7 << 20))
            let more = try Files.read(try file(atLeast: 1 << 20, below: 7 << 20))
            let target = random.once(in: 2) ? try newPath() : try file(atLeast: 1 << 20, below: 7 << 20)
            try Files.write(target, bytes[..<3_000_000] + more.suffix(random.int(in: 0...2_000_000)))
        case .emptyBig:
            let path = try file(atLeast: 4 << 20, below: 7 << 20)
            try Files.write(try newPath(), try Files.read(path))
            try Files.truncate(path, to: random.int(in: 0...100_000))
        case .swapDirectories: try Files.exchange(try directory(orRoot: false), try directory(orRoot: false))
        case .rotate: try rotate()
        case .moveClosed:
            let path = try directory(orRoot: false)
            let mode = try Files.status(path).st_mode & 0o7777
            try Files.setMode(path, 0o755)
            let place = try newPath()
            try Files.rename(path, place)
            try Files.setMode(place, mode & 0o555)
        case .attribute, .attribute2:
            guard let path = pick(nil, where: { [S_IFREG, S_IFDIR].contains($0.st_mode & S_IFMT) }) else {
                throw Nothing()
            }
            note(path)
            let name = isRoot && random.once(in: 4) ? "trusted.x" : "user.a\(random.int(in: 0..<3))"
            try Files.setAttribute(path, name, random.bytes(random.int(in: 0...300)))
        case .removeAttribute: try removeAttribute()
        case .accessList: try accessList()
        case .fifo: try Files.makeNode(try newPath(), S_IFIFO | 0o600)
        case .device:
            guard isRoot, makesDevices else { throw Nothing() }
            // Of drivers that do not exist, so that nobody can do harm by opening it.
            try Files.makeNode(
                try newPath(), (random.once(in: 2) ? S_IFCHR : S_IFBLK) | 0o600, dev_t(0xF000 + random.int(in: 0...255))
            )
        case .punch:
            let path = try file(atLeast: 10_000)
            let size = Int(try Files.status(path).st_size)
            try Files.punch(path, at: random.int(in: 0..<size), random.int(in: 1...size))
        case .mapped:
            let path = try file(atLeast: 1_000)
            try Files.writeMapped(path, at: random.int(in: 0..<900), random.bytes(100))
            // Which only a scan would find where nobody waits for one: there it is told as an editor would tell it.
            if !makesSilentWrites {
                let status = try Files.status(path)
                try Files.setTime(path, status.st_mtim.tv_sec + 1, random.int(in: 0...999_999_999))
            }
        case .map:
            guard makesSilentWrites else { throw Nothing() }
            let mapping = try Mapping(try file(atLeast: 1))
            if mappings.count >= 4 { mappings.remove(at: random.int(in: 0..<mappings.count)) }
            mappings.append(mapping)
            if random.once(in: 2) { writeMapping(mapping) }
        case .writeMap, .writeMap2: writeMapping(try anyMapping())
        case .writeMapAndFile:
            let path = try file(atLeast: 1)
            guard makesSilentWrites else { throw Nothing() }
            let mapping = try Mapping(path)
            mappings.append(mapping)
            if mappings.count > 4 { mappings.removeFirst() }
            writeMapping(mapping)
            try Files.patch(path, at: random.int(in: 0..<Int(try Files.status(path).st_size)), random.bytes(20))
            if random.once(in: 2) { writeMapping(mapping) }
        case .unmap:
            guard !mappings.isEmpty else { throw Nothing() }
            mappings.remove(at: random.int(in: 0..<mappings.count))
        case .replaceDirectory:
            let path = try directory(orRoot: false)
            try Files.removeTree(path)
            try Files.makeDirectory(path)
            try Files.write(path + "/new", content())
        }
    }

    private mutating func anyMapping() throws -> Mapping {
        guard makesSilentWrites, let mapping = mappings.randomElement(using: &random) else { throw Nothing() }
        return mapping
    }

    private mutating func writeMapping(_ mapping: Mapping) {
        let size = mapping.writableBytes
        guard size > 0 else { return }
        let offset = mapping.offset(&random)
        mapping.write(random.bytes(random.int(in: 1...min(200, size - offset))), at: offset)
        history[history.count - 1] += " at \(offset) of \(size)"
        if random.once(in: 8) { mapping.sync() }
    }

    /// Writes through every mapping that is still there.
    package mutating func writeMappings() {
        history.append("writeMappings")
        for mapping in mappings { writeMapping(mapping) }
    }

    /// What stands outside has names of objects that are inside, too.
    package mutating func clearOutside() throws {
        for name in try Files.list(outside) { try Files.removeTree(outside + "/" + name) }
    }

    private mutating func removeAttribute() throws {
        let all = try Files.walk(root).map(\.path).filter { try !Files.attributes($0).isEmpty }
        guard let path = all.randomElement(using: &random) else { throw Nothing() }
        note(path)
        try Files.removeAttribute(path, try Files.attributes(path).keys.sorted().randomElement(using: &random)!)
    }

    /// acl(5) as the kernel keeps it: version 2, then tag, permissions and id of each entry.
    private mutating func accessList() throws {
        let isDefault = random.once(in: 2)
        guard
            let path = pick(
                nil,
                where: { $0.st_mode & S_IFMT == S_IFDIR || (!isDefault && $0.st_mode & S_IFMT == S_IFREG) })
        else { throw Nothing() }
        note(path)
        func entry(_ tag: UInt8, _ permissions: Int, _ id: UInt8?) -> [UInt8] {
            [tag, 0, UInt8(permissions), 0] + (id.map { [$0, 0, 0, 0] } ?? [255, 255, 255, 255])
        }
        var list: [UInt8] = [2, 0, 0, 0] + entry(1, 7, nil)
        list += entry(2, random.int(in: 0...7), UInt8(random.int(in: 1...3))) + entry(4, 5, nil)
        list += entry(8, random.int(in: 0...7), 5) + entry(16, random.int(in: 5...7), nil) + entry(32, 5, nil)
        try Files.setAttribute(path, isDefault ? "system.posix_acl_default" : "system.posix_acl_access", list)
    }

    private func last(_ path: String) -> String { String(path[path.index(after: path.lastIndex(of: "/")!)...]) }

    /// a → b, b → c and so on, from the end; or all of them in a circle.
    private mutating func chain(isCycle: Bool) throws {
        var paths: [String] = []
        for _ in 0..<random.int(in: 2...5) { if let path = pick(S_IFREG), !paths.contains(path) { paths.append(path) } }
        guard paths.count > 1 else { throw Nothing() }
        let spare = outside + "/spare"
        if isCycle { try Files.rename(paths.last!, spare) }
        for index in stride(from: paths.count - 2, through: 0, by: -1) {
            try Files.rename(paths[index], paths[index + 1])
        }
        if isCycle { try Files.rename(spare, paths[0]) }
    }

    /// a/b becomes b, and a goes below it.
    private mutating func invert() throws {
        let inner = try directory(orRoot: false)
        let outer = String(inner[..<inner.lastIndex(of: "/")!])
        guard outer != root else { throw Nothing() }
        made += 1
        let place = root + "/v\(made)"
        try Files.rename(inner, place)
        try Files.rename(outer, place + "/" + last(outer))
    }

    private mutating func replaceKind() throws {
        let path = try any()
        let kind = try Files.status(path).st_mode & S_IFMT
        try Files.removeTree(path)
        if kind == S_IFDIR {
            try Files.write(path, content())
        } else {
            try Files.makeDirectory(path)
            try Files.write(path + "/inside", content())
        }
        if random.once(in: 2) {
            try Files.removeTree(path)
            try Files.write(path, content())
        }
    }

    /// Another content with the same size and the old time.
    private mutating func touchBack() throws {
        let path = try file(atLeast: 1)
        let status = try Files.status(path)
        try Files.patch(path, at: 0, random.bytes(min(Int(status.st_size), 50)))
        try Files.setTime(path, status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
        if random.once(in: 2) { try Files.rename(path, try newPath()) }
    }

    private mutating func save(backup: Bool) throws {
        let path = try file(below: 6 << 20)
        var bytes = try Files.read(path)
        bytes.insert(contentsOf: random.bytes(20), at: random.int(in: 0...bytes.count))
        if backup {
            try Files.rename(path, path + "~")
            try Files.write(path, bytes)
        } else {
            try Files.write(path + ".tmp", bytes)
            try Files.rename(path + ".tmp", path)
        }
    }

    private mutating func makePath(below path: String) throws {
        var path = path
        for _ in 0..<random.int(in: 1...6) {
            path += "/p\(random.int(in: 0..<4))"
            if !Files.exists(path) { try Files.makeDirectory(path) }
            if random.once(in: 2) { try Files.write(path + "/f\(random.int(in: 0..<3))", content()) }
        }
    }

    private mutating func oddName() throws {
        let names = [
            " ", "-rf", "a\nb", "\u{e4}\u{1F600}", "\\x41", String(repeating: "x", count: 255), "...", ".hidden", "n1~",
        ]
        let path = try directory() + "/" + names.randomElement(using: &random)!
        if random.once(in: 2) { try Files.write(path, content()) } else { try Files.makeDirectory(path) }
        // And one that is no UTF-8.
        let directory = Array(try directory().utf8)
        let raw = (directory + [0x2F, 0xFF, 0xFE, UInt8(random.int(in: 0x80...0x84)), 0]).map(CChar.init(bitPattern:))
        let descriptor = open(raw, O_WRONLY | O_CREAT, 0o644)
        if descriptor >= 0 {
            var bytes = random.bytes(10)
            _ = Glibc.write(descriptor, &bytes, bytes.count)
            close(descriptor)
        }
    }

    private mutating func manyEntries() throws {
        guard random.once(in: 4) else { throw Nothing() }
        let path = try newPath()
        try Files.makeDirectory(path)
        for index in 0..<200 { try Files.write(path + "/e\(index)", random.bytes(random.int(in: 0...40))) }
    }

    private mutating func copyTree() throws {
        let source = try directory(orRoot: false)
        let target = try newPath()
        try Files.makeDirectory(target)
        for (path, status) in try Files.walk(source).prefix(40) {
            let copy = target + path.dropFirst(source.count)
            switch status.st_mode & S_IFMT {
            case S_IFDIR: try Files.makeDirectory(copy)
            case S_IFREG: if status.st_size < 1 << 20 { try Files.write(copy, try Files.read(path)) }
            default: break
            }
        }
    }

    /// log.3 goes, log.2 → log.3, log.1 → log.2, log → log.1, a new log.
    private mutating func rotate() throws {
        let base = try directory() + "/log"
        for index in stride(from: 3, to: 0, by: -1) where Files.exists(base + ".\(index)") {
            try Files.rename(base + ".\(index)", base + ".\(index + 1)")
        }
        if Files.exists(base) { try Files.rename(base, base + ".1") }
        try Files.write(base, content())
    }
}
