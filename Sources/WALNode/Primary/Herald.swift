import WALFormat
import WALSystem
import WALWire

/// A primary's look at those of its group that are not connected. One that was promoted tells them whom to follow, and the
/// primary before it that it is deposed; any hears from them that another was promoted. Again and again, for they may be
/// down, or cut off, just now.
struct Herald {
    let node: PrimaryNode

    private static let pause = Duration.seconds(2)

    func start() -> Task<Void, Never> {
        Task { [node] in
            while !Task.isCancelled {
                for address in Self.absent(node) { await Self.visit(address, node) }
                try? await Task.sleep(for: Self.pause)
            }
        }
    }

    private static func absent(_ node: PrimaryNode) -> [Address] {
        let entries = node.replicas.entries
        let connected = entries.filter { $0.value.owner != nil }
        let members = (node.file.members ?? []).filter { connected[$0.name] == nil }.map(\.address)
        let known =
            members + [node.file.formerLeader].compactMap { $0 }
            + entries.filter { $0.value.owner == nil }.values.map(\.reachable)
        let present = connected.values.map(\.reachable)
        let own = node.host.address
        return Set(known.filter { !present.contains($0) }).compactMap { try? Address($0) }.filter { $0 != own }
    }

    private static func visit(_ address: Address, _ node: PrimaryNode) async {
        let file = node.file
        guard let status = try? await GroupClient.ask(address, ControlRequest(.status), seconds: 5).status,
            status.history == file.history, file.role == .primary
        else { return }
        let promised = status.group?.promisedEpoch ?? status.epoch
        if promised > node.epoch {
            let leader = status.role == "primary" ? address.description : status.group?.primary
            return node.host.request(.deposed(epoch: promised, leader: leader))
        }
        guard file.isAppointed == true, let own = node.host.address else { return }
        var request = ControlRequest(status.role == "replica" ? .follow : .fence)
        request.epoch = file.epoch
        request.history = file.history
        request.address = own.description
        _ = try? await GroupClient.ask(address, request, seconds: 5)
    }
}
