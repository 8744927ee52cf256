import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem

/// What a tree's own files tell when nothing runs for it.
package enum OfflineStatus {
    /// - Parameter needsCatalog: Else what only a catalog tells is left out where it cannot be opened. The position is then that
    ///   of the log, and of a replica none.
    package static func read(
        _ folder: Directory, folderPath: String, treePath: String, needsCatalog: Bool = true
    ) throws -> NodeStatus {
        guard let file = try NodeFile.load(from: folder, path: folderPath) else {
            throw NodeError(.failed, "\(treePath) is not kept by walship or walrecv: \(folderPath) has no node.json")
        }
        var (state, filter) = (CatalogState.empty, Filter.none)
        do {
            let catalog = try openCatalog(folder, folderPath, treePath)
            defer { try? catalog.close() }
            (state, filter) = try catalog.read { ($0.state, try $0.filter()) }
        } catch {
            if needsCatalog { throw error }
        }
        let log = try LogInspector.summary(log: try folder.openDirectory(Name("log")))
        let end = log.end ?? state.position
        let position = file.role == .replica ? state.position : end
        var status = NodeStatus(
            role: file.role.rawValue, node: file.node, history: file.history, epoch: file.epoch,
            position: PositionStatus(position), state: "stopped", treeDigest: state.treeDigest.description,
            log: NodeStatus.Log(firstSeq: log.files.first?.firstSeq ?? end.seq + 1, lastSeq: end.seq, bytes: log.bytes),
            replicas: [], upstream: nil, appliedSeq: state.position.seq, durableSeq: end.seq, lagSegments: nil,
            lagSeconds: nil, objects: state.objectCount, contentBytes: state.contentBytes, progress: nil, notes: [],
            pid: nil, path: treePath)
        status.filter = filter.lines
        status.group = NodeStatus.Group(file, address: nil)
        return status
    }

    static func openCatalog(_ folder: Directory, _ folderPath: String, _ treePath: String) throws -> Catalog {
        do throws(SystemError) {
            _ = try folder.status(of: Name("catalog.sqlite"))
        } catch {
            guard error.isNotFound else { throw error }
            throw NodeError(.failed, "\(treePath) has no catalog yet; start walship or walrecv for it")
        }
        return try Catalog(path: folderPath + "/catalog.sqlite", readOnly: true)
    }
}

package enum OfflineVerify {
    package static func run(_ treePath: String, state: String?, isDeep: Bool) throws -> VerifyReport {
        let root = try StateFolder.openRoot(treePath)
        let folderPath = state ?? treePath + (treePath.hasSuffix("/") ? "" : "/") + StateFolder.defaultName
        let folder = try Directory.open(path: folderPath)
        let node = try NodeFile.load(from: folder, path: folderPath)
        let catalog = try OfflineStatus.openCatalog(folder, folderPath, treePath)
        let report = try catalog.read { transaction in
            try VerifyReport(
                transaction, history: node?.history, root: root, isDeep: isDeep, ignoresSpecial: node?.role == .primary)
        }
        try catalog.close()
        return report
    }
}

extension VerifyReport {
    package static func noRepairOfPrimary(_ path: String) -> NodeError {
        NodeError(
            .usage,
            "\(path) is a primary: its tree is what replicas are repaired from; what differs there is captured by the "
                + "next scan, or at once when walship starts again")
    }

    /// Looks at all of a tree that nobody changes meanwhile.
    init(
        _ catalog: CatalogTransaction, history: String?, root: Directory, isDeep: Bool, ignoresSpecial: Bool
    ) throws {
        let check = TreeCheck(isDeep: isDeep, ignoresSpecial: ignoresSpecial, progress: CaptureProgress())
        let result = try check.run(catalog, root: root)
        self.init(catalog, history: history, result, isDeep: isDeep, differences: result.differences)
    }

    init(
        _ catalog: CatalogTransaction, history: String?, _ result: TreeCheck.Result, isDeep: Bool,
        differences: [TreeDifference]
    ) {
        let state = catalog.state
        let listed = Self.list(differences)
        self.init(
            history: history, position: PositionStatus(state.position), treeDigest: state.treeDigest.description,
            isDeep: isDeep, names: result.names, bytes: result.bytes, differences: listed,
            totalDifferences: UInt64(differences.count), isTruncated: listed.count < differences.count,
            isDigestRight: (try? catalog.recomputedDigest()) == state.treeDigest, isComplete: state.isComplete)
    }

    /// As many as a person may look at, and no more than a frame holds: in JSON an escaped path is up to twice as long, and
    /// a path may be of any depth.
    private static func list(_ differences: [TreeDifference]) -> [Difference] {
        var bytes = 0
        return differences.sorted { $0.path < $1.path }.prefix(maxListed)
            .prefix { difference in
                bytes += difference.path.utf8.count
                return bytes <= maxListedBytes
            }
            .map { Difference(path: $0.path, kind: $0.kind.rawValue) }
    }

    private static let maxListed = 1000
    private static let maxListedBytes = 4 << 20
}
