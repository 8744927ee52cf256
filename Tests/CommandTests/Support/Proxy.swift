import Glibc
import WALSystem
import WALTestKit

/// TCP between a daemon and its peer, on loopback: counts what goes through, can be cut, and can be as bad as a line may be.
final class Proxy: Sendable {
    enum Direction: Sendable, CaseIterable {
        /// From the far side to the one that dialled.
        case down
        case up
    }

    /// What happens to the bytes of one direction.
    struct Weather: Sendable {
        /// Bytes in one write at most.
        var pieceBytes = 64 << 10
        /// Microseconds that each piece is held back, at most.
        var delay: UInt32 = 0
        /// One piece in so many arrives twice, or after the one that follows it, or with one bit changed. 0: none.
        var duplicates = 0
        var reorders = 0
        var flips = 0

        /// TCP as it promises to be.
        static let fair = Weather()

        var isFoul: Bool { duplicates > 0 || reorders > 0 || flips > 0 }
    }

    private struct State: Sendable {
        var pairs: [Ends] = []
        var isOpen = true
        var isStopped = false
        var down: UInt64 = 0
        var up: UInt64 = 0
        /// Cuts everything when `down` reaches it.
        var limit: UInt64?
        var staysOpen = false
        /// Where the next connection is cut, in bytes of one direction.
        var nextCut: (direction: Direction, bytes: Int)?
        /// Connections that were cut there.
        var cuts = 0
        var connections = 0
        /// Pieces that were changed, doubled or held back.
        var harms = 0
        var weather: [Direction: Weather] = [:]
        var random = SeededRandom(seed: 1)
    }

    let port: Int
    private let target: Int
    private let listener: Int32
    private let state = Monitor(State())

    /// Dials `target` for whoever dials ``port``.
    init(to target: Int) throws {
        let socket = try Socket.listening(port: 0)
        listener = socket.descriptor
        port = socket.port
        self.target = target
        _ = try WorkerThread.start(name: "proxy") { [self] in accept() }
    }

    var address: String { "127.0.0.1:\(port)" }
    var down: UInt64 { state.withLock { $0.down } }
    var up: UInt64 { state.withLock { $0.up } }

    func resetCounts() {
        state.withLock {
            $0.down = 0
            $0.up = 0
        }
    }

    /// Ends every connection in the middle of whatever goes through, and lets nobody in until ``open()``.
    func cut() {
        state.update { state in
            state.isOpen = false
            shut(&state)
        }
    }

    func open() {
        state.update { $0.isOpen = true }
    }

    /// Cuts when so many more bytes have come down; where it stays open, the next connection goes through.
    func cut(afterDown bytes: UInt64, staysOpen: Bool = false) {
        state.update { state in
            state.limit = state.down + bytes
            state.staysOpen = staysOpen
        }
    }

    /// Waits until the limit of ``cut(afterDown:)`` has cut.
    func waitForCut() throws {
        try until("cut of the proxy") { state.withLock { !$0.isOpen } }
    }

    /// The next connection ends when exactly so many bytes have arrived in one direction.
    func cutNext(_ direction: Direction, after bytes: Int) {
        state.update { $0.nextCut = (direction, bytes) }
    }

    /// Connections that ``cutNext(_:after:)`` has ended.
    var cuts: Int { state.withLock { $0.cuts } }

    /// Connections that have come through so far.
    var connections: Int { state.withLock { $0.connections } }
    /// Pieces so far that did not arrive as they were sent.
    var harms: Int { state.withLock { $0.harms } }

    func setWeather(_ weather: Weather, _ directions: [Direction] = Direction.allCases, seed: UInt64 = 1) {
        state.update { state in
            for direction in directions { state.weather[direction] = weather }
            state.random = SeededRandom(seed: seed)
        }
    }

    /// From now on nothing arrives in these directions on the connections that there are, and nobody is told: the other
    /// end is gone, or a firewall has forgotten it. Those that come later are sound.
    func swallow(_ directions: [Direction]) {
        state.withLock { state in
            for ends in state.pairs { ends.swallow(directions) }
        }
    }

    func stop() {
        state.update { state in
            state.isOpen = false
            state.isStopped = true
            shut(&state)
        }
        shutdown(listener, Int32(SHUT_RDWR))
    }

