/// Identity of one line of segments, drawn at random when a tree first becomes a primary.
package struct HistoryID: Hashable, Sendable, CustomStringConvertible {
    package var value: Digest
    package init(_ value: Digest) { self.value = value }
    package static let none = HistoryID(.zero)
    package var description: String { value.description }
}

/// A point of a history: all segments up to `seq`. `chain` covers everything before it, so that equal positions mean
/// equal pasts, also where the numbers alone would agree. After superfly/ltx's `Pos`.
package struct Position: Hashable, Sendable {
    package var epoch: UInt64
    package var seq: UInt64
    package var chain: Digest

    package init(epoch: UInt64, seq: UInt64, chain: Digest) {
        self.epoch = epoch
        self.seq = seq
        self.chain = chain
    }

    /// Before the first segment.
    package static let start = Position(epoch: 0, seq: 0, chain: .zero)
}

extension Position: CustomStringConvertible {
    /// `EPOCH:SEQ:CHAIN`, the exact form.
    package var description: String { "\(epoch):\(seq):\(chain)" }
    /// `EPOCH:SEQ`, for people.
    package var short: String { "\(epoch):\(seq)" }
}

/// A position as somebody typed it: the chain may be missing.
package struct PositionText: Hashable, Sendable {
    package var epoch: UInt64
    package var seq: UInt64
    package var chain: Digest?

    /// `EPOCH:SEQ` or `EPOCH:SEQ:CHAIN`; throws ``FormatError/text(what:_:)``.
    package init(_ text: String) throws(FormatError) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2 || parts.count == 3, let epoch = PositionText.number(parts[0]),
            let seq = PositionText.number(parts[1])
        else { throw .text(what: "position EPOCH:SEQ or EPOCH:SEQ:CHAIN", String(text.prefix(120))) }
        self.epoch = epoch
        self.seq = seq
        self.chain = parts.count == 3 ? try Digest(text: parts[2]) : nil
    }

    package init(_ position: Position) {
        epoch = position.epoch
        seq = position.seq
        chain = position.chain
    }

    /// A node at `position` has all of what this names, as far as numbers tell.
    package func isReached(by position: Position) -> Bool {
        position.seq >= seq && position.epoch >= epoch
    }

    /// UInt64 would also take a sign, which no position has.
    private static func number(_ text: Substring) -> UInt64? {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? UInt64(text) : nil
    }
}
