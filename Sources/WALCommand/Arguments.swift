import ArgumentParser
import Synchronization
import WALCapture
import WALFormat
import WALNode

/// An argument of which there are right and wrong forms. ArgumentParser only says that a value is invalid; which are valid
/// is kept for the line that it becomes part of, see ``AsyncParsableCommand/runFromCommandLine()``.
package protocol FormedArgument: ExpressibleByArgument {
    /// What is valid, as `a time: …`.
    static var form: String { get }
    init?(form text: String)
}

extension FormedArgument {
    package init?(argument: String) {
        guard let value = Self(form: argument) else {
            WrongForm.last.withLock { $0 = Self.form }
            return nil
        }
        self = value
    }
}

/// The form that the last invalid argument should have had.
enum WrongForm {
    static let last = Mutex<String?>(nil)
}

extension Address: FormedArgument {
    package static var form: String { "HOST or HOST:PORT with a port up to 65535, an IPv6 address in brackets" }

    package init?(form text: String) {
        try? self.init(text)
    }
}

extension Address {
    /// Port 0 takes a free one where something listens; nobody can be reached there.
    package func requireDialable(_ option: String) throws {
        guard port == 0 else { return }
        throw ValidationError("\(option) \(self) names no port; give the one that the other side listens on")
    }
}

extension Compression: FormedArgument {
    package static var form: String { "none, or zlib:1 (fast) to zlib:9 (small)" }

    package init?(form text: String) {
        try? self.init(text: text)
    }

    package var defaultValueDescription: String { "\(self)" }
}

extension DeletionLimit: FormedArgument {
    package static var form: String { "a part of the tree as 50%, or a number of objects" }

    package init?(form text: String) {
        let isShare = text.hasSuffix("%")
        guard let number = Count(form: isShare ? String(text.dropLast()) : text) else { return nil }
        if isShare, number.value > 100 { return nil }
        self = isShare ? .share(UInt64(number.value)) : .count(UInt64(number.value))
    }

    package var defaultValueDescription: String {
        switch self {
        case .share(let percent): "\(percent)%"
        case .count(let count): "\(count)"
        }
    }
}

/// How many of something.
package struct Count: FormedArgument, Hashable, Sendable {
    package static let form = "a number, as 1000"
    package var value: Int

    package init?(form text: String) {
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let value = Int(text) else { return nil }
        self.value = value
    }
}

/// A size in bytes: a number with an optional K, M, G or T, powers of 1,024.
package struct ByteSize: FormedArgument, Hashable, Sendable {
    package static let form = "a size: a number of bytes with an optional K, M, G or T, as 512M"
    package var bytes: UInt64

    package init(_ bytes: UInt64) {
        self.bytes = bytes
    }

    package init?(form text: String) {
        let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        var digits = text[...]
        var unit: UInt64 = 1
        if let last = digits.last, let known = units[Character(last.uppercased())] {
            unit = known
            digits = digits.dropLast()
        }
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt64(digits) else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: unit)
        guard !overflow else { return nil }
        bytes = product
    }

    package var defaultValueDescription: String {
        for (name, unit) in [("G", UInt64(1) << 30), ("M", 1 << 20), ("K", 1 << 10)]
        where bytes >= unit && bytes % unit == 0 {
            return "\(bytes / unit)\(name)"
        }
        return "\(bytes)"
    }
}

/// A time: a number with `ms`, `s`, `m`, `h` or `d`; seconds where nothing is said.
package struct TimeSpan: FormedArgument, Hashable, Sendable {
    package static let form = "a time of up to 100 years: a number with ms, s, m, h or d, as 1.5s"
    package var seconds: Double

    package init(seconds: Double) {
        self.seconds = seconds
    }

    package init?(form text: String) {
        let units: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]
        let known = units.first { text.hasSuffix($0.0) }
        let digits = known.map { String(text.dropLast($0.0.count)) } ?? text
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x2E }), let number = Double(digits),
            number.isFinite
        else { return nil }
        let seconds = number * (known?.1 ?? 1)
        guard seconds <= 3_153_600_000 else { return nil }
        self.seconds = seconds
    }

    package var nanoseconds: UInt64 { UInt64(seconds * 1e9) }
    package var defaultValueDescription: String {
        seconds < 1 && seconds > 0 ? "\(Int(seconds * 1000))ms" : "\(Int(seconds))s"
    }
}
