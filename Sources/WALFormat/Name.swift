/// One component of a path: 1–255 bytes, any but NUL and `/`, and neither `.` nor `..` (POSIX.1-2017, 3.170). Names are
/// bytes and never text: a file system does not promise an encoding.
package struct Name: Hashable, Sendable, Comparable {
    package let bytes: [UInt8]

    /// Throws ``FormatError/name(_:)`` when the bytes cannot be one component of a path.
    package init(_ bytes: [UInt8]) throws(FormatError) {
        guard Name.isValid(bytes) else { throw .name(bytes) }
        self.bytes = bytes
    }

    /// For bytes that the kernel itself gave as a directory entry, or that were checked before.
    package init(trusted bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// For names known when the program is compiled.
    package init(_ text: StaticString) {
        self.bytes = text.withUTF8Buffer { Array($0) }
    }

    package static func isValid(_ bytes: [UInt8]) -> Bool {
        guard !bytes.isEmpty, bytes.count <= Limits.maxNameBytes else { return false }
        if bytes[0] == 0x2E, bytes.count == 1 || (bytes.count == 2 && bytes[1] == 0x2E) { return false }
        return bytes.allSatisfy { $0 != 0 && $0 != 0x2F }
    }

    package static func < (left: Name, right: Name) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }
}

extension Name: CustomStringConvertible {
    package var description: String { PathText.escaped(bytes) }
}

/// Paths as people and scripts see them. UTF-8 is shown as it is; the bytes of a backslash, of a control character or what
/// else ``SafeText`` takes for one, and of what is not valid UTF-8 become `\xHH`, so that one path is one line and can be
/// typed back.
package enum PathText {
    package static func escaped(_ bytes: some Collection<UInt8>) -> String {
        var text = ""
        text.reserveCapacity(bytes.count)
        // Fast path: most names are plain ASCII.
        if bytes.allSatisfy({ $0 >= 0x20 && $0 < 0x7F && $0 != 0x5C }) {
            return String(decoding: bytes, as: UTF8.self)
        }
        var pending = Array(bytes)[...]
        while let first = pending.first {
            let length = sequenceLength(pending)
            let part = String(decoding: pending.prefix(length), as: UTF8.self)
            if length > 0, first != 0x5C, !SafeText.isControl(part.unicodeScalars.first!) {
                text += part
            } else {
                for byte in pending.prefix(max(length, 1)) { text += "\\x" + hexDigits(byte) }
            }
            pending = pending.dropFirst(max(length, 1))
        }
        return text
    }

    /// The inverse of ``escaped(_:)``; nil when a backslash is not followed by `xHH`.
    package static func unescaped(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == 0x5C else {
                bytes.append(byte)
                continue
            }
            guard rest.popFirst() == 0x78, let high = rest.popFirst().flatMap(nibble),
                let low = rest.popFirst().flatMap(nibble)
            else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    /// Bytes of the valid UTF-8 sequence that starts here (Unicode 15, table 3-7), 0 where there is none.
    private static func sequenceLength(_ bytes: ArraySlice<UInt8>) -> Int {
        let start = bytes.startIndex
        func continues(_ offset: Int, _ range: ClosedRange<UInt8> = 0x80...0xBF) -> Bool {
            bytes.count > offset && range.contains(bytes[start + offset])
        }
        switch bytes[start] {
        case 0x00...0x7F: return 1
        case 0xC2...0xDF: return continues(1) ? 2 : 0
        case 0xE0: return continues(1, 0xA0...0xBF) && continues(2) ? 3 : 0
        case 0xED: return continues(1, 0x80...0x9F) && continues(2) ? 3 : 0
        case 0xE1...0xEF: return continues(1) && continues(2) ? 3 : 0
        case 0xF0: return continues(1, 0x90...0xBF) && continues(2) && continues(3) ? 4 : 0
        case 0xF1...0xF3: return continues(1) && continues(2) && continues(3) ? 4 : 0
        case 0xF4: return continues(1, 0x80...0x8F) && continues(2) && continues(3) ? 4 : 0
        default: return 0
        }
    }

    private static func hexDigits(_ byte: UInt8) -> String {
        let digits = Array("0123456789abcdef")
        return String([digits[Int(byte >> 4)], digits[Int(byte & 15)]])
    }

    private static func nibble(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}

extension PathText {
    /// A path below the root for people; `.` for the root itself.
    package static func joined(_ path: [Name]) -> String {
        path.isEmpty ? "." : path.map(\.description).joined(separator: "/")
    }
}
