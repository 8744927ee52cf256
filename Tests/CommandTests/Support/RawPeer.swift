import Glibc

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
