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
                // One that is frozen holds up nobody else.
                await withDiscardingTaskGroup { group in
                    for address in Self.absent(node) { group.addTask { await visit(address) } }
                }
                try? await Task.sleep(for: Self.pause)
            }
        }
    }

    /// One that was away may have been deposed meanwhile: whoever of the group can be reached is asked, before anything is
    /// acknowledged. Nil where nobody says so in time.
    func deposition() async -> RoleChange? {
        let (seen, _) = await GroupClient.look(at: Self.absent(node), seconds: 2)
        return seen.compactMap { deposition($0) }.max { $0.epoch < $1.epoch }?.change
    }

    private func deposition(_ seen: GroupClient.Seen) -> (epoch: UInt64, change: RoleChange)? {
        let status = seen.status
        let promised = promisedEpoch(status)
        guard status.history == node.file.history, promised > node.epoch else { return nil }
        let leader = status.role == "primary" ? seen.address.description : status.group?.primary
        return (promised, .deposed(epoch: promised, leader: leader))
    }

    private func promisedEpoch(_ status: NodeStatus) -> UInt64 { status.group?.promisedEpoch ?? status.epoch }

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

    private func visit(_ address: Address) async {
        let file = node.file
        guard let status = try? await GroupClient.ask(address, ControlRequest(.status), seconds: 5).status,
            status.history == file.history, file.role == .primary
        else { return }
        if let deposition = deposition(GroupClient.Seen(address: address, status: status)) {
            return node.host.request(deposition.change)
        }
        if status.role == "primary", promisedEpoch(status) == node.epoch, status.node != file.node {
            return node.note(rival: status.node, at: address)
        }
        guard file.isAppointed == true, let own = node.host.address else { return }
        var request = ControlRequest(status.role == "replica" ? .follow : .fence)
        request.epoch = file.epoch
        request.history = file.history
        request.address = own.description
        _ = try? await GroupClient.ask(address, request, seconds: 5)
    }
}
