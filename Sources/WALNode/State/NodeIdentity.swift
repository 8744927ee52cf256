import Synchronization
import WALFormat
import WALSystem

/// `node.json` in memory and on disk: who this node is, which roles and promises it has, and whom it belongs with. Shared
/// by the roles that a tree's process has one after the other, and by all of their threads.
final class NodeIdentity: Sendable {
    private let folder: Directory
    private let file: Mutex<NodeFile>

    init(_ file: NodeFile, in folder: Directory) {
        self.folder = folder
        self.file = Mutex(file)
    }

    var value: NodeFile { file.withLock { $0 } }

    /// What `body` changes is durable when this returns, and is as it was when it throws.
    func update(_ body: (inout NodeFile) throws -> Void) throws {
        try file.withLock { file in
            var next = file
            try body(&next)
            guard next != file else { return }
            try next.save(to: folder)
            file = next
        }
    }
}
