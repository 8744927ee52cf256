/// One pattern in rsync's language, rsync(1), "PATTERN MATCHING RULES", ready to be matched against names.
///
/// Matching takes the length of the name times the length of the pattern at most, whatever stars there are: all that may
/// be matched so far is followed at once, and nothing is tried twice.
struct FilterPattern: Sendable {
    private enum Token: Sendable {
        case byte(UInt8)
        /// Any byte but a slash.
        case any
        case set(ByteSet)
        /// Any number of bytes but slashes.
        case star
        case anything
        /// What no byte is: rsync takes a class that it does not understand so.
        case never
    }

    /// Where in a path a pattern with wildcards may begin to match; it always ends at the end.
    private enum Start: Sendable {
        case whole
        /// At the beginning, and behind every slash.
        case anyComponent
        /// So many components before the end.
        case components(Int)
    }

    private enum Form: Sendable {
        case literal([UInt8], isAnchored: Bool)
        case wild([Token], Start, takesSlashBefore: Bool, takesSlashBehind: Bool)
    }

    /// It speaks of directories only.
    let isOfDirectories: Bool
    /// It is matched against the path, not against its last component.
    let isOfPaths: Bool
    private let form: Form
    /// What a text must begin with, where the pattern may not begin elsewhere, and end with: most names are told from a
    /// pattern by that alone.
    private let prefix: [UInt8]
    private let suffix: [UInt8]

    private static let slash: UInt8 = 0x2F
    private static let asterisk: UInt8 = 0x2A

    init(_ text: [UInt8]) {
        var pattern = text[...]
        isOfDirectories = pattern.count > 1 && pattern.last == Self.slash
        if isOfDirectories { pattern.removeLast() }
        let slashes = pattern.count { $0 == Self.slash }
        let isAnchored = pattern.first == Self.slash
        let raw = Array(pattern)
        if isAnchored { pattern.removeFirst() }
        guard raw.contains(where: { $0 == Self.asterisk || $0 == 0x3F || $0 == 0x5B }) else {
            isOfPaths = slashes > 0
            prefix = []
            suffix = []
            form = .literal(Array(pattern), isAnchored: isAnchored)
            return
        }
        // As rsync does, by the text: also where one of the two is escaped.
        let hasDouble = zip(raw, raw.dropFirst()).contains { $0 == Self.asterisk && $1 == Self.asterisk }
        let beginsWithDouble = raw.starts(with: [Self.asterisk, Self.asterisk])
        let endsWithTriple = raw.count >= 3 && raw.suffix(3).allSatisfy { $0 == Self.asterisk }
        isOfPaths = slashes > 0 || hasDouble
        let start: Start
        if !isAnchored, slashes > 0, !hasDouble {
            start = .components(slashes + 1)
        } else if !isAnchored, hasDouble, !beginsWithDouble {
            start = .anyComponent
        } else {
            start = .whole
        }
        let tokens = Self.tokens(pattern)
        let isFixed = if case .anyComponent = start { false } else { true }
        // Not where the slash that is put before or behind the text may be part of it.
        prefix = isFixed && !endsWithTriple ? Self.literal(tokens) : []
        suffix = beginsWithDouble ? [] : Self.literal(tokens.reversed()).reversed()
        form = .wild(
            tokens, start, takesSlashBefore: beginsWithDouble, takesSlashBehind: endsWithTriple)
    }

    /// `path` is that from the root, `name` its last component.
    func matches(path: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer, isDirectory: Bool) -> Bool {
        if isOfDirectories, !isDirectory { return false }
        let text = isOfPaths ? path : name
        switch form {
        case .literal(let pattern, let isAnchored):
            return pattern.withUnsafeBytes { pattern in
                guard text.count >= pattern.count, !isAnchored || text.count == pattern.count else { return false }
                let start = text.count - pattern.count
                guard start == 0 || text[start - 1] == Self.slash else { return false }
                return pattern.elementsEqual(UnsafeRawBufferPointer(rebasing: text[start...]))
            }
        case .wild(let tokens, let start, let takesSlashBefore, let takesSlashBehind):
            var text = text
            if case .components(let count) = start {
                guard let tail = Self.lastComponents(count, of: text) else { return false }
                text = tail
            }
            guard text.starts(with: prefix), text.count >= suffix.count,
                text[(text.count - suffix.count)...].elementsEqual(suffix)
            else { return false }
            let restarts = if case .anyComponent = start { true } else { false }
            return Self.run(
                tokens, text, slashBefore: takesSlashBefore, slashBehind: takesSlashBehind && isDirectory,
                restarts: restarts)
        }
    }

