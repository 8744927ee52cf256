import ArgumentParser
import WALFormat
import WALNode

extension Address: ExpressibleByArgument {
    package init?(argument: String) {
        try? self.init(argument)
    }
}

extension Address {
    /// Port 0 takes a free one where something listens; nobody can be reached there.
    package func requireDialable(_ option: String) throws {
        guard port == 0 else { return }
        throw ValidationError("\(option) \(self) names no port; give the one that the other side listens on")
    }
}

extension Compression: ExpressibleByArgument {
    package init?(argument: String) {
        try? self.init(text: argument)
    }

    package var defaultValueDescription: String { "\(self)" }
}

/// A size in bytes: a number with an optional K, M, G or T, powers of 1,024.
package struct ByteSize: ExpressibleByArgument, Hashable, Sendable {
    package var bytes: UInt64

    package init(_ bytes: UInt64) {
        self.bytes = bytes
    }

    package init?(argument: String) {
        let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        var digits = argument[...]
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
package struct TimeSpan: ExpressibleByArgument, Hashable, Sendable {
    package var seconds: Double

    package init(seconds: Double) {
        self.seconds = seconds
    }

    package init?(argument: String) {
        let units: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]
        let known = units.first { argument.hasSuffix($0.0) }
        let digits = known.map { String(argument.dropLast($0.0.count)) } ?? argument
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
