import WALFormat

/// Goes through a log segment by segment, up to the durable end and on from there as it moves. A value: one thread at a
/// time uses it, any number of them read a log. It checks headers and chain; ``LogLocation/read()`` checks the rest.
package struct LogCursor: Sendable {
    private let view: LogView
    private let generation: UInt64
    private var expected: Successor
    /// In the file of the next segment, or at the end of the file before it. It holds the file open, pruned or not.
    private var walk: SegmentWalk?

    init(view: LogView, generation: UInt64, expected: Successor) {
        self.view = view
        self.generation = generation
        self.expected = expected
    }

    /// The segment that ``next()`` gives.
    package var nextSeq: UInt64 { expected.seq ?? 0 }

    /// The next segment; nil at the durable end, where calling again later goes on. Throws
    /// ``LogError/pruned(wanted:first:)`` when the file it would open next was pruned, ``LogError/reset`` after
    /// ``LogWriter/reset(to:)``.
    package mutating func next() throws(LogError) -> LogLocation? {
        guard view.generation == generation else { throw .reset }
        if let location = try nextHere() { return location }
        guard try openNext() else { return nil }
        return try nextHere()
    }

    private mutating func nextHere() throws(LogError) -> LogLocation? {
        guard let file = walk?.file,
            let location = try walk?.next(limit: file.durableBytes)
        else { return nil }
        expected.advance(over: location.header, chain: location.chain)
        return location
    }

    /// False at the durable end.
    private mutating func openNext() throws(LogError) -> Bool {
        guard nextSeq > view.base.seq else { throw .pruned(wanted: nextSeq, first: view.firstSeq) }
        guard var found = try view.walk(toNear: nextSeq) else { return false }
        try found.skip(to: nextSeq, limit: found.file.durableBytes)
        // What was read before must be the past of what comes now, also across files.
        walk = SegmentWalk(file: found.file, offset: found.offset, expected: expected)
        return true
    }
}
