/// A control client for a thread of our own: asks, and waits for the answer.
final class BlockingClient {
    private let address: Address
    private var client: ControlClient?

    init(_ address: Address) {
        self.address = address
    }

    func ask(_ request: ControlRequest) throws -> ControlResponse {
        let client =
            try self.client
            ?? waitFor { [address] in
                // Of what a node knows by heart; and who waits for this is not to hold up the end of the process.
                try await ControlClient(address, silence: 3)
            }
        self.client = client
        return try waitFor { try await client.ask(request) }
    }

    func close() {
        guard let client = client.take() else { return }
        try? waitFor { await client.close() }
    }
}