    private func shut(_ state: inout State) {
        for ends in state.pairs { ends.shut() }
        state.pairs.removeAll()
    }

    private func accept() {
        while true {
            let near = Glibc.accept(listener, nil, nil)
            if state.withLock({ $0.isStopped }) || near < 0 {
                close(near)
                close(listener)
                return
            }
            _ = fcntl(near, F_SETFD, FD_CLOEXEC)
            guard state.withLock({ $0.isOpen }), let far = try? Socket.connected(port: target) else {
                close(near)
                continue
            }
            for end in [near, far] { Socket.setNoDelay(end) }
            let ends = Ends(near: near, far: far)
            let (isIn, cut) = state.update { state in
                defer { state.nextCut = nil }
                if state.isOpen {
                    state.pairs.append(ends)
                    state.connections += 1
                }
                return (state.isOpen, state.nextCut)
            }
            // Each direction has a thread.
            let isRunning = Direction.allCases.allSatisfy { direction in
                start(ends, direction, cutAfter: cut.flatMap { $0.direction == direction ? $0.bytes : nil })
            }
            if !isIn || !isRunning { ends.shut() }
        }
    }

    private func start(_ ends: Ends, _ direction: Direction, cutAfter cut: Int?) -> Bool {
        (try? WorkerThread.start(name: "proxy") { [self] in pump(ends, direction, cutAfter: cut) }) != nil
    }

    private func pump(_ ends: Ends, _ direction: Direction, cutAfter cut: Int?) {
        let (from, to) = direction == .down ? (ends.far, ends.near) : (ends.near, ends.far)
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var arrived = 0
        var late: [UInt8] = []
        while arrived < cut ?? .max {
            let weather = state.withLock { $0.weather[direction] ?? .fair }
            let most = min(weather.pieceBytes, (cut ?? .max) - arrived, buffer.count)
            let count = read(from, &buffer, most)
            guard count > 0 else { break }
            arrived += count
            if weather.delay > 0 { usleep(UInt32.random(in: 0...weather.delay)) }
            let mayGo = state.update { state in
                if direction == .down { state.down += UInt64(count) } else { state.up += UInt64(count) }
                guard direction == .down, let limit = state.limit, state.down >= limit else { return true }
                state.limit = nil
                state.isOpen = state.staysOpen
                shut(&state)
                return false
            }
            guard mayGo else { break }
            if ends.swallows(direction) { continue }
            guard weather.isFoul || !late.isEmpty else {
                guard Socket.sendAll(to, buffer[..<count]) else { break }
                continue
            }
            guard Socket.sendAll(to, blown(Array(buffer[..<count]), by: weather, &late)[...]) else { break }
        }
        if let cut, arrived == cut { state.update { $0.cuts += 1 } }
        ends.shut()
        state.update { state in state.pairs.removeAll { $0 === ends } }
    }

    /// What arrives of a piece, and of the one that is `late` since the piece before it.
    private func blown(_ piece: [UInt8], by weather: Weather, _ late: inout [UInt8]) -> [UInt8] {
        state.update { state in
            func happens(_ chance: Int) -> Bool {
                guard chance > 0, state.random.once(in: chance) else { return false }
                state.harms += 1
                return true
            }
            var piece = piece
            if happens(weather.flips) {
                piece[state.random.int(in: 0..<piece.count)] ^= 1 << UInt8(state.random.int(in: 0..<8))
            }
            if happens(weather.duplicates) { piece += piece }
            if late.isEmpty, happens(weather.reorders) {
                late = piece
                return []
            }
            defer { late = [] }
            return piece + late
        }
    }

    /// Both descriptors of a connection, closed when neither direction uses them any more.
    private final class Ends: Sendable {
        let near: Int32
        let far: Int32
        private let swallowed = Monitor<[Direction]>([])

        init(near: Int32, far: Int32) {
            self.near = near
            self.far = far
        }

        func swallow(_ directions: [Direction]) { swallowed.update { $0 += directions } }
        func swallows(_ direction: Direction) -> Bool { swallowed.withLock { $0.contains(direction) } }

        func shut() {
            shutdown(near, Int32(SHUT_RDWR))
            shutdown(far, Int32(SHUT_RDWR))
        }

        deinit {
            close(near)
            close(far)
        }
    }
}
