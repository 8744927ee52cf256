import WALCatalog
import WALFormat
import WALSystem

/// How much room content takes that is to be fetched.
extension Stager {
    /// Room that what is to be fetched for a file still takes, beside what an earlier attempt has left of it.
    func lackingBytes(_ task: Fold.Task) throws -> UInt64 {
        let bytes = task.content?.fetchedBytes ?? 0
        guard bytes > 0 else { return 0 }
        var held: UInt64 = 0
        for role in [DiskTree.Role.unfinished, .waiting] {
            do throws(SystemError) {
                held = max(held, try staging.status(of: DiskTree.name(role, task.row.id)).allocatedBlocks * 512)
            } catch {
                if !error.isNotFound { throw error }
            }
        }
        return bytes - min(bytes, held)
    }
}

extension FileContent {
    /// What is not in the set.
    var fetchedBytes: UInt64 { extents.reduce(0) { $0 + ($1.isFetch ? $1.length : 0) } }
}

extension ChangeSet {
    /// Of content that is not in it.
    package var fetchedBytes: UInt64 {
        changes.reduce(0) { sum, change in
            guard case .put(_, _, .file(let content)) = change else { return sum }
            return sum + content.fetchedBytes
        }
    }
}

extension Directory {
    /// Throws where the file system has no room for so much.
    package func requireRoom(for bytes: UInt64) throws(SystemError) {
        // Names, the catalog and the log take some, too.
        let margin = bytes / 16 + 4 << 20
        guard bytes > 0, try space().availableBytes < bytes.addingReportingOverflow(margin).partialValue else { return }
        throw SystemError(code: Errno.noSpace, call: "fallocate", path: currentPath.map { PathText.escaped($0) })
    }
}

extension Extent {
    var isFetch: Bool { if case .fetch = self { true } else { false } }
}
