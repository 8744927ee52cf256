import WALFormat

/// A write as a client asks for it. Names are escaped (``PathText``), so that every byte string can be said in JSON.
package struct WriteRequest: Codable, Sendable {
    package enum Operation: String, Codable, Sendable {
        case put, rm, mv, mkdir, rmdir, chmod, ln
    }

    package var operation: Operation
    package var path: String
    /// 32 hexadecimal digits that the client draws. The same write sent again has the same.
    package var requestId: String
    /// `mv`: the new path.
    package var to: String?
    /// `put`, `mkdir`, `chmod`.
    package var mode: UInt16?
    /// `put`: `SECONDS` or `SECONDS.NANOSECONDS` since 1970.
    package var mtime: String?
    /// `put`: only where nothing is.
    package var create: Bool?
    /// `put`, `mkdir`: with the directories above.
    package var parents: Bool?
    /// `rm`.
    package var recursive: Bool?
    /// `mv`.
    package var noReplace: Bool?
    /// `ln`: of the symlink, escaped.
    package var target: String?
    /// How many replicas must have it on their disks before the answer.
    package var durable: Int?
    /// A position, as typed, that the client has seen: where it is not on the history any more, nothing is written.
    package var after: String?

    package init(_ operation: Operation, path: String) {
        self.operation = operation
        self.path = path
        requestId = randomID()
    }
}

/// What to look at, and how fresh the node that answers must be.
package struct ReadRequest: Codable, Sendable {
    package var path: String
    /// A replica that cannot say that it was current so many seconds ago refuses.
    package var maxStaleSeconds: Double?
    /// A position, as typed, that must be applied.
    package var after: String?
    /// Only of the primary.
    package var primary: Bool?
    /// The answer's position must hold all that was read, for whoever gives it as `after` to another node.
    package var wantsPosition: Bool?

    package init(path: String) {
        self.path = path
    }
}

/// How much of the history an answer shows. What is not known is null.
package struct Freshness: Codable, Hashable, Sendable {
    package var node: String
    package var role: String
    /// What was read is no newer than this. On a primary it is found out only where that is asked for.
    package var position: PositionStatus?
    /// Seconds since the node knew that it had all that its primary had logged.
    package var staleSeconds: Double?
    /// It is not connected, or has not known that for long.
    package var isStale: Bool

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(node, forKey: .node)
        try container.encode(role, forKey: .role)
        try container.encode(position, forKey: .position)
        try container.encode(staleSeconds, forKey: .staleSeconds)
        try container.encode(isStale, forKey: .isStale)
    }

    /// One line for people.
    package var text: String {
        let stale = staleSeconds.map { "current \(Self.tenths($0)) s ago" } ?? "not known to be current"
        return "\(role) \(node)" + (position.map { " at \($0.text)" } ?? "") + ", "
            + (role == "primary" ? "current" : stale) + (isStale ? ", stale" : "")
    }

    private static func tenths(_ seconds: Double) -> String {
        let tenths = UInt64(min(max(0, seconds), 1e12) * 10)
        return "\(tenths / 10).\(tenths % 10)"
    }
}

/// An object of the tree, by one of its names.
package struct TreeEntry: Codable, Hashable, Sendable {
    /// Escaped: of a listing the name, else the path.
    package var name: String
    package var kind: String
    /// Bytes of a file or of a symlink's target; 0 for the rest.
    package var size: UInt64
    /// Octal, with setuid, setgid and sticky.
    package var mode: String
    package var uid: UInt32
    package var gid: UInt32
    /// `SECONDS.NANOSECONDS` since 1970.
    package var mtime: String
    package var links: UInt32
    /// Of a symlink, escaped.
    package var target: String?

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(kind, forKey: .kind)
        try container.encode(size, forKey: .size)
        try container.encode(mode, forKey: .mode)
        try container.encode(uid, forKey: .uid)
        try container.encode(gid, forKey: .gid)
        try container.encode(mtime, forKey: .mtime)
        try container.encode(links, forKey: .links)
        try container.encode(target, forKey: .target)
    }
}

extension ControlRequest.Verb {
    /// Asked of the tree, by a client that may have many more such questions.
    var isOfSession: Bool {
        switch self {
        case .put, .commit, .write, .open, .read, .list, .next, .stat, .close: true
        case .status, .position, .mark, .resume, .wait, .verify, .segment, .holds, .forget: false
        case .promise, .promote, .follow, .fence, .rejoin, .drain, .undrain, .fit: false
        }
    }
}

extension Timestamp {
    /// `-12.000000034` is 12 s before 1970 and 34 ns after that.
    package var text: String {
        let digits = "\(nanoseconds)"
        return "\(seconds)." + String(repeating: "0", count: max(0, 9 - digits.count)) + digits
    }

    /// nil when it is not `SECONDS` or `SECONDS.FRACTION`.
    package init?(text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2, let seconds = Int64(parts[0]) else { return nil }
        var nanoseconds: UInt32 = 0
        if parts.count == 2 {
            guard (1...9).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
                return nil
            }
            nanoseconds = UInt32(parts[1] + String(repeating: "0", count: 9 - parts[1].utf8.count)) ?? 0
        }
        self.init(seconds: seconds, nanoseconds: nanoseconds)
    }
}