    /// nil where there are fewer.
    private static func lastComponents(_ count: Int, of path: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        var left = count
        var index = path.count
        while index > 0 {
            if path[index - 1] == slash {
                left -= 1
                if left == 0 { return UnsafeRawBufferPointer(rebasing: path[index...]) }
            }
            index -= 1
        }
        return left == 1 ? path : nil
    }

    /// A bit for each place in the pattern that what was read so far may have led to.
    private static func run(
        _ tokens: [Token], _ text: UnsafeRawBufferPointer, slashBefore: Bool, slashBehind: Bool, restarts: Bool
    ) -> Bool {
        let words = tokens.count / 64 + 1
        return withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 2 * words) { buffer in
            buffer.initialize(repeating: 0)
            var places = Places(tokens, buffer.prefix(words), buffer.suffix(words))
            places.add(0)
            places.turn()
            if slashBefore, !places.take(slash, restarts: false) { return false }
            for byte in text where !places.take(byte, restarts: restarts) { return false }
            if slashBehind, !places.take(slash, restarts: restarts) { return false }
            return places.isAtEnd
        }
    }

    private struct Places {
        let tokens: [Token]
        private var now: Slice<UnsafeMutableBufferPointer<UInt64>>
        private var next: Slice<UnsafeMutableBufferPointer<UInt64>>

        init(
            _ tokens: [Token], _ now: Slice<UnsafeMutableBufferPointer<UInt64>>,
            _ next: Slice<UnsafeMutableBufferPointer<UInt64>>
        ) {
            self.tokens = tokens
            self.now = now
            self.next = next
        }

        var isAtEnd: Bool { now[now.startIndex + tokens.count / 64] & (1 << UInt64(tokens.count % 64)) != 0 }

        mutating func add(_ place: Int) {
            var place = place
            while true {
                next[next.startIndex + place / 64] |= 1 << UInt64(place % 64)
                guard place < tokens.count else { return }
                // A star may stand for nothing.
                switch tokens[place] {
                case .star, .anything: place += 1
                default: return
                }
            }
        }

        mutating func turn() {
            swap(&now, &next)
        }

        /// False where nothing can match any more.
        mutating func take(_ byte: UInt8, restarts: Bool) -> Bool {
            for index in next.indices { next[index] = 0 }
            if restarts, byte == slash { add(0) }
            for word in 0..<now.count {
                var bits = now[now.startIndex + word]
                while bits != 0 {
                    let place = word * 64 + bits.trailingZeroBitCount
                    bits &= bits - 1
                    guard place < tokens.count else { break }
                    switch tokens[place] {
                    case .byte(let wanted): if byte == wanted { add(place + 1) }
                    case .any: if byte != slash { add(place + 1) }
                    case .set(let set): if byte != slash, set.contains(byte) { add(place + 1) }
                    case .star: if byte != slash { add(place) }
                    case .anything: add(place)
                    case .never: break
                    }
                }
            }
            turn()
            return restarts || now.contains { $0 != 0 }
        }
    }

    // MARK: Reading

    /// The bytes that stand for themselves, up to the first that does not.
    private static func literal(_ tokens: some Sequence<Token>) -> [UInt8] {
        var bytes: [UInt8] = []
        for token in tokens {
            guard case .byte(let byte) = token else { break }
            bytes.append(byte)
        }
        return bytes
    }

    private static func tokens(_ pattern: ArraySlice<UInt8>) -> [Token] {
        var tokens: [Token] = []
        var rest = pattern
        while let byte = rest.popFirst() {
            switch byte {
            case 0x5C: tokens.append(rest.popFirst().map { .byte($0) } ?? .never)
            case 0x3F: tokens.append(.any)
            case asterisk:
                var count = 1
                while rest.first == asterisk {
                    rest.removeFirst()
                    count += 1
                }
                tokens.append(count > 1 ? .anything : .star)
            case 0x5B: tokens.append(ByteSet(reading: &rest).map { .set($0) } ?? .never)
            default: tokens.append(.byte(byte))
            }
        }
        return tokens
    }
}

