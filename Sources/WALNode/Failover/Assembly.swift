import WALFormat

/// Whom a promotion has seen, and who of them must promise.
///
/// Those count who may have acknowledged something, and they are the members of the group: what a newcomer has acknowledged
/// that nobody was told of, or a replica of a replica, was answered to nobody as safe. Those promise as well, so that they
/// listen to no lower epoch, and count for nothing: of members any majorities meet, and of all who may have come they need not.
package struct Assembly {
    /// The highest epoch that a primary has begun.
    package let begun: UInt64
    package let members: [NodeStatus.Group.Member]
    /// Who can promise: replicas, and of fenced primaries those that the group counts as replicas.
    package let voters: [GroupClient.Seen]
    private let statuses: [NodeStatus]

    /// `first` is who was asked first; `seen` may name it, too.
    package init(_ first: NodeStatus, _ seen: [GroupClient.Seen]) {
        statuses = [first] + seen.map(\.status)
        // One that waits for room to begin has the epoch that its log ends with: of its own there is nothing yet.
        begun =
            statuses.map { $0.role == "primary" && $0.state == "waiting" ? $0.position.epoch : $0.epoch }.max() ?? 0
        var members = Self.members(of: statuses)
        let names = Set(members.map(\.name))
        voters = seen.filter { seen in
            seen.status.role == "replica" || (seen.status.role == "fenced" && names.contains(seen.status.node))
        }
        for index in members.indices {
            let own = voters.first { $0.status.node == members[index].name }?.status.group?.address
            members[index].address = own ?? members[index].address
        }
        self.members = members.sorted { $0.name < $1.name }
    }

    /// One that came while a node was away is known to others only. What was heard in an epoch that is over may name who has
    /// led since as a replica.
    fileprivate static func members(of statuses: [NodeStatus]) -> [NodeStatus.Group.Member] {
        var members: [NodeStatus.Group.Member] = []
        for member in newest(statuses).flatMap({ $0.group?.members ?? [] })
        where !members.contains(where: { $0.name == member.name }) { members.append(member) }
        return members
    }

    fileprivate static func newest(_ statuses: [NodeStatus]) -> [NodeStatus] {
        let epoch = statuses.map(\.epoch).max()
        return statuses.filter { $0.epoch == epoch }
    }

    /// The highest `--sync` that those of them have heard of who know the last epoch.
    package static func syncReplicas(_ statuses: [NodeStatus]) -> UInt32? {
        newest(statuses).compactMap { $0.group?.syncReplicas }.max()
    }

    package func needed(isPlanned: Bool) -> Needed {
        Needed(promises: 0, names: Set(members.map(\.name)), isPlanned: isPlanned).hearing(statuses)
    }

    /// Who is not among `able`, and why, for the end of a sentence.
    func lacking(_ able: [GroupClient.Seen], _ missing: [GroupClient.Missing]) -> String {
        let lacking = members.filter { member in !able.contains { $0.status.node == member.name } }.map { member in
            let why =
                member.address == nil
                ? ": it listens nowhere, so it cannot be asked; give it --listen"
                : missing.first { $0.address.description == member.address }.map { ": \($0.why)" }
                    ?? voters.first { $0.status.node == member.name }.map { ": it is \($0.status.state)" } ?? ""
            return member.name + why
        }
        return lacking.isEmpty ? "" : "; missing: \(lacking.joined(separator: "; "))"
    }

    /// How many members must promise, and their names.
    package struct Needed {
        package var promises: Int
        package var names: Set<String>
        /// See ``Quorum/plannedPromises``.
        var isPlanned: Bool

        /// The same, and not less, when `statuses` are heard as well.
        ///
        /// Who has not heard of a higher number of acknowledgements yet knows a lower one. That is safe where many promises
        /// are needed, and where few are it is the highest: they must meet the fewest that any promotion is content with.
        package func hearing(_ statuses: [NodeStatus]) -> Needed {
            var more = self
            more.names.formUnion(Assembly.members(of: statuses).map(\.name))
            let acknowledgements = Assembly.newest(statuses).compactMap { $0.group?.syncReplicas }
            let number = Int((isPlanned ? acknowledgements.max() : acknowledgements.min()) ?? 0)
            let quorum = Quorum(replicas: more.names.count, needed: number)
            more.promises = max(promises, isPlanned ? quorum.plannedPromises : quorum.promises)
            return more
        }

        /// How many of these are members.
        package func count(_ nodes: [GroupClient.Seen]) -> Int { nodes.count { names.contains($0.status.node) } }

        /// That they are too few.
        func lack(_ nodes: [GroupClient.Seen], _ what: String) -> String {
            "\(count(nodes)) of \(names.count) replicas \(what) and \(promises) must, for what was acknowledged to be safe"
        }
    }
}
