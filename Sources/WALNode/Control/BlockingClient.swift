import WALFormat
import WALSystem

/// A control client for a thread of our own: asks, and waits for the answer.
final class BlockingClient {
    private let address: Address
    private var client: ControlClient?

    init(_ address: Address) {
        self.address = address
    }

    func ask(_ request: ControlRequest) throws -> ControlResponse {
        let client = try self.client ?? wait { [address] in try await ControlClient(address) }
        self.client = client
        return try wait { try await client.ask(request) }
    }

    func close() {
        guard let client = client.take() else { return }
        try? wait { await client.close() }
    }

    private func wait<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) throws -> Value {
        let outcome = Monitor<Result<Value, NodeError>?>(nil)
        Task {
            let result: Result<Value, NodeError>
            do { result = .success(try await body()) } catch { result = .failure(NodeError(error)) }
            outcome.update { $0 = result }
        }
        return try outcome.wait { $0 }!.get()
    }
}
