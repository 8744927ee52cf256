import WALFormat
import WALSystem

/// The folder that a file of this host is in, and its name there.
func openFolder(of path: String) throws -> (Directory, Name) {
    let cut = path.lastIndex(of: "/")
    let above = cut.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let last = cut.map { String(path[path.index(after: $0)...]) } ?? path
    let name = try Name(Array(last.utf8))
    return (try Directory.open(path: above), name)
}
