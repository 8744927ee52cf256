/// Text that was made elsewhere, as a terminal and a script can bear it: a control character could move the cursor, or end
/// the line that it is on. Names of objects are shown by ``PathText``, which can be read back.
package enum SafeText {
    /// U+0000 to U+001F, and U+007F to U+009F: some terminals take the latter, too, for the start of a command.
    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || 0x7F..<0xA0 ~= scalar.value
    }

    /// With spaces in place of all control characters, line ends among them.
    package static func oneLine(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: isControl) else { return text }
        return text.unicodeScalars.map { isControl($0) ? " " : String($0) }.joined()
    }

    /// A JSON text in which no control character stands for itself: those that JSON allows in a string, RFC 8259,
    /// section 7, are escaped like the others.
    package static func json(_ bytes: some Collection<UInt8>) -> [UInt8] {
        var safe: [UInt8] = []
        safe.reserveCapacity(bytes.count)
        for byte in bytes {
            if byte == 0x7F {
                safe += escape(byte)
            } else if 0x80..<0xA0 ~= byte, safe.last == 0xC2 {
                safe.removeLast()
                safe += escape(byte)
            } else {
                safe.append(byte)
            }
        }
        return safe
    }

    private static func escape(_ byte: UInt8) -> [UInt8] {
        Array("\\u00\(String(byte, radix: 16))".utf8)
    }
}
