import WALFormat
import WALSystem

/// The file `-shm` beside a database, in which SQLite's connections share an index of the write-ahead file. It is mapped,
/// and whoever writes to a mapping where the disk has no room for it is ended by the kernel (SIGBUS). SQLite writes one
/// byte in every 4 KiB of the file before it maps it. That takes all the room, unless the file system hands it out in
/// smaller blocks, as small ones of ext4 do: there the rest are holes.
struct SharedIndex {
    /// For 32,768 pages of the write-ahead file, 128 MiB: eight times as many as it has when they are moved into the database. What a
    /// still larger transaction takes is not reserved; disks with such blocks are small.
    private static let bytes: UInt64 = 256 << 10
    private static let stepBytes: UInt64 = 4096
    private let path: String
    private let name: Name
    private let folder: Directory

    /// nil where blocks leave no holes. Where that cannot be told, SQLite soon says what is wrong.
    ///
    /// - Parameter database: its path.
    init?(of database: String) {
        let path = database + "-shm"
        let end = path.lastIndex(of: "/")
        let name = Name(trusted: Array(path.utf8.suffix(from: end.map { path.index(after: $0) } ?? path.startIndex)))
        guard let folder = try? Directory.open(path: String(end.map { path[...$0] } ?? ".")),
            let space = try? folder.space(), space.blockBytes < Self.stepBytes
        else { return nil }
        self.folder = folder
        self.name = name
        self.path = path
    }

    /// Before the database is opened: the first to open it begins the file anew and writes to it before anybody can
    /// reserve room, so that is to be there. What the file holds now is free by then.
    func requireRoom() throws(CatalogError) {
        guard let space = try? folder.space() else { return }
        let held = (try? folder.status(of: name).allocatedBlocks) ?? 0
        guard space.availableBytes + held * 512 < Self.bytes else { return }
        throw .full(path: path, "it needs \(Self.bytes >> 10) KiB")
    }

    /// After it was opened, when the file is what it stays.
    func reserve() throws(CatalogError) {
        do throws(SystemError) {
            try File.allocate(inOpenFile: path, length: Self.bytes)
        } catch {
            if error.isNoSpace { throw .full(path: path, "it needs \(Self.bytes >> 10) KiB") }
            // As on file systems that reserve nothing.
        }
    }
}
