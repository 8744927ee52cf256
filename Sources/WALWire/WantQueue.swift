import WALFormat

/// Which blocks a receiver has asked for and asks for next. Answers come in the order of the questions, so what is likely
/// to be wanted is asked for ahead: a thousand small files cost a round trip or two and not a thousand.
package struct WantQueue {
    /// Asked for and not answered yet.
    private var asked: ArraySlice<BlockRequest> = []
    private var askedBytes = 0
    /// To be asked for next.
    private var ahead: ArraySlice<BlockRequest> = []

    /// Blocks in one request: a window's worth is several requests, so that the next is under way while one is answered.
    private static let requestBlocks = 64

    package init() {}

    package var hasRoom: Bool { asked.count + ahead.count < Limits.maxWantBlocks }

    package mutating func expect(_ requests: [BlockRequest]) {
        ahead += requests
    }

    /// What is to be asked for now, a frame's worth; nil while the window is full.
    package mutating func next() -> [BlockRequest]? {
        guard !ahead.isEmpty, askedBytes < Limits.wantWindowBytes, asked.count < Limits.maxWantBlocks,
            // Single blocks are asked for as they come as long as little is under way; then by frames that are full.
            ahead.count >= Self.requestBlocks || asked.count < Self.requestBlocks
        else { return nil }
        let part = ahead.prefix(Self.requestBlocks)
        ahead = ahead.dropFirst(part.count)
        asked += part
        askedBytes += part.reduce(0) { $0 + Int($1.block.length) }
        return Array(part)
    }

    /// The question that the next answer is to.
    package mutating func takeAsked() -> BlockRequest? {
        guard let first = asked.popFirst() else { return nil }
        askedBytes -= Int(first.block.length)
        return first
    }

    /// Makes `request` the next one that is answered or asked for, or the same block of another place in the file; with `rest`,
    /// which begins with it, where it was not expected. Returns how many answers have to be taken and thrown away first.
    package mutating func skip(to request: BlockRequest, orAsk rest: ArraySlice<BlockRequest>) -> Int {
        func isSame(_ other: BlockRequest) -> Bool { other.object == request.object && other.block == request.block }
        if let place = asked.firstIndex(where: isSame) { return place - asked.startIndex }
        ahead = ahead.firstIndex(where: isSame).map { ahead[$0...] } ?? rest
        return asked.count
    }

    /// Nothing that was expected is wanted any more. Returns how many answers have to be taken and thrown away.
    package mutating func forget() -> Int {
        ahead = []
        return asked.count
    }
}
