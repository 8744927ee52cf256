import Foundation
import Synchronization
import WALFormat
import WALSystem
import WALWire

/// What the primary knows of each replica by name, connected or not. The durable positions are its slots: the log is kept
/// for them, within the budget.
final class ReplicaRegistry: Sendable {
    /// What a replica says that it has written since it started.
    struct Disk: Sendable {
        var writtenBytes: UInt64
        var copiedBytes: UInt64
        var loggedBytes: UInt64

        init(_ ack: Ack) {
            writtenBytes = ack.writtenBytes
            copiedBytes = ack.copiedBytes
            loggedBytes = ack.loggedBytes
        }
    }

    struct Entry: Sendable {
        var address: String
        /// Where it says that others reach it; empty where nobody does.
        var reachable = ""
        var state: String
        var sent: UInt64?
        var received: UInt64?
        var durable: UInt64?
        var applied: UInt64?
        /// Monotonic nanoseconds; nil before the first contact of this run.
        var lastContact: UInt64?
        /// Which connection speaks for it now.
        var owner: ObjectIdentifier?
        var isLost = false
        /// This node dialled it.
        var isDialled = false
        var traffic = TrafficSum()
        /// nil before the first acknowledgement of this run.
        var disk: Disk?
        /// See ``Ack/groupTag``; of this run.
        var groupTag: UInt64 = 0
    }

    /// What of a replica is waited for.
    enum Mark: Sendable {
        case durable, applied
    }

    private struct Waiter: Sendable {
        var seq: UInt64
        var mark: Mark
        var count: Int
        var isDialledOnly: Bool
        var done: @Sendable (Int) -> Void
    }

    private struct State: Sendable {
        var entries: [String: Entry] = [:]
        var waiters: [UInt64: Waiter] = [:]
        var nextWaiter: UInt64 = 0
        var isDirty = false
        /// Whose durable segments are waited for; nil for everybody's.
        var voters: Set<String>?
        /// Also those of an earlier primary that have not come yet.
        var names: Set<String> { Set(entries.keys).union(voters ?? []) }
    }

    private struct Slot: Codable {
        var durable: UInt64
        var applied: UInt64
        var address: String
        var reachable: String?
    }

    private static let fileName = Name("slots.json")
    private let state: Mutex<State>
    private let folder: Directory

    init(folder: Directory) throws {
        self.folder = folder
        var loaded = State()
        do throws(SystemError) {
            let bytes = try readWholeFile(in: folder, Self.fileName, limit: 16 << 20)
            // A slot only delays pruning, so a damaged file costs a reconcile and is no reason not to start.
            for (name, slot) in (try? JSONDecoder().decode([String: Slot].self, from: Data(bytes))) ?? [:] {
                loaded.entries[name] = Entry(
                    address: slot.address, reachable: slot.reachable ?? "", state: "disconnected",
                    durable: slot.durable, applied: slot.applied)
            }
        } catch {
            if !error.isNotFound { throw error }
        }
        state = Mutex(loaded)
    }

    /// Positions of another time as a primary are of a past that may not be this one's.
    static func forget(in folder: Directory) throws(SystemError) {
        do throws(SystemError) {
            try folder.unlink(fileName)
        } catch {
            if !error.isNotFound { throw error }
        }
    }

    /// Writes the slots if they changed. Losing the last few seconds of them keeps the log longer, never shorter.
    func save() throws {
        let slots: [String: Slot]? = state.withLock { state in
            guard state.isDirty else { return nil }
            state.isDirty = false
            return state.entries.compactMapValues { entry in
                entry.durable.map {
                    Slot(
                        durable: $0, applied: entry.applied ?? 0, address: entry.address, reachable: entry.reachable)
                }
            }
        }
        guard let slots else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try durableReplace(in: folder, Self.fileName, Array(try encoder.encode(slots)))
    }

    /// False when a living connection of the same name has spoken lately: two replicas with one name would share a slot.
    func connect(
        _ hello: Hello, address: String, isDialled: Bool, traffic: Traffic, owner: AnyObject
    ) -> Bool {
        let now = Clock.monotonicNanoseconds()
        return state.withLock { state in
            if let known = state.entries[hello.node], known.owner != nil, let last = known.lastContact,
                now.elapsed(since: last) < SenderMachine.heartbeatNanoseconds * 2
            {
                return false
            }
            var entry = state.entries[hello.node] ?? Entry(address: address, state: "connecting")
            entry.address = address
            entry.reachable = hello.address
            // One that began anew has not what another of its name had.
            entry.durable = entry.durable.map { min($0, hello.position.seq) }
            entry.state = "connecting"
            entry.lastContact = now
            entry.owner = ObjectIdentifier(owner)
            entry.isLost = false
            entry.isDialled = isDialled
            entry.sent = nil
            entry.groupTag = 0
            entry.traffic.begin(traffic)
            state.entries[hello.node] = entry
            return true
        }
    }

