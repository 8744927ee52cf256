import WALFormat
import WALSystem

/// Hands the lead from a primary to one of its replicas while both are there. Nothing is lost, and whoever runs it may be
/// killed at any point: before the fence the old primary goes on by itself after a minute, after it the same command again,
/// or a promotion, finishes.
///
/// 1. The primary captures all that there is and stops capturing. What was captured goes on to the replicas.
/// 2. The replica applies it, and both trees have one digest.
/// 3. The primary is fenced, and the replica promoted as after any loss of a primary.
/// 4. The old primary, whose end lies on the new history, becomes a replica.
package struct Switchover {
    package var from: Address
    package var to: Address
    package var timeoutSeconds: Double = 60
    package var say: @Sendable (String) -> Void = { _ in }

    package init(from: Address, to: Address) {
        self.from = from
        self.to = to
    }

    package func run() async throws -> Promotion.Outcome {
        let old = try await GroupClient.status(of: from, seconds: min(10, timeoutSeconds))
        let new = try await GroupClient.status(of: to, seconds: min(10, timeoutSeconds))
        guard old.history == new.history, old.history != nil else {
            throw NodeError(.diverged, "\(old.node) and \(new.node) do not belong to one history")
        }
        guard old.node != new.node else {
            throw NodeError(
                .usage,
                "\(from) and \(to) are one node, \(old.node); if they are two, give each its own --name")
        }
        if old.role == "primary", new.role == "primary", old.epoch > new.epoch {
            throw NodeError(.failed, "\(new.node) at \(to) is a deposed primary; walctl rejoin it first")
        }
        // Where an earlier attempt has come to its fence, or further, this one goes on from there.
        guard old.role != "replica" || new.role == "primary" else {
            throw NodeError(
                .failed,
                "\(old.node) at \(from) is a replica, so it has nothing to hand over"
                    + (old.group?.primary.map { "; the primary is \($0)" } ?? ""))
        }
        var promotion = Promotion(target: to)
        promotion.timeoutSeconds = timeoutSeconds
        promotion.others = [from]
        promotion.mustTakeOver = old.role == "fenced"
        promotion.say = say
        var outcome: Promotion.Outcome
        do {
            if old.role == "primary", new.role != "primary" {
                promotion.drained = Promotion.Handover(position: try await drain(old, new), epoch: old.epoch)
            }
            outcome = try await promotion.run()
        } catch {
            // One that is fenced by now does not take it.
            _ = try? await GroupClient.ask(from, ControlRequest(.undrain), seconds: 5)
            throw error
        }
        do { try await takeBack(outcome) } catch { outcome.unfinished = "\(NodeError(error))" }
        return outcome
    }

    /// Returns where the old primary stands, and the new one.
    private func drain(_ old: NodeStatus, _ new: NodeStatus) async throws -> String {
        guard new.role == "replica" else {
            throw NodeError(.failed, "\(new.node) at \(to) is \(new.role), not a replica")
        }
        say("draining \(old.node) at \(from)")
        let drained = try await GroupClient.ask(from, ControlRequest(.drain), seconds: timeoutSeconds)
        guard let end = drained.position else { throw NodeError(.failed, "\(from) has not said where it stands") }
        say("waiting until \(new.node) has applied \(end.epoch):\(end.seq)")
        var wait = ControlRequest(.wait)
        wait.position = end.text
        wait.timeoutSeconds = timeoutSeconds
        _ = try await GroupClient.ask(to, wait, seconds: timeoutSeconds + 5)
        let reached = try await GroupClient.status(of: to)
        guard reached.position.text == end.text, reached.treeDigest == drained.treeDigest else {
            throw NodeError(
                .diverged,
                "\(new.node) is at \(reached.position.text) with tree digest \(reached.treeDigest), \(old.node) at "
                    + "\(end.text) with \(drained.treeDigest ?? ""): nothing was changed")
        }
        return end.text
    }

    /// The old primary is fenced by the promotion; it may take a moment to say so.
    private func takeBack(_ outcome: Promotion.Outcome) async throws {
        let deadline = Clock.monotonicNanoseconds() + UInt64(timeoutSeconds * 1e9)
        while true {
            let old: NodeStatus
            do { old = try await GroupClient.status(of: from) } catch {
                throw NodeError(
                    .notMet,
                    "\(outcome.node) leads; \(from) does not answer (\(NodeError(error))): walctl rejoin it when it is there"
                )
            }
            if old.role == "replica" { return }
            if old.role == "fenced", old.state != "rejoining" {
                say("\(old.node) becomes a replica")
                var request = ControlRequest(.rejoin)
                request.address = outcome.address
                do { _ = try await GroupClient.ask(from, request, seconds: timeoutSeconds) } catch {
                    let error = NodeError(error)
                    throw NodeError(
                        error.code,
                        "\(outcome.node) leads; \(from) is not a replica yet (\(error)): walctl rejoin \(from) when that is put "
                            + "right")
                }
            }
            guard Clock.monotonicNanoseconds() < deadline else {
                throw NodeError(
                    .notMet,
                    "\(outcome.node) leads; \(from) is not a replica yet: walctl rejoin \(from) when it is there")
            }
            try await Task.sleep(for: .milliseconds(50))
        }
    }
}
