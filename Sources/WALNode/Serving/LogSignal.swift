import Synchronization
import WALSystem

/// Tells connections that the log has grown.
final class LogSignal: Sendable {
    private let listeners = Mutex<[ObjectIdentifier: @Sendable () -> Void]>([:])
    private let stalled = Atomic<Bool>(false)
    let stopped = Monitor<Bool>(false)
    /// The first scan is done: before that there is no tree to list.
    let ready = Monitor<Bool>(false)

    var isStalled: Bool {
        get { stalled.load(ordering: .relaxed) }
        set { stalled.store(newValue, ordering: .relaxed) }
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
