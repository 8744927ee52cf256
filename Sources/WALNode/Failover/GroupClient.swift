import WALFormat

/// Asks nodes of a group by address, and does not wait long for one that is not there.
package struct GroupClient: Sendable {
    /// What a node has said of itself, and where it was asked.
    package struct Seen: Sendable {
        package var address: Address
        package var status: NodeStatus

        package init(address: Address, status: NodeStatus) {
            self.address = address
            self.status = status
        }
    }

    /// Nodes that did not answer, and why.
    struct Missing: Sendable {
        var address: Address
        var why: NodeError
    }

    /// All at once.
    static func look(at addresses: [Address], seconds: Double = 3) async -> (seen: [Seen], missing: [Missing]) {
        await withTaskGroup(of: (Int, Result<NodeStatus, NodeError>).self) { group in
            for (index, address) in addresses.enumerated() {
                group.addTask {
                    do {
                        // Not within the tuple: Swift 6.3 loses what was put there before the await.
                        let status = try await status(of: address, seconds: seconds)
                        return (index, .success(status))
                    } catch {
                        return (index, .failure(NodeError(error)))
                    }
                }
            }
            var answers = [Result<NodeStatus, NodeError>?](repeating: nil, count: addresses.count)
            for await (index, answer) in group { answers[index] = answer }
            var seen: [Seen] = []
            var missing: [Missing] = []
            for (address, answer) in zip(addresses, answers) {
                switch answer {
                case .success(let status): seen.append(Seen(address: address, status: status))
                case .failure(let error): missing.append(Missing(address: address, why: error))
                case nil: break
                }
            }
            return (seen, missing)
        }
    }

    /// And at those that the nodes of this history name.
    static func explore(
        from addresses: [Address], history: String, seconds: Double = 3
    ) async -> (seen: [Seen], missing: [Missing]) {
        var (seen, missing) = await look(at: addresses, seconds: seconds)
        var more: [Address] = []
        for address in seen.filter({ $0.status.history == history }).flatMap(\.status.groupAddresses)
        where !addresses.contains(address) && !more.contains(address) { more.append(address) }
        if !more.isEmpty {
            let (others, gone) = await look(at: more, seconds: seconds)
            seen += others
            missing += gone
        }
        return (seen.filter { $0.status.history == history }, missing)
    }

    static func status(of address: Address, seconds: Double = 10) async throws -> NodeStatus {
        guard let status = try await ask(address, ControlRequest(.status), seconds: seconds).status else {
            throw NodeError(.failed, "\(address) has no status")
        }
        return status
    }

    /// One question and its answer; an error after `seconds`.
    static func ask(
        _ address: Address, _ request: ControlRequest, seconds: Double = 30
    ) async throws -> ControlResponse {
        try await withThrowingTaskGroup(of: ControlResponse.self) { group in
            group.addTask {
                let client = try await ControlClient(address, silence: seconds)
                return try await withTaskCancellationHandler {
                    do {
                        let response = try await client.ask(request)
                        await client.close()
                        return response
                    } catch {
                        await client.close()
                        throw error
                    }
                } onCancel: {
                    Task { await client.close() }
                }
            }
            group.addTask {
                try await Task.sleep(for: .seconds(seconds))
                throw NodeError(
                    .unreachable, "\(address) has not answered within \(PrimaryNode.text(seconds: seconds))")
            }
            defer { group.cancelAll() }
            return try await group.next()!
        }
    }
}

extension NodeStatus {
    /// A primary, and not one that waits for room before it begins.
    var leads: Bool { role == "primary" && state != "waiting" }

    /// The highest epoch that the node has heard of.
    var knownEpoch: UInt64 { max(epoch, group?.promisedEpoch ?? 0) }

    /// All nodes of the group that this one knows to be reached somewhere.
    var groupAddresses: [Address] {
        guard let group else { return [] }
        return (group.members.map(\.address) + [group.primary, group.formerPrimary]).compactMap { text in
            text.flatMap { try? Address($0) }
        }
    }
}