    func update(_ name: String, owner: AnyObject, _ body: (inout Entry) -> Void) {
        let met: [(@Sendable (Int) -> Void, Int)] = state.withLock { state in
            guard var entry = state.entries[name], entry.owner == ObjectIdentifier(owner) else { return [] }
            let durable = entry.durable
            body(&entry)
            entry.lastContact = Clock.monotonicNanoseconds()
            if durable != entry.durable { state.isDirty = true }
            state.entries[name] = entry
            return takeMet(&state)
        }
        for (done, count) in met { done(count) }
    }

    func disconnect(_ name: String, traffic: Traffic, owner: AnyObject) {
        state.withLock { state in
            state.entries[name]?.traffic.end(traffic)
            guard state.entries[name]?.owner == ObjectIdentifier(owner) else { return }
            state.entries[name]!.owner = nil
            state.entries[name]!.state = "disconnected"
            state.isDirty = true
        }
    }

    private func takeMet(_ state: inout State) -> [(@Sendable (Int) -> Void, Int)] {
        var met: [(@Sendable (Int) -> Void, Int)] = []
        for (id, waiter) in state.waiters {
            let count = Self.count(state, waiter)
            guard count >= waiter.count else { continue }
            state.waiters[id] = nil
            met.append((waiter.done, count))
        }
        return met
    }

    private static func count(_ state: State, _ waiter: Waiter) -> Int {
        state.entries.count { name, entry in
            guard entry.isDialled || !waiter.isDialledOnly, !entry.isLost else { return false }
            return switch waiter.mark {
            // Whether it is connected now says nothing of its disk.
            case .durable: (entry.durable ?? 0) >= waiter.seq && state.voters?.contains(name) ?? true
            case .applied: (entry.applied ?? 0) >= waiter.seq && entry.state == "streaming"
            }
        }
    }

    /// Calls `done` once when `count` replicas have applied `seq`, or made it durable, at once if they have. The number can be cancelled.
    /// Of replicas that dialled this node there may be any number; `isDialledOnly` leaves them out.
    func wait(
        for seq: UInt64, _ mark: Mark = .applied, count: Int, isDialledOnly: Bool = false,
        done: @escaping @Sendable (Int) -> Void
    ) -> UInt64 {
        let (id, met) = state.withLock { state in
            state.nextWaiter += 1
            let id = state.nextWaiter
            state.waiters[id] = Waiter(seq: seq, mark: mark, count: count, isDialledOnly: isDialledOnly, done: done)
            return (id, takeMet(&state))
        }
        for (done, count) in met { done(count) }
        return id
    }

    /// How many have it now; nil when the wait is over already.
    func cancel(_ waiter: UInt64) -> Int? {
        state.withLock { state in
            guard let waiting = state.waiters.removeValue(forKey: waiter) else { return nil }
            return Self.count(state, waiting)
        }
    }

    /// Only these count where something is to be durable.
    func setVoters(_ names: [String]) {
        let met = state.withLock { state in
            state.voters = Set(names)
            return takeMet(&state)
        }
        for (done, count) in met { done(count) }
    }

    /// How many of these have noted the group of that tag in this run.
    func count(of names: [String], noted tag: UInt64) -> Int {
        state.withLock { state in names.count { state.entries[$0]?.groupTag == tag } }
    }

    func count(of names: [String], durable seq: UInt64) -> Int {
        state.withLock { state in names.count { state.entries[$0]?.durable ?? 0 >= seq } }
    }

    /// False when there is none of that name.
    func forget(_ name: String) -> Bool {
        state.withLock { state in
            state.isDirty = true
            return state.entries.removeValue(forKey: name) != nil
        }
    }

    /// Names of those that have not made `seq` durable.
    func lacking(_ seq: UInt64) -> String {
        let names = state.withLock { state in
            state.names.filter { (state.entries[$0]?.durable ?? 0) < seq }.sorted()
        }
        return names.isEmpty ? "no other replica is known" : names.joined(separator: ", ")
    }

    /// What a status says while fewer replicas than must are there; nil while there are enough.
    func degraded(needing count: Int) -> String? {
        let (connected, missing) = state.withLock { state in
            let connected = state.entries.filter {
                $0.value.state == "streaming" && state.voters?.contains($0.key) ?? true
            }
            return (connected.count, state.names.filter { connected[$0] == nil }.sorted())
        }
        guard connected < count else { return nil }
        let names = missing.isEmpty ? "" : "; missing: \(missing.joined(separator: ", "))"
        return "DEGRADED: \(connected) of \(count) replicas that must make changes durable are connected\(names)"
    }

    func slots() -> [UInt64] {
        state.withLock { $0.entries.values.compactMap { $0.isLost ? nil : $0.durable } }
    }

    func markLost(below base: UInt64) -> [String] {
        state.withLock { state in
            var lost: [String] = []
            for (name, entry) in state.entries where !entry.isLost && (entry.durable ?? .max) < base {
                state.entries[name]!.isLost = true
                lost.append(name)
            }
            return lost
        }
    }

    var entries: [String: Entry] { state.withLock { $0.entries } }
}
