import Synchronization
import WALFormat
import WALSystem

/// Keeps what stood in the way and was not ours: a local edit of a replica is reported and healed, never thrown away.
package final class Quarantine: Sendable {
    private let directory: Directory
    private let found = Mutex<[Drift]>([])

    package init(directory: Directory) {
        self.directory = directory
    }

    /// What was set aside since the last call.
    package func takeDrift() -> [Drift] {
        found.withLock { list in
            defer { list.removeAll() }
            return list
        }
    }

    /// What the catalog knew is gone from the tree, or not what it was.
    package func report(_ path: String) {
        found.withLock { $0.append(Drift(path: path, keptAs: nil)) }
    }

    /// Moves `name` out of the tree, with everything below it.
    package func keep(_ parent: Directory, _ name: Name, path: String) throws(SystemError) {
        let prefix = Array("\(Clock.realtimeNanoseconds())-".utf8)
        let kept = Name(trusted: prefix + name.bytes.prefix(Limits.maxNameBytes - prefix.count))
        try parent.rename(name, to: directory, kept, noReplace: true)
        found.withLock { $0.append(Drift(path: path, keptAs: kept.description)) }
    }
}
