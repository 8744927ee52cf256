import Synchronization
import WALSystem

/// Tells connections that the log has grown.
final class LogSignal: Sendable {
    private let listeners = Mutex<[ObjectIdentifier: @Sendable () -> Void]>([:])
    /// What keeps the log, or what follows from it, from being written.
    private let stall = Mutex<String?>(nil)
    let stopped = Monitor<Bool>(false)
    /// The first scan is done: before that there is no tree to list.
    let ready = Monitor<Bool>(false)

    var stalled: String? {
        get { stall.withLock { $0 } }
        set { stall.withLock { $0 = newValue } }
    }
    var isStalled: Bool { stalled != nil }

    /// False where it is stalled for that already.
    func stalls(_ text: String) -> Bool {
        stall.withLock { stall in
            defer { stall = text }
            return stall != text
        }
    }

    func listen(_ owner: AnyObject, _ body: @escaping @Sendable () -> Void) {
        listeners.withLock { $0[ObjectIdentifier(owner)] = body }
    }

    func remove(_ owner: AnyObject) {
        listeners.withLock { $0[ObjectIdentifier(owner)] = nil }
    }

    func advance() {
        for listener in listeners.withLock({ Array($0.values) }) { listener() }
    }
}
