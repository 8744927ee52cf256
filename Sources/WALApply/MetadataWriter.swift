import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// Gives objects of a replica what is replicated of them beside names and content, in the one order that holds: the owner
/// before everything else, for the kernel takes setuid bits and capabilities away with it; an access control list before
/// the mode, which is a part of it; times last.
struct MetadataWriter: Sendable {
    /// Only root can give files away; others keep owners, and the attributes that need a privilege, in the catalog only.
    let isPrivileged: Bool
    let unset: UnsetAttributes

    /// The mode that an object gets on disk. Who is not root must be able to read what he keeps, or he could not go on
    /// with it nor verify it; the rest is in the catalog.
    private func mode(_ metadata: Metadata, _ kind: Kind) -> UInt16 {
        isPrivileged ? metadata.mode : metadata.mode | kind.ownersLeastMode
    }

    /// Of `name`, which is of that kind.
    ///
    /// - Parameter isNew: made just now, so that it has no attributes yet.
    func set(
        _ metadata: Metadata, of name: Name, _ kind: Kind, in directory: Directory, isNew: Bool = false
    ) throws(SystemError) {
        if isPrivileged { try directory.setOwner(name, uid: metadata.uid, gid: metadata.gid) }
        if !isNew || !metadata.attributes.isEmpty {
            let target = AttributeTarget(directory, name)
            var failed = try target.set(metadata.attributes, isNew: isNew, isPrivileged: isPrivileged)
            // Attributes of users are content to the kernel: a file that nobody may write to is opened for it.
            if !isPrivileged, kind != .symlink, failed.contains(where: \.error.isDenied) {
                try directory.setMode(name, metadata.mode | 0o600)
                failed = try target.set(metadata.attributes, isNew: false, isPrivileged: false)
            }
            unset.note(failed, of: target)
        }
        if kind != .symlink { try directory.setMode(name, mode(metadata, kind)) }
        try directory.setModificationTime(name, metadata.mtime)
    }

    /// Of an open directory.
    func set(_ metadata: Metadata, of directory: Directory) throws(SystemError) {
        if isPrivileged { try directory.setOwner(uid: metadata.uid, gid: metadata.gid) }
        let target = AttributeTarget(directory)
        unset.note(try target.set(metadata.attributes, isNew: false, isPrivileged: isPrivileged), of: target)
        try directory.setMode(mode(metadata, .directory))
        try directory.setModificationTime(metadata.mtime)
    }

    /// Of a file that was just made and is not seen by anybody yet; closes it.
    func finish(_ file: consuming File, _ metadata: Metadata) throws(SystemError) -> FileIdentity {
        let status = try file.status()
        // Each of these that is left out is a change of the inode less.
        let isOwned = !isPrivileged || (status.uid == metadata.uid && status.gid == metadata.gid)
        if !isOwned { try file.setOwner(uid: metadata.uid, gid: metadata.gid) }
        if !metadata.attributes.isEmpty {
            let target = AttributeTarget(file)
            unset.note(try target.set(metadata.attributes, isNew: false, isPrivileged: isPrivileged), of: target)
        }
        let mode = mode(metadata, .file)
        if !isOwned || !metadata.attributes.isEmpty || status.mode != mode { try file.setMode(mode) }
        try file.setModificationTime(metadata.mtime)
        try file.close()
        return status.identity
    }
}

/// Attributes that a replica's file system did not take. The catalog has them, so the tree digest is right; that the tree
/// lacks them is said in the status and by `walctl verify`.
package final class UnsetAttributes: Sendable {
    private let state = Mutex<(count: UInt64, first: String)>((0, ""))

    package init() {}

    /// How many times, and the first: what, where and why. Nil when there was none.
    package var summary: (count: UInt64, first: String)? {
        state.withLock { $0.count > 0 ? $0 : nil }
    }

    func note(_ failed: [UnsetAttribute], of target: AttributeTarget) {
        guard let first = failed.first else { return }
        state.withLock { state in
            if state.count == 0 { state.first = "\(first.name): \(first.error)" }
            state.count += UInt64(failed.count)
        }
    }
}
