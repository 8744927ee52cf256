import WALCapture
import WALCatalog
import WALFormat
import WALSystem

/// A node whose tree clients read and write. The calls may block: they are made on the threads of ``ClientSession``s.
protocol TreeService: ControlService {
    var folder: StateFolder { get }
    var catalog: Catalog { get }
    /// Returns when the node is as fresh as the client asks for; throws when it is not so in time.
    func admit(_ look: ReadRequest, seconds: Double) throws
    /// Called when what is read is open: the position holds all of it.
    func freshness(_ look: ReadRequest, seconds: Double) throws -> Freshness
    /// Throws where clients cannot write, with the address of the node where they can.
    func requireWritable() throws
    /// Throws where a client has seen a past that was given up, or a primary that this node does not know of.
    func requireSeen(_ position: String) throws
    func write(_ write: TreeWrite, seconds: Double) throws -> Position
    /// Throws, with the position, when so many replicas do not have it in time.
    func waitDurable(_ position: Position, count: Int, seconds: Double) throws
    /// A write that is in the log already.
    func position(of request: RequestID) throws -> Position?
    /// A folder for content that is on its way to the tree.
    func uploads() throws -> Directory
}

extension TreeService {
    func tree() throws -> any TreeService { self }
}

/// Waits, on a thread of our own, for what a task does.
func waitFor<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) throws -> Value {
    let done = Monitor<Result<Value, any Error>?>(nil)
    Task {
        let result: Result<Value, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        done.update { $0 = result }
    }
    let result: Result<Value, any Error>? = done.wait { $0 }
    return try result!.get()
}

func randomID() -> String {
    randomBytes(16).withUnsafeBytes { Digest(bytes: $0)! }.description
}
