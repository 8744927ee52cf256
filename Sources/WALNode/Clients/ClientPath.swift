import WALFormat
import WALSystem

/// Where in a tree a client points. Only what is replicated can be pointed at.
struct ClientPath {
    /// From the root on; empty for the root.
    let names: [Name]
    /// As ``PathText`` writes it, whatever the client has left as it is.
    let text: String

    /// Throws ``NodeError/Code/usage`` for what is no path below the root.
    init(_ text: String, in folder: StateFolder, mayBeRoot: Bool = false) throws {
        guard let bytes = PathText.unescaped(text) else {
            throw NodeError(.usage, "'\(text)': a backslash must be written \\x5c, and other bytes as \\xHH")
        }
        let text = PathText.escaped(bytes)
        self.text = text
        if mayBeRoot, bytes.isEmpty || bytes == [0x2E] {
            names = []
            return
        }
        guard !bytes.isEmpty else { throw NodeError(.usage, "the path is empty") }
        guard bytes.first != 0x2F else {
            throw NodeError(.usage, "'\(text)' begins with a slash; paths are relative to the root of the tree")
        }
        var names: [Name] = []
        for part in bytes.split(separator: 0x2F, omittingEmptySubsequences: false) {
            do {
                names.append(try Name(Array(part)))
            } catch {
                throw NodeError(
                    .usage,
                    "'\(text)': '\(PathText.escaped(part))' is not the name of an object; '.', '..' and empty "
                        + "names are not taken")
            }
        }
        guard names.count <= Limits.maxDepth else { throw NodeError(.usage, "the path has too many components") }
        self.names = names
        guard names[0] != Name(trusted: Array(StateFolder.defaultName.utf8)), !Self.isOfState(names, folder) else {
            throw NodeError(.usage, "'\(text)' is in the state folder, which is not replicated")
        }
    }

    private static func isOfState(_ names: [Name], _ folder: StateFolder) -> Bool {
        guard let root = folder.root.currentPath, let state = folder.directory.currentPath,
            state.count > root.count, state.starts(with: root), state[root.count] == 0x2F
        else { return false }
        let below = state[(root.count + 1)...].split(separator: 0x2F)
        return names.count >= below.count && zip(names, below).allSatisfy { $0.bytes == Array($1) }
    }
}
