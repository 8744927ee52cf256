import WALFormat
import WALSystem
import WALWire

/// A role that has nothing to do with the tree: answers who it is and where it stands, and refuses all else.
protocol IdleRole: NodeRole {
    var host: NodeHost { get }
    var finished: Finish { get }
    /// Why.
    var refusal: NodeError { get }
}

extension IdleRole {
    var isOver: Bool { finished.isOver }
    var epoch: UInt64 { host.identity.value.promisedEpoch }

    func shutDown() {
        finished.finish(.success(()))
    }

    func hello() -> Hello {
        let file = host.identity.value
        return Hello(
            role: .receiver, node: file.node, history: (try? file.historyID) ?? .none,
            promisedEpoch: file.promisedEpoch,
            position: .start, address: host.address?.description ?? "")
    }

    func tree() throws -> any TreeService { throw refusal }

    func handle(_ request: ControlRequest, answer: @escaping @Sendable (ControlResponse) -> Void) {
        do {
            answer(try respond(to: request))
        } catch {
            answer(ControlResponse(error: error))
        }
    }

    private func respond(to request: ControlRequest) throws -> ControlResponse {
        var response = ControlResponse()
        switch request.verb {
        case .status: response.status = try currentStatus()
        // What the tree is at only the catalog tells.
        case .position: response.position = try restingStatus("", notes: []).position
        default: throw refusal
        }
        return response
    }

    /// What log and catalog tell, as the role that used them has left them.
    func restingStatus(_ state: String, notes: [String], needsCatalog: Bool = true) throws -> NodeStatus {
        let file = host.identity.value
        var status = try OfflineStatus.read(
            host.folder.directory, folderPath: host.folder.path, treePath: host.rootPath, needsCatalog: needsCatalog)
        status.state = state
        status.group = NodeStatus.Group(file, address: host.address?.description)
        status.pid = ProcessFacts.processID
        status.notes = notes
        return status
    }
}
