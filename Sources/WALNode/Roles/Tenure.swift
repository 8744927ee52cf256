/// The right to be primary for an epoch: what grants it, renews it and takes it away.
///
/// Safety is the epoch's alone: replicas that have promised a higher one hear of no lower, whatever a tenure says. A tenure
/// is for liveness: when to step down before anybody has to be asked.
protocol Tenure: Sendable {
    /// Returns when the right for this epoch is granted. Nothing is captured before.
    func begin(epoch: UInt64) async throws
    /// Returns when the right is gone, with what is known of who has it then; renews it until then.
    func ended(epoch: UInt64) async -> RoleChange?
}

/// Granted by `walctl promote`, and held until another node is promoted: the fence takes it away.
struct OperatorTenure: Tenure {
    func begin(epoch: UInt64) async throws {}

    func ended(epoch: UInt64) async -> RoleChange? {
        // For ever, or until the role ends.
        try? await Task.sleep(for: .seconds(Int64.max / 4))
        return nil
    }
}
