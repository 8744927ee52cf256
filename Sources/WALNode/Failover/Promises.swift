import WALFormat

/// What a promotion asks of each replica before anything is changed for good.
extension Promotion {
    /// A replica that takes part.
    struct Voter {
        var seen: GroupClient.Seen
        /// As it was when it had promised.
        var status: NodeStatus
        var position: PositionStatus
        var isWhole: Bool
        var name: String { seen.status.node }
    }

    /// Nobody who has promised `epoch` hears of a lower one from now on.
    func promises(
        of voters: [GroupClient.Seen], _ epoch: UInt64, _ history: String, _ known: [NodeStatus.Group.Member],
        handover: UInt64? = nil
    ) async -> (promised: [Voter], missing: [GroupClient.Missing]) {
        var request = Self.request(.promise, epoch, history)
        request.members = known
        request.handover = handover
        let (wanted, seconds) = (request, timeoutSeconds)
        // All at once: one that has to finish something before it can say where it is holds up nobody else.
        var answers: [(voter: Int, answer: Result<Voter, NodeError>)] = []
        await withTaskGroup(of: (Int, Result<Voter, NodeError>).self) { group in
            for (number, voter) in voters.enumerated() {
                group.addTask {
                    let answer = await Self.promise(of: voter, wanted, seconds: seconds)
                    return (number, answer)
                }
            }
            for await (number, answer) in group {
                if case .success(let voter) = answer {
                    say("\(voter.name) promises epoch \(epoch); it is at \(voter.position.epoch):\(voter.position.seq)")
                }
                answers.append((number, answer))
            }
        }
        var promised: [Voter] = []
        var missing: [GroupClient.Missing] = []
        for (number, answer) in answers.sorted(by: { $0.voter < $1.voter }) {
            switch answer {
            case .success(let voter): promised.append(voter)
            case .failure(let why): missing.append(GroupClient.Missing(address: voters[number].address, why: why))
            }
        }
        return (promised, missing)
    }

    private static func promise(
        of voter: GroupClient.Seen, _ request: ControlRequest, seconds: Double
    ) async -> Result<Voter, NodeError> {
        do {
            let answer = try await GroupClient.ask(voter.address, request, seconds: seconds)
            guard let position = answer.position else { throw NodeError(.failed, "no position") }
            return .success(
                Voter(
                    seen: voter, status: answer.status ?? voter.status, position: position,
                    isWhole: answer.isWhole ?? false))
        } catch {
            return .failure(NodeError(error))
        }
    }

    /// Why each of them has not promised, for the end of a sentence.
    static func reasons(_ missing: [GroupClient.Missing]) -> String {
        missing.map { "; \($0.address): \($0.why)" }.joined()
    }
}
