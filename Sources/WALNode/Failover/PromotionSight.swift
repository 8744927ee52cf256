import WALFormat

/// What a promotion sees of the group, and whom it fences.
extension Promotion {
    /// What was seen before anything is changed.
    struct Sight {
        /// Who was asked first.
        var first: NodeStatus
        var history: String
        var seen: [GroupClient.Seen]
        var missing: [GroupClient.Missing]
        var assembly: Assembly
        /// The primary that gives the lead away, and what it gives; nil where the lead is taken.
        var giver: GroupClient.Seen?
        var handover: Handover?
        /// Whom this may promote.
        var candidates: [Address]

        var leaders: [GroupClient.Seen] { seen.filter { $0.status.role == "primary" } }
        /// Nobody who was seen has promised it.
        var nextEpoch: UInt64 { 1 + (seen.map(\.status.knownEpoch).max() ?? first.epoch) }
    }

    func look(from first: NodeStatus, _ history: String, takesOver: Bool) async throws -> Sight {
        var addresses = [target] + candidates
        for address in others + first.groupAddresses where !addresses.contains(address) { addresses.append(address) }
        let (all, missing) = await GroupClient.explore(from: addresses, history: history)
        let seen = Self.unique(all)
        let assembly = Assembly(first, seen)
        // Or an earlier attempt has come to the fence and no further.
        let giver = seen.first { old in
            guard let drained else {
                return takesOver && (candidates.isEmpty || candidates == [target])
                    && Self.hasGiven(old.status, to: first, begun: assembly.begun)
            }
            return old.status.role == "primary" && old.status.epoch == drained.epoch
        }
        // What is enough for a gift is not enough where the giver cannot be fenced: it may go on.
        guard drained == nil || giver != nil else {
            throw NodeError(
                .notMet,
                "the primary that was drained does not answer any more; nothing was changed, run it again, or walctl promote "
                    + "\(target)")
        }
        return Sight(
            first: first, history: history, seen: seen, missing: missing, assembly: assembly, giver: giver,
            handover: giver.map { drained ?? Handover(position: $0.status.position.text, epoch: $0.status.epoch) },
            candidates: try await ableToLead())
    }

    /// Of those that this may promote, the ones that have room for it. No force makes room.
    private func ableToLead() async throws -> [Address] {
        var able: [Address] = []
        var lack: NodeError?
        for address in candidates.isEmpty ? [target] : candidates {
            do {
                _ = try await GroupClient.ask(address, ControlRequest(.fit), seconds: 10)
            } catch {
                // What else is wrong with it is found by what its status says.
                if NodeError(error).code == .noSpace {
                    lack = lack ?? NodeError(error)
                    continue
                }
            }
            able.append(address)
        }
        if able.isEmpty, let lack { throw lack }
        return able
    }

    /// Who cannot be fenced acknowledges nothing any more once the others have promised, and is told again.
    ///
    /// Returns what the giver knows of the group, which does not change any more.
    func fence(_ sight: Sight, _ epoch: UInt64, _ missing: inout [String]) async throws -> NodeStatus? {
        var given: NodeStatus?
        if let giver = sight.giver, let handover = sight.handover {
            say("fencing \(giver.status.node) at \(giver.address)")
            var request = Self.request(.fence, epoch, sight.history)
            request.position = handover.position
            request.members = [
                NodeStatus.Group.Member(name: sight.first.node, address: sight.first.group?.address)
            ]
            given = giver.status
            given?.group?.members = try await GroupClient.ask(giver.address, request, seconds: 10).members ?? []
        }
        for leader in sight.leaders where leader.status.node != sight.giver?.status.node {
            say("fencing \(leader.status.node) at \(leader.address)")
            do {
                _ = try await GroupClient.ask(
                    leader.address, Self.request(.fence, epoch, sight.history), seconds: 10)
            } catch {
                missing.append("\(leader.status.node) is not fenced: \(NodeError(error))")
            }
        }
        return given
    }
}
