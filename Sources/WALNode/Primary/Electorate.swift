import Logging
import Synchronization
import WALFormat
import WALWire

/// Whose acknowledgements count, and how many of them are needed.
///
/// A promotion counts on what those it asks know of the group. A replica that none of them knows of is not asked; so what
/// such a one has acknowledged must count for nothing. The group in force, ``NodeFile/voters`` and
/// ``NodeFile/votersNeeded``, is therefore not simply the group as it is: a change of members, or of `--sync`, is told to all
/// replicas first, and is in force when ``Quorum/notes`` of the group in force have made it durable.
///
/// One replica is added at a time, and the next when that one is in force: of two groups that differ by one member, any
/// majorities meet, so that no two promotions can have the same epoch, whichever of them each knows. The group that is told,
/// ``NodeFile/members``, is durable here before anybody hears of it: after a restart it is told on, and no other.
extension PrimaryNode {
    /// As it is told to the replicas: what they must know when this node is gone.
    func group() -> Group {
        let file = file
        return Group(
            leader: host.address?.description ?? "", syncReplicas: neededSoon(file),
            members: told(file).map { Group.Member(name: $0.name, address: $0.address) }, epochs: file.epochs ?? [])
    }

    /// Also those that have not come to this primary yet: they may have what it has acknowledged under another.
    private func told(_ file: NodeFile) -> [NodeFile.Member] {
        let entries = replicas.entries
        return (file.members ?? []).map { member in
            NodeFile.Member(name: member.name, address: entries[member.name]?.reachable ?? member.address)
        }.sorted { $0.name < $1.name }
    }

    /// The next that is to count: it follows this primary, and nobody was told of it yet. Who is refused is none.
    private func newcomer(_ file: NodeFile) -> NodeFile.Member? {
        let known = Set((file.members ?? []).map(\.name))
        guard known.count < Limits.maxGroupMembers else { return nil }
        return replicas.entries.filter { isFollowing($0.value) && !known.contains($0.key) }
            .min { $0.key < $1.key }.map { NodeFile.Member(name: $0.key, address: $0.value.reachable) }
    }

    private func isFollowing(_ entry: ReplicaRegistry.Entry) -> Bool {
        entry.owner != nil && (entry.state == "streaming" || entry.state == "syncing")
    }

    /// A higher number is told when so many have all that was acknowledged under the lower one: a promotion that knew of it
    /// before would ask too few for that.
    private func neededSoon(_ file: NodeFile) -> UInt32 {
        let wanted = UInt32(clamping: settings.syncReplicas ?? 0)
        let known = file.votersNeeded ?? 0
        guard wanted > known else { return wanted }
        let have = replicas.count(of: file.voters ?? [], durable: beganAt.seq)
        return have >= Int(wanted) ? wanted : known
    }

    /// How many replicas must have something before it is answered as safe. A lower number than before is not in force
    /// before a promotion would know of it.
    var syncReplicas: Int { max(settings.syncReplicas ?? 0, Int(file.votersNeeded ?? 0)) }

    /// Puts the group in force that the replicas were told of, where enough have noted it, and tells them of the next.
    /// Called whenever one has noted it, or has come.
    func groupNoted() {
        let isToTell = settling.withLock { _ in
            var hasSettled = false
            do {
                while try settle() { hasSettled = true }
            } catch {
                logger.warning("the group is not put in force: \(error)")
            }
            return hasSettled
        }
        if isToTell { signal.advance() }
    }

    /// The group in force is the one that was told, and no other was.
    var isSettled: Bool {
        let file = file
        return Set((file.members ?? []).map(\.name)) == Set(file.voters ?? [])
    }

