import WALCatalog
import WALFormat
import WALSystem

/// Looks into a node's tree for a client: beneath the root, through no symlink, over no mount, and at nothing that is not
/// replicated.
struct TreeReader {
    private let service: any TreeService
    private let root: Directory
    private let filter: Filter

    enum Found {
        case entry(TreeEntry)
        case directory(Listed)
    }

    init(_ service: any TreeService) throws {
        self.service = service
        root = service.folder.root
        filter = try service.catalog.read { try $0.filter() }
    }

    func open(_ path: ClientPath) throws -> (OpenedFile, TreeEntry) {
        let (directory, name, status) = try find(path)
        guard status.kind == .file else {
            throw NodeError(.failed, "\(path.text) is a \(Self.word(status)), not a file")
        }
        let file = try directory.openFile(name)
        let opened = try OpenedFile(file, path: path.text)
        guard opened.status.kind == .file else { throw NodeError(.failed, "\(path.text) is not a file any more") }
        return (opened, try Self.entry(path.text, opened.status, directory, name))
    }

    func stat(_ path: ClientPath) throws -> TreeEntry {
        guard !path.names.isEmpty else { return try Self.entry(".", try root.status(), root, nil) }
        let (directory, name, status) = try find(path)
        return try Self.entry(path.text, status, directory, name)
    }

    func list(_ path: ClientPath) throws -> Found {
        guard !path.names.isEmpty else { return .directory(try listed(root, path)) }
        let (directory, name, status) = try find(path)
        guard status.kind == .directory else {
            return .entry(try Self.entry(path.text, status, directory, name))
        }
        return .directory(try listed(try directory.openDirectory(name), path))
    }

    private func listed(_ directory: Directory, _ path: ClientPath) throws -> Listed {
        let prefix = Filter.prefix(of: path.names)
        let matcher = filter.matcher
        let state = try service.folder.directory.status().identity
        let names = try directory.entries().filter { entry in
            if path.names.isEmpty, entry.name == Name(trusted: Array(StateFolder.defaultName.utf8)) { return false }
            return matcher.isEmpty
                || !matcher.excludes(
                    entry.name, in: prefix, isDirectory: entry.type == DirectoryEntry.directoryType)
        }
        return Listed(directory, names.map(\.name).sorted(), device: try root.status().dev, state: state)
    }

    private func find(_ path: ClientPath) throws -> (Directory, Name, FileStatus) {
        let directory: Directory
        let status: FileStatus
        let name = path.names[path.names.count - 1]
        do throws(SystemError) {
            directory = try root.openDirectory(at: path.names.dropLast())
            status = try directory.status(of: name)
        } catch {
            if error.isNotFound { throw NodeError(.failed, "\(path.text) does not exist") }
            guard error.isSymlinkOrEscape else { throw error }
            throw NodeError(.failed, "a symlink is on the way to \(path.text), and none is followed")
        }
        guard !filter.matcher.excludes(path: path.names, isDirectory: status.kind == .directory) else {
            throw NodeError(.failed, "\(path.text) is excluded by the filter, so it is not replicated")
        }
        guard try status.dev == root.status().dev, !status.isMountRoot, status.kind != nil else {
            throw NodeError(.failed, "\(path.text) is a socket or on another file system, so it is not replicated")
        }
        return (directory, name, status)
    }

    private static func word(_ status: FileStatus) -> String { status.kind?.word ?? "socket" }

    fileprivate static func entry(
        _ shown: String, _ status: FileStatus, _ directory: Directory, _ name: Name?
    ) throws -> TreeEntry {
        var target: String?
        if status.kind == .symlink, let name { target = PathText.escaped(try directory.readLink(name)) }
        let hasSize = status.kind == .file || status.kind == .symlink
        return TreeEntry(
            name: shown, kind: word(status), size: hasSize ? status.size : 0, mode: octal(status.mode), uid: status.uid,
            gid: status.gid, mtime: status.mtime.text, links: status.linkCount, target: target)
    }

    private static func octal(_ mode: UInt16) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}

extension Kind {
    var word: String {
        switch self {
        case .file: "file"
        case .directory: "directory"
        case .symlink: "symlink"
        case .fifo: "fifo"
        case .characterDevice: "character device"
        case .blockDevice: "block device"
        }
    }
}

/// A file as it was when it was opened. What has been written to since then is no version that anybody captured, so it is
/// not read on: better an error than a mix of two.
final class OpenedFile {
    let status: FileStatus
    private let file: File
    private let path: String

    init(_ file: consuming File, path: String) throws {
        status = try file.status()
        self.file = file
        self.path = path
    }

    /// Fewer bytes only at the end.
    func read(at offset: UInt64, count: Int) throws -> [UInt8] {
        let left = offset < status.size ? status.size - offset : 0
        let bytes = try file.read(count: Int(min(UInt64(count), left)), at: min(offset, status.size))
        // The times are set when a write begins, so one that is under way is waited for first.
        try file.waitForWrites()
        let now = try file.status()
        guard now.size == status.size, now.mtime == status.mtime, now.ctime == status.ctime else {
            var error = NodeError(.failed, "\(path) was changed while it was read; read it again")
            error.isChanged = true
            throw error
        }
        return bytes
    }
}

/// The names of a directory when it was listed; what they mean is looked up as it is asked for.
final class Listed {
    private let directory: Directory
    private let names: [Name]
    private let device: UInt64
    private let state: FileIdentity
    private var position = 0
    private static let atOnce = 2000

    init(_ directory: Directory, _ names: [Name], device: UInt64, state: FileIdentity) {
        self.directory = directory
        self.names = names
        self.device = device
        self.state = state
    }

    var hasMore: Bool { position < names.count }

    func next() throws -> [TreeEntry] {
        var entries: [TreeEntry] = []
        while entries.count < Self.atOnce, hasMore {
            let name = names[position]
            position += 1
            do throws(SystemError) {
                let status = try directory.status(of: name)
                guard status.kind != nil, status.dev == device, !status.isMountRoot, status.identity != state else {
                    continue
                }
                if let entry = try? TreeReader.entry(PathText.escaped(name.bytes), status, directory, name) {
                    entries.append(entry)
                }
            } catch {
                // Gone since then.
                guard error.isNotFound else { throw error }
            }
        }
        return entries
    }
}
