import WALFormat

/// `HOST:PORT` or `HOST`, an IPv6 address in brackets when a port follows it.
package struct Address: Hashable, Sendable, CustomStringConvertible {
    package static let defaultPort = 7420

    package var host: String
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    package init(_ text: String) throws(FormatError) {
        let what = "address HOST:PORT"
        if text.hasPrefix("[") {
            let parts = text.dropFirst().split(separator: "]", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty else { throw .text(what: what, text) }
            host = String(parts[0])
            if parts[1].isEmpty {
                port = Self.defaultPort
            } else {
                guard parts[1].hasPrefix(":"), let number = Self.port(parts[1].dropFirst()) else {
                    throw .text(what: what, text)
                }
                port = number
            }
            return
        }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count <= 2, let first = parts.first, !first.isEmpty, !text.contains("/"), !text.contains(" ") else {
            throw .text(what: what, text)
        }
        host = String(first)
        guard parts.count == 2 else {
            port = Self.defaultPort
            return
        }
        guard let number = Self.port(parts[1]) else { throw .text(what: what, text) }
        port = number
    }

    private static func port(_ text: Substring) -> Int? {
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = Int(text), port <= 65_535 else {
            return nil
        }
        return port
    }

    /// Listened on it is every address of the host, and nobody can dial it.
    package var isWildcard: Bool { host == "0.0.0.0" || host == "::" }

    package var isLoopback: Bool {
        host == "localhost" || host == "::1" || host.hasPrefix("127.")
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