    /// False where nothing can be done now.
    private func settle() throws -> Bool {
        let file = file
        let voters = file.voters ?? []
        let members = told(file)
        let names = members.map(\.name)
        let needed = neededSoon(file)
        if Set(names) == Set(voters), needed == file.votersNeeded ?? 0 {
            let next = (members + (newcomer(file).map { [$0] } ?? [])).sorted { $0.name < $1.name }
            guard file.role == .primary, next != file.members ?? [] else { return false }
            // Not of one that was fenced meanwhile: whoever did knows the group as it was.
            try host.identity.update { if $0.role == .primary { $0.members = next } }
            return true
        }
        let quorum = Quorum(replicas: voters.count, needed: Int(file.votersNeeded ?? 0))
        let notes = replicas.count(of: voters, noted: group().tag)
        guard file.role == .primary, notes >= quorum.notes else { return false }
        // Before it counts. Where they are, this node must know after a restart: one of them may lead by then.
        try host.identity.update { file in
            guard file.role == .primary else { return }
            file.members = members
            file.voters = names
            file.votersNeeded = needed
            // Else what it heard as a replica would be the most that anybody knows.
            file.syncReplicas = needed
        }
        replicas.setVoters(names)
        return true
    }

    /// What a status says of replicas that do not count yet.
    var electorateNotes: [String] {
        let file = file
        let voters = file.voters ?? []
        let waiting = Set(replicas.entries.keys).union(told(file).map(\.name)).subtracting(voters).sorted()
        let quorum = Quorum(replicas: voters.count, needed: Int(file.votersNeeded ?? 0))
        var notes = rival.withLock { $0 }.map { [$0] } ?? []
        if !waiting.isEmpty {
            notes.append(
                "\(waiting.joined(separator: ", ")): acknowledgements count when \(quorum.notes) of "
                    + "\(voters.joined(separator: ", ")) have heard of it; walctl forget takes away who will not come back"
            )
        }
        if let wanted = settings.syncReplicas, wanted < Int(file.votersNeeded ?? 0) {
            notes.append(
                "--sync \(wanted) is in force when \(quorum.notes) of \(voters.joined(separator: ", ")) have heard of it, "
                    + "until then \(file.votersNeeded ?? 0); walctl forget takes away who will not come back")
        }
        return notes
    }

    /// Both were forced to lead, each where the other could not be asked. Neither can know which one is to be given up.
    func note(rival name: String, at address: Address) {
        let text =
            "\(name) at \(address) leads epoch \(epoch), too: give one of the two up by walctl rejoin \(host.rootPath) --to "
            + "\(address), or the other way round"
        let isNew = rival.withLock { rival in
            defer { rival = text }
            return rival != text
        }
        if isNew { logger.critical("\(text)") }
    }

    /// The replica is none any more: no log is kept for it, and no promotion needs it. Should it come back, it is one again.
    ///
    /// What it has acknowledged must be on so many of the others that a promotion without it meets one of them.
    func forget(_ name: String, isForced: Bool) throws {
        guard replicas.entries[name]?.owner == nil else {
            throw NodeError(.failed, "replica '\(name)' is connected; stop it first")
        }
        let isMember = file.members?.contains { $0.name == name } ?? false
        let entry = replicas.entries[name]
        guard entry != nil || isMember else {
            throw NodeError(.failed, "\(file.node) knows no replica '\(name)'")
        }
        let others = told(file).map(\.name).filter { $0 != name }
        let quorum = Quorum(replicas: others.count, needed: Int(file.votersNeeded ?? 0))
        // A slot may be seconds older than what was acknowledged when this node ended; the log is not.
        let seq = max(entry?.durable ?? 0, beganAt.seq)
        guard isForced || replicas.count(of: others, durable: seq) >= quorum.acknowledgements else {
            throw NodeError(
                .notMet,
                "\(name) may have acknowledged up to segment \(seq), which \(quorum.acknowledgements) of "
                    + "\(others.joined(separator: ", ")) must have before it is forgotten; wait until they have, or give "
                    + "--force: a promotion may then lose it")
        }
        _ = replicas.forget(name)
        try replicas.save()
        try settling.withLock { _ in
            try host.identity.update { file in
                file.members?.removeAll { $0.name == name }
                // The operator's word that it will neither acknowledge nor promise anything.
                file.voters?.removeAll { $0 == name }
            }
            replicas.setVoters(file.voters ?? [])
        }
        groupNoted()
        signal.advance()
        logger.notice("replica \(name) is forgotten")
    }
}
