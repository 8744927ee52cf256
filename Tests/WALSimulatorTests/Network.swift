import WALFormat
import WALTestKit
import WALWire

/// Places are numbered: those of the nodes, and behind them the one where the operator sits.
///
/// Fault model: TCP. On one connection bytes come in order, each once and unchanged, in chunks of any size; connections
/// overtake each other. From a place to another nothing may come for a while, in one direction or in both: what was
/// sent waits, and comes when the way is open again. A connection is cut behind any byte: each end is told, or finds
/// out by itself.
final class Network {
    unowned let world: World
    private var blocked: Set<[Int]> = []
    private var connections: [Connection] = []

    init(world: World) {
        self.world = world
    }

    func isBlocked(from: Int, to: Int) -> Bool { blocked.contains([from, to]) }

    func block(from: Int, to: Int) { blocked.insert([from, to]) }

    func end() { connections = [] }

    func heal() throws {
        blocked.removeAll()
        connections.removeAll { $0.isOver }
        for connection in connections { for end in connection.ends { try end.pump() } }
    }

    func latency() -> UInt64 {
        let slowest = world.options.slowestMilliseconds * (world.random.once(in: 200) ? 10 : 1)
        return UInt64(world.random.int(in: 50_000...(slowest * 1_000_000)))
    }

    /// Both ends, or nil where nobody is reached, a latency later.
    func connect(from: Node, to: Node, _ done: @escaping ((Connection.End, Connection.End)?) throws -> Void) {
        world.after(latency() + latency()) { [self] in
            let isReached = to.isUp && !isBlocked(from: from.place, to: to.place)
            guard isReached, !isBlocked(from: to.place, to: from.place) else { return try done(nil) }
            let connection = Connection(self, from.place, to.place)
            connections.removeAll { $0.isOver }
            connections.append(connection)
            try done((connection.ends[0], connection.ends[1]))
        }
    }

    /// A question to a node over a connection of its own. `done` gets nil where no answer came in time.
    func ask<Answer>(
        from: Int, _ node: Node, seconds: Int = 3,
        _ question: @escaping (Node, @escaping (Answer?) -> Void) throws -> Void,
        done: @escaping (Answer?) throws -> Void
    ) {
        let state = Question(done)
        world.after(.seconds(seconds)) { try state.finish(nil) }
        world.after(latency()) { [self] in
            guard node.isUp, !isBlocked(from: from, to: node.place) else { return }
            try question(node) { [self] answer in
                world.after(latency()) { [self] in
                    guard !isBlocked(from: node.place, to: from) else { return }
                    try state.finish(answer)
                }
            }
        }
    }

    private final class Question<Answer> {
        private var done: ((Answer?) throws -> Void)?

        init(_ done: @escaping (Answer?) throws -> Void) { self.done = done }

        func finish(_ answer: Answer?) throws {
            guard let done else { return }
            self.done = nil
            try done(answer)
        }
    }

    /// One that is open is cut.
    func cutOne() {
        connections.removeAll { $0.isOver }
        connections.randomElement(using: &world.random)?.cut()
    }

    func crashed(_ place: Int, isSilent: Bool) {
        for connection in connections where connection.ends.contains(where: { $0.place == place }) {
            connection.crashed(place, isSilent: isSilent)
        }
    }
}

/// What an end of a connection is used by.
protocol ConnectionUser: AnyObject {
    func received(_ bytes: [UInt8]) throws
    /// More can be sent.
    func writable() throws
    func closed() throws
    func tick() throws
}

extension ConnectionUser {
    func writable() throws {}
}

final class Connection {
    final class End {
        fileprivate unowned let connection: Connection
        let place: Int
        fileprivate var isFirst: Bool
        fileprivate(set) var isOpen = true
        private(set) var user: (any ConnectionUser)?
        /// On their way to the other end; nil is the end of it.
        private var chunks: [(due: UInt64, bytes: [UInt8]?)] = []
        private var lastDue: UInt64 = 0
        /// What is sent from now on arrives nowhere.
        private var isCut = false

