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
    private var wants = WantQueue()

    init(link: Link, isUnasked: Bool, consumed: @escaping (UInt64) -> Void) {
        self.link = link
        self.isUnasked = isUnasked
        self.consumed = consumed
    }

    var canExpect: Bool { !isUnasked && wants.hasRoom }

    func expect(_ requests: [BlockRequest]) {
        wants.expect(Self.distinct(requests).firsts)
        ask()
    }

    /// A block comes once for a file, however often that holds it: a disk image, say, has many that are all zeros.
    private static func distinct(
        _ requests: [BlockRequest]
    ) -> (firsts: [BlockRequest], again: [ContentBlock: [BlockRequest]]) {
        var seen: Set<ContentBlock> = []
        var firsts: [BlockRequest] = []
        var again: [ContentBlock: [BlockRequest]] = [:]
        firsts.reserveCapacity(requests.count)
        for request in requests {
            if seen.insert(request.block).inserted {
                firsts.append(request)
            } else {
                again[request.block, default: []].append(request)
            }
        }
        return (firsts, again)
    }

    func forgetExpected() throws {
        for _ in 0..<wants.forget() { try throwAway() }
    }

    func fetch(_ all: [BlockRequest], deliver: (BlockRequest, UnsafeRawBufferPointer?) throws -> Void) throws {
        let (requests, again) = isUnasked ? (all, [:]) : Self.distinct(all)
        for (index, request) in requests.enumerated() {
            // The same block, perhaps of a place that is held already.
            var asked = request
            if !isUnasked {
                for _ in 0..<wants.skip(to: request, orAsk: requests[index...]) { try throwAway() }
                ask()
                asked = wants.takeAsked() ?? request
            }
            let answer = try takeAnswer(to: asked)
            if answer.isGone {
                try deliver(request, nil)
                for other in again[request.block] ?? [] { try deliver(other, nil) }
                continue
            }
            guard let bytes = try? answer.raw(), bytes.count == Int(request.block.length),
                Digest(of: bytes) == request.block.digest
            else { throw link.ended("a block came with another content than its digest says") }
            try bytes.withUnsafeBytes { bytes in
                try deliver(request, bytes)
                for other in again[request.block] ?? [] { try deliver(other, bytes) }
            }
        }
    }

    private func ask() {
        while let requests = wants.next() { link.send(.want(requests)) }
    }

    private func throwAway() throws {
        if let request = wants.takeAsked() { _ = try takeAnswer(to: request) }
    }

    private func takeAnswer(to request: BlockRequest) throws -> BlockAnswer {
        guard let answer = link.blocks.take(timeoutNanoseconds: SenderMachine.silenceNanoseconds * 4) else {
            throw ApplyError.interrupted
        }
        guard answer.object == request.object, answer.offset == request.offset else {
            throw link.ended("a block came that was not the next one wanted")
        }
        consumed(UInt64(answer.bytes.count))
        return answer
    }
}

extension Link {
    /// What is thrown where the peer has said what it may not say: the connection ends, and not the process.
    func ended(_ reason: String) -> ApplyError {
        connection.closeFromOutside(reason: reason)
        return .interrupted
    }
}
