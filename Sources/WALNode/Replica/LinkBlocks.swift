import WALApply
import WALFormat
import WALSystem
import WALWire

/// Blocks from the primary's tree over the connection that there is.
final class LinkBlocks: BlockSource {
    private let link: Link
    /// The sender sends everything unasked, in the order in which it is needed.
    private let isUnasked: Bool
    private let consumed: (UInt64) -> Void

    /// Blocks in one request: a window's worth is several requests, so that the next is under way while one is answered.
    private static let requestBlocks = 64

    init(link: Link, isUnasked: Bool, consumed: @escaping (UInt64) -> Void) {
        self.link = link
        self.isUnasked = isUnasked
        self.consumed = consumed
    }

    func fetch(_ requests: [BlockRequest], deliver: (BlockRequest, UnsafeRawBufferPointer?) throws -> Void) throws {
        var asked = 0
        var askedBytes = 0
        var answered = 0
        for request in requests {
            while !isUnasked, asked < requests.count, askedBytes < Limits.wantWindowBytes,
                asked - answered < Limits.maxWantBlocks
            {
                let part = requests[asked..<min(asked + Self.requestBlocks, requests.count)]
                link.send(.want(Array(part)))
                asked += part.count
                askedBytes += part.reduce(0) { $0 + Int($1.block.length) }
            }
            guard let answer = link.blocks.take(timeoutNanoseconds: SenderMachine.silenceNanoseconds * 4) else {
                throw ApplyError.interrupted
            }
            guard answer.object == request.object, answer.offset == request.offset else {
                link.connection.closeFromOutside(reason: "a block came that was not the next one wanted")
                throw ApplyError.interrupted
            }
            answered += 1
            askedBytes -= Int(request.block.length)
            consumed(UInt64(answer.bytes.count))
            if answer.isGone {
                try deliver(request, nil)
                continue
            }
            let bytes = try answer.raw()
            guard bytes.count == Int(request.block.length), Digest(of: bytes) == request.block.digest else {
                link.connection.closeFromOutside(reason: "a block came with another content than its digest says")
                throw ApplyError.interrupted
            }
            try bytes.withUnsafeBytes { try deliver(request, $0) }
        }
    }
}
