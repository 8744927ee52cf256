/// Text that was made elsewhere, as a terminal and a script can bear it: a control character could move the cursor, or end
/// the line that it is on. Names of objects are shown by ``PathText``, which can be read back.
package enum SafeText {
    /// What does not show as itself: U+0000 to U+001F, and U+007F to U+009F, which some terminals take, too, for the start
    /// of a command; line ends beyond ASCII; and what turns the direction of the text around it (Unicode Standard Annex 9,
    /// section 2), so that `gpj.exe` reads as `exe.jpg`.
    static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x7F..<0xA0, 0x61C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069: true
        default: false
        }
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
        for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
            if scalar.value >= 0x7F, isControl(scalar) {
                let digits = String(scalar.value, radix: 16)
                safe += Array("\\u\(String(repeating: "0", count: 4 - digits.count))\(digits)".utf8)
            } else {
                safe += UTF8.encode(scalar)!
            }
        }
        return safe
    }
}
