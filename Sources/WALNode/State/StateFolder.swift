import WALFormat
import WALSystem

/// `ROOT/.wal`, or another folder on the same file system: all that a node keeps. One process at a time has the folder,
/// and one the root, whatever folder it keeps its state in.
package final class StateFolder: Sendable {
    package let rootPath: String
    package let root: Directory
    package let path: String
    package let directory: Directory
    package let log: Directory
    package let staging: Directory
    package let quarantine: Directory
    /// Held for as long as the process lives; the kernel lets go of it with the process, however that ends.
    private let lock: LockFile

    package static let defaultName = ".wal"

    /// Opens what is there and makes what is missing. `prepare` is called with the lock held and before anything is made:
    /// what it refuses leaves the disk as it was.
    package init(
        rootPath: String, statePath: String?, command: String,
        prepare: (_ root: Directory, _ existing: NodeFile?) throws -> Void
    ) throws {
        self.rootPath = rootPath
        path = Self.path(rootPath: rootPath, statePath: statePath)
        root = try Self.openRoot(rootPath)
        let existed = try Self.exists(path)
        // First, and held as long as `lock`: two that come at once must not each get one of the two.
        try Self.lockRoot(root, rootPath, statePath: path)
        if existed {
            directory = try Self.open(path, for: root, rootPath)
            lock = try LockFile(directory, rootPath: rootPath)
            try prepare(root, try NodeFile.load(from: directory, path: path))
            try lock.sign(command: command)
        } else {
            try prepare(root, nil)
            directory = try Self.make(path, root: root, rootPath: rootPath)
            lock = try LockFile(directory, rootPath: rootPath)
            try lock.sign(command: command)
        }
        try directory.dropInheritedList()
        log = try Self.subfolder(directory, Name("log"))
        staging = try Self.subfolder(directory, Name("staging"))
        quarantine = try Self.subfolder(directory, Name("quarantine"))
        try directory.sync()
    }

    /// What is in the state folder of a tree, without a lock and without making anything; nil when there is none.
    package static func existingNode(rootPath: String, statePath: String?) throws -> NodeFile? {
        let path = Self.path(rootPath: rootPath, statePath: statePath)
        guard try exists(path) else { return nil }
        return try NodeFile.load(from: try Directory.open(path: path), path: path)
    }

    /// Throws when there is no such tree.
    package static func exists(rootPath: String, statePath: String?) throws -> Bool {
        _ = try openRoot(rootPath)
        return try exists(path(rootPath: rootPath, statePath: statePath))
    }

    private static func path(rootPath: String, statePath: String?) -> String {
        statePath ?? rootPath + (rootPath.hasSuffix("/") ? "" : "/") + defaultName
    }

    /// It goes where the root goes.
    var isInRoot: Bool { path == Self.path(rootPath: rootPath, statePath: nil) }

    package var catalogPath: String { path + "/catalog.sqlite" }
    /// Short whatever the tree's path is: an address of a local socket has room for 107 bytes only.
    package var controlSocketPath: String { "/proc/self/fd/\(directory.descriptor)/control.sock" }

    /// Opens a tree's root, or says in one line why not.
    package static func openRoot(_ path: String) throws -> Directory {
        guard !path.isEmpty else { throw NodeError(.usage, "the path of the directory is empty; name one") }
        let root: Directory
        do throws(SystemError) {
            root = try Directory.open(path: path)
            _ = try root.entries()
        } catch {
            if error.code == Errno.notDirectory { throw NodeError(.failed, "\(path) is not a directory; name one") }
            if error.isNotFound { throw NodeError(.failed, "\(path) does not exist; create it or check the path") }
            if error.isDenied {
                throw NodeError(.failed, "\(path) cannot be read; check its permissions or run as its owner")
            }
            throw NodeError(.failed, "\(error)")
        }
        return root
    }

    private static func exists(_ path: String) throws -> Bool {
        do throws(SystemError) {
            _ = try Directory.open(path: path)
            return true
        } catch {
            if error.code == Errno.notDirectory {
                throw NodeError(.failed, "\(path) is not a directory; move it away or name another folder with --state")
            }
            if error.isNotFound { return false }
            throw NodeError(.failed, "\(error)")
        }
    }

    /// Takes the lock of the root's own handle, which the kernel gives back with the process.
    private static func lockRoot(_ root: Directory, _ rootPath: String, statePath: String) throws {
        guard try !root.lockExclusive() else { return }
        let signed = (try? Directory.open(path: statePath)).flatMap { LockFile.signature(in: $0) }
        let pid = ProcessFacts.lockHolder(of: try root.status())
        // Who signed our folder may be another than the one that has the root now.
        if let signed, pid == nil || signed.hasSuffix("(pid \(pid!))") { throw inUse(rootPath, by: signed) }
        guard let pid else { throw inUse(rootPath, by: "another walship or walrecv, with another state folder") }
        throw inUse(
            rootPath,
            by: "\(ProcessFacts.processName(pid) ?? "another process") (pid \(pid)), with another state folder")
    }

    fileprivate static func inUse(_ rootPath: String, by holder: String) -> NodeError {
        NodeError(.failed, "\(rootPath) is in use by \(holder); stop it first")
    }

    private static func open(_ path: String, for root: Directory, _ rootPath: String) throws -> Directory {
        let directory = try Directory.open(path: path)
        guard try directory.status().dev == root.status().dev else {
            throw NodeError(
                .failed,
                "\(path) is on another file system than \(rootPath); files are published by rename, so name a folder on "
                    + "the same one with --state")
        }
        return directory
    }

    private static func make(_ path: String, root: Directory, rootPath: String) throws -> Directory {
        let (above, name) = try split(path)
        do {
            let folder = try Directory.open(path: above)
            guard try folder.status().dev == root.status().dev else {
                throw NodeError(
                    .failed,
                    "\(path) would be on another file system than \(rootPath); files are published by rename, so name "
                        + "a folder on the same one with --state")
            }
            try folder.makeDirectory(name, permissions: 0o700)
            try folder.sync()
        } catch let error as SystemError {
            throw NodeError(.failed, "state folder \(path) cannot be made: \(error)")
        }
        return try Directory.open(path: path)
    }

    /// Makes a directory that is not there; what is above it must be. True when it made one.
    package static func makeRoot(_ path: String) throws -> Bool {
        let (above, name) = try split(path)
        do throws(SystemError) {
            try Directory.open(path: above).makeDirectory(name, permissions: 0o755)
            return true
        } catch {
            guard !error.isExisting else { return false }
            if error.isNotFound {
                throw NodeError(
                    .failed, "\(path) cannot be made: \(above) does not exist or is no directory; make it first")
            }
            throw NodeError(.failed, "\(path) cannot be made: \(error)")
        }
    }

    /// The absolute path, without links, of a directory that is there or that ``makeRoot(_:)`` would make.
    package static func realPath(_ path: String) throws -> [UInt8]? {
        if let directory = try? Directory.open(path: path) { return directory.currentPath }
        let (above, name) = try split(path)
        return (try? Directory.open(path: above))?.currentPath.map { $0 + [0x2F] + name.bytes }
    }

    /// Takes back what ``makeRoot(_:)`` made, if nothing is in it.
    package static func unmakeRoot(_ path: String) {
        guard let (above, name) = try? split(path) else { return }
        try? Directory.open(path: above).removeDirectory(name)
    }

    private static func split(_ path: String) throws -> (above: String, name: Name) {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        let cut = path.lastIndex(of: "/")
        let last = cut.map { String(path[path.index(after: $0)...]) } ?? path
        let above = cut.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        guard let name = try? Name(Array(last.utf8)) else {
            throw NodeError(.usage, "'\(path)' is not the path of a folder that can be made")
        }
        return (above, name)
    }

    private static func subfolder(_ parent: Directory, _ name: Name) throws -> Directory {
        do throws(SystemError) {
            try parent.makeDirectory(name, permissions: 0o700)
        } catch {
            if !error.isExisting { throw error }
        }
        let folder = try parent.openDirectory(name)
        try folder.dropInheritedList()
        return folder
    }
}

/// `lock`: says who holds the tree.
private final class LockFile: Sendable {
    private let file: File

    init(_ directory: Directory, rootPath: String) throws {
        let name = Name("lock")
        let file = try directory.createFile(name, exclusive: false)
        guard try file.lockExclusive() else {
            try file.close()
            throw StateFolder.inUse(rootPath, by: Self.signature(in: directory) ?? "another process")
        }
        self.file = file
    }

    /// Who took the lock last, whether or not that has it still.
    static func signature(in directory: Directory) -> String? {
        let bytes = try? readWholeFile(in: directory, Name("lock"), limit: 4096)
        return bytes?.split(separator: 0x0A).first.map { String(decoding: $0, as: UTF8.self) }
    }

    func sign(command: String) throws {
        try file.truncate(to: 0)
        try file.write(Array("\(command) (pid \(ProcessFacts.processID))\n".utf8), at: 0)
    }
}
