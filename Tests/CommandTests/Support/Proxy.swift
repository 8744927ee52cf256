import Glibc
import WALSystem

/// TCP between a daemon and its peer, on loopback: counts what goes through and can be cut.
final class Proxy: Sendable {
    private struct State: Sendable {
        var pairs: [Ends] = []
        var isOpen = true
        var isStopped = false
        /// Bytes from the far side to the one that dialled, and back.
        var down: UInt64 = 0
        var up: UInt64 = 0
        /// Cuts everything when `down` reaches it.
        var limit: UInt64?
        var staysOpen = false
        /// Microseconds that each piece is held back on its way down, at most.
        var delay: UInt32 = 0
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

    /// From now on the far side is heard of later, each time by another while.
    func delay(upToMicroseconds: UInt32) {
        state.update { $0.delay = upToMicroseconds }
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
            let ends = Ends(near: near, far: far)
            let isIn = state.withLock { state in
                if state.isOpen { state.pairs.append(ends) }
                return state.isOpen
            }
            // Each direction has a thread.
            if !isIn || !start(ends, isDown: true) || !start(ends, isDown: false) { ends.shut() }
        }
    }

    private func start(_ ends: Ends, isDown: Bool) -> Bool {
        (try? WorkerThread.start(name: "proxy") { [self] in pump(ends, isDown: isDown) }) != nil
    }

    private func pump(_ ends: Ends, isDown: Bool) {
        let (from, to) = isDown ? (ends.far, ends.near) : (ends.near, ends.far)
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = read(from, &buffer, buffer.count)
            guard count > 0 else { break }
            let delay = isDown ? state.withLock { $0.delay } : 0
            if delay > 0 { usleep(UInt32.random(in: 0...delay)) }
            let mayGo = state.update { state in
                if isDown { state.down += UInt64(count) } else { state.up += UInt64(count) }
                guard isDown, let limit = state.limit, state.down >= limit else { return true }
                state.limit = nil
                state.isOpen = state.staysOpen
                shut(&state)
                return false
            }
            guard mayGo, Socket.sendAll(to, buffer[..<count]) else { break }
        }
        ends.shut()
        state.update { state in state.pairs.removeAll { $0 === ends } }
    }

    /// Both descriptors of a connection, closed when neither direction uses them any more.
    private final class Ends: Sendable {
        let near: Int32
        let far: Int32

        init(near: Int32, far: Int32) {
            self.near = near
            self.far = far
        }

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

/// A connection that says what a test wants it to say.
final class RawPeer {
    private var descriptor: Int32

    init(port: Int) throws {
        descriptor = try Socket.connected(port: port)
    }

    /// False when the other side has closed.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        Socket.sendAll(descriptor, bytes[...])
    }

    /// Whether the other side has ended the connection.
    var isClosed: Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if count > 0 { continue }
            return count == 0 || errno != EAGAIN
        }
    }

    func close() {
        guard descriptor >= 0 else { return }
        shutdown(descriptor, Int32(SHUT_RDWR))
        Glibc.close(descriptor)
        descriptor = -1
    }
}

/// Loopback sockets that no child inherits.
enum Socket {
    private static func make() throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failed("socket: \(String(cString: strerror(errno)))") }
        return descriptor
    }

    private static func withAddress<Result>(
        port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }

    static func listening(port: Int) throws -> (descriptor: Int32, port: Int) {
        let descriptor = try make()
        guard withAddress(port: port, { bind(descriptor, $0, $1) }) == 0, listen(descriptor, 64) == 0 else {
            close(descriptor)
            throw Failed("listen: \(String(cString: strerror(errno)))")
        }
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            _ = $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        return (descriptor, Int(in_port_t(bigEndian: address.sin_port)))
    }

    static func connected(port: Int) throws -> Int32 {
        let descriptor = try make()
        guard withAddress(port: port, { connect(descriptor, $0, $1) }) == 0 else {
            close(descriptor)
            throw Failed("connect: \(String(cString: strerror(errno)))")
        }
        return descriptor
    }

    static func sendAll(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
        var rest = bytes
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}