/// Bytes of a `[…]`.
private struct ByteSet: Sendable {
    private var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

    func contains(_ byte: UInt8) -> Bool {
        let word =
            switch byte >> 6 {
            case 0: words.0
            case 1: words.1
            case 2: words.2
            default: words.3
            }
        return word & (1 << UInt64(byte & 63)) != 0
    }

    private mutating func insert(_ byte: UInt8) {
        let bit: UInt64 = 1 << UInt64(byte & 63)
        switch byte >> 6 {
        case 0: words.0 |= bit
        case 1: words.1 |= bit
        case 2: words.2 |= bit
        default: words.3 |= bit
        }
    }

    private mutating func insert(where isIn: (UInt8) -> Bool) {
        for byte in UInt8.min...UInt8.max where isIn(byte) { insert(byte) }
    }

    /// Takes what stands behind the `[`, up to its `]`; nil where there is none, or a class that nobody knows.
    init?(reading rest: inout ArraySlice<UInt8>) {
        let isNegated = rest.first == 0x21 || rest.first == 0x5E
        if isNegated { rest.removeFirst() }
        /// What a range may begin with.
        var previous: UInt8?
        var isFirst = true
        while true {
            guard let byte = rest.popFirst() else { return nil }
            if byte == 0x5D, !isFirst { break }
            isFirst = false
            switch byte {
            case 0x5C:
                guard let escaped = rest.popFirst() else { return nil }
                insert(escaped)
                previous = escaped
            case 0x2D where previous != nil && rest.first != nil && rest.first != 0x5D:
                guard var last = rest.popFirst() else { return nil }
                if last == 0x5C {
                    guard let escaped = rest.popFirst() else { return nil }
                    last = escaped
                }
                if let first = previous, first <= last { for each in first...last { insert(each) } }
                previous = nil
            case 0x5B where rest.first == 0x3A:
                guard let end = rest.firstIndex(of: 0x5D) else { return nil }
                let inner = rest[(rest.startIndex + 1)..<end]
                if inner.last == 0x3A {
                    guard let isIn = Self.classes[String(decoding: inner.dropLast(), as: UTF8.self)] else { return nil }
                    insert(where: isIn)
                    rest = rest[(end + 1)...]
                    previous = nil
                } else {
                    insert(byte)
                    previous = byte
                }
            default:
                insert(byte)
                previous = byte
            }
        }
        if isNegated { words = (~words.0, ~words.1, ~words.2, ~words.3) }
    }

    /// As in the C locale: what is beyond ASCII is in none of them.
    private static let classes: [String: @Sendable (UInt8) -> Bool] = [
        "alnum": { isAlpha($0) || isDigit($0) }, "alpha": { isAlpha($0) }, "blank": { $0 == 0x20 || $0 == 0x09 },
        "cntrl": { $0 < 0x20 || $0 == 0x7F }, "digit": { isDigit($0) }, "graph": { (0x21...0x7E).contains($0) },
        "lower": { (0x61...0x7A).contains($0) }, "print": { (0x20...0x7E).contains($0) },
        "punct": { (0x21...0x7E).contains($0) && !isAlpha($0) && !isDigit($0) },
        "space": { $0 == 0x20 || (0x09...0x0D).contains($0) }, "upper": { (0x41...0x5A).contains($0) },
        "xdigit": { isDigit($0) || (0x41...0x46).contains($0) || (0x61...0x66).contains($0) },
    ]

    private static func isAlpha(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte | 0x20) }
    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
}
