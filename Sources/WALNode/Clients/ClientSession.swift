import WALFormat
import WALSystem
import WALWire

/// What one client does with the tree, over one connection: requests and content come from the event loop, one thread of
/// its own works on them in their order, and answers each. The thread begins with the first of them and ends with the
/// connection, and what the client had open ends with it.
final class ClientSession: Sendable {
    enum Job: Sendable {
        case request(ControlRequest)
        case content([UInt8])
    }

    private struct Output: Sendable {
        /// Given to the connection, and not yet sent.
        var bytes = 0
        var isOver = false
    }

    private let service: any ControlService
    private let connection: Connection
    private let jobs = BoundedQueue<Job>(maxCount: Limits.maxClientRequests, maxCost: Limits.clientWindowBytes)
    private let output = Monitor(Output())

    init(service: any ControlService, connection: Connection) {
        self.service = service
        self.connection = connection
        do {
            _ = try WorkerThread.start(name: "client", stackBytes: 4 << 20) { [self] in run() }
        } catch {
            connection.close(reason: "\(error)")
        }
    }

    /// On the event loop, which must not wait: who sends more than it was told to is closed.
    func put(_ job: Job) {
        var cost = 0
        if case .content(let bytes) = job { cost = bytes.count }
        if !jobs.putIfRoom(job, cost: cost) { connection.close(reason: "more was sent than this node has room for") }
    }

    func end() {
        jobs.cancel()
        output.update { $0.isOver = true }
    }

    private func run() {
        let worker = ClientWorker(service: service)
        while let job = jobs.take() {
            let answer: Message
            do {
                answer = try worker.answer(job)
            } catch {
                answer = Self.message(ControlResponse(error: error))
            }
            guard send(answer) else { break }
        }
        worker.end()
    }

    static func message(_ response: ControlResponse) -> Message {
        .response((try? ControlJSON.encode(response)) ?? [])
    }

    /// False when nobody takes it any more.
    private func send(_ message: Message) -> Bool {
        let frame = message.frame(epoch: service.epoch)
        let mayGoOn: Bool? = output.wait { output in
            if output.isOver { return false }
            guard output.bytes < Limits.clientWindowBytes else { return nil }
            output.bytes += frame.count
            return true
        }
        guard mayGoOn == true else { return false }
        let output = output
        connection.write(frame) { output.update { $0.bytes -= frame.count } }
        return true
    }
}