        fileprivate init(_ connection: Connection, _ place: Int, isFirst: Bool) {
            self.connection = connection
            self.place = place
            self.isFirst = isFirst
        }

        private var world: World { connection.network.world }
        private var other: End { connection.ends[isFirst ? 1 : 0] }
        /// Bytes that wait to be taken by the other end.
        var unsentBytes: Int { chunks.reduce(0) { $0 + ($1.bytes?.count ?? 0) } }

        fileprivate var isDrained: Bool { chunks.isEmpty }

        func begin(_ user: any ConnectionUser) {
            self.user = user
            world.after(UInt64(world.random.int(in: 1...1_000_000_000)), tick)
        }

        private func tick() throws {
            guard isOpen, let user else { return }
            try user.tick()
            world.after(.seconds(1), tick)
        }

        func send(_ bytes: [UInt8]) {
            guard isOpen, !isCut else { return }
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = world.random.once(in: 3) ? world.random.int(in: 1...rest.count) : rest.count
                put(Array(rest.prefix(count)))
                rest = rest.dropFirst(count)
            }
        }

        /// What was sent still arrives.
        func close() throws {
            guard isOpen else { return }
            isOpen = false
            if !isCut { put(nil) }
            let user = user
            self.user = nil
            try user?.closed()
        }

        private func put(_ bytes: [UInt8]?) {
            lastDue = max(lastDue, world.now + connection.network.latency())
            chunks.append((lastDue, bytes))
            world.after(lastDue - world.now) { [self] in try pump() }
        }

        fileprivate func pump() throws {
            while let first = chunks.first, first.due <= world.now {
                guard !connection.network.isBlocked(from: place, to: other.place) else { return }
                chunks.removeFirst()
                guard other.isOpen else { continue }
                if let bytes = first.bytes {
                    try other.user?.received(bytes)
                    try user?.writable()
                } else {
                    try other.close()
                }
            }
        }

        /// A part of what is on its way arrives, and then the end of it, unless nobody is told.
        fileprivate func cut(isSilent: Bool) {
            guard !isCut else { return }
            isCut = true
            let kept = world.random.int(in: 0...chunks.count)
            var last = kept < chunks.count ? chunks[kept].bytes ?? [] : []
            chunks.removeLast(chunks.count - kept)
            last.removeLast(world.random.int(in: 0...last.count))
            if !last.isEmpty { put(last) }
            if !isSilent { put(nil) }
        }

        fileprivate func crash(isSilent: Bool) {
            cut(isSilent: isSilent)
            isOpen = false
            user = nil
        }
    }

    fileprivate unowned let network: Network
    fileprivate(set) var ends: [End] = []

    fileprivate init(_ network: Network, _ a: Int, _ b: Int) {
        self.network = network
        ends = [End(self, a, isFirst: true), End(self, b, isFirst: false)]
    }

    fileprivate var isOver: Bool { !ends[0].isOpen && !ends[1].isOpen && ends.allSatisfy(\.isDrained) }

    fileprivate func cut() {
        for end in ends { end.cut(isSilent: network.world.random.once(in: 3)) }
    }

    fileprivate func crashed(_ place: Int, isSilent: Bool) {
        for end in ends where end.place == place { end.crash(isSilent: isSilent) }
    }
}

/// Frames from chunks of bytes.
struct FrameReader {
    private var bytes: [UInt8] = []
    private var isFirst = true

    mutating func take(_ more: [UInt8]) { bytes += more }

    mutating func next() throws(FormatError) -> (message: Message, epoch: UInt64)? {
        guard bytes.count >= FrameHeader.byteCount else { return nil }
        let isFirst = isFirst
        let header = try bytes.withBytes { all throws(FormatError) in try FrameHeader(decoding: all, isFirst: isFirst) }
        let end = FrameHeader.byteCount + Int(header.length)
        guard bytes.count >= end else { return nil }
        let message = try bytes.withBytes { all throws(FormatError) in
            try Message(header, payload: UnsafeRawBufferPointer(rebasing: all[FrameHeader.byteCount..<end]))
        }
        bytes.removeFirst(end)
        self.isFirst = false
        return (message, header.epoch)
    }
}
