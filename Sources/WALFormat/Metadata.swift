/// What an object is. The raw value is the byte in a segment (walship-segment(5), "Entries").
package enum Kind: UInt8, Sendable, Hashable {
    case file = 1
    case directory = 2
    case symlink = 3
    case fifo = 4
    case characterDevice = 5
    case blockDevice = 6

    /// What a replica that is not root leaves its own user of an object, whatever the mode says (walship(8)): what cannot be
    /// read can be neither compared nor copied from.
    package var ownersLeastMode: UInt16 {
        switch self {
        case .file: 0o400
        case .directory: 0o500
        default: 0
        }
    }

    package var isDevice: Bool { self == .characterDevice || self == .blockDevice }
}

/// Which device a device node stands for, makedev(3).
package struct DeviceNumber: Hashable, Sendable {
    package var major: UInt32
    package var minor: UInt32

    package init(major: UInt32, minor: UInt32) {
        self.major = major
        self.minor = minor
    }

    /// 8 bytes: major, minor, little-endian.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 8 else { return nil }
        func number(_ part: ArraySlice<UInt8>) -> UInt32 { part.reversed().reduce(0) { $0 << 8 | UInt32($1) } }
        self.init(major: number(bytes[..<4]), minor: number(bytes[4...]))
    }

    package var bytes: [UInt8] {
        [major, minor].flatMap { number in (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) } }
    }
}

/// A point in time as the kernel keeps it (statx(2)): seconds since 1970 and 0–999,999,999 nanoseconds after them. Two
/// fields, because 64 bits of nanoseconds end in 2262 and file systems do not.
package struct Timestamp: Hashable, Sendable {
    package var seconds: Int64
    package var nanoseconds: UInt32

    package init(seconds: Int64, nanoseconds: UInt32) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    package static let zero = Timestamp(seconds: 0, nanoseconds: 0)

    /// Whether a file system that was given this time may show `found`. It keeps seconds within a range, without
    /// nanoseconds at either end of it, and nanoseconds in steps; which of both is told by nobody.
    package func mayBeKept(as found: Timestamp) -> Bool {
        if self == found { return true }
        if seconds == found.seconds {
            return Self.steps.contains { nanoseconds - nanoseconds % $0 == found.nanoseconds }
        }
        guard found.nanoseconds == 0 else { return false }
        return seconds > found.seconds ? Self.lastSeconds.contains(found.seconds) : found.seconds == -1 << 31
    }

    /// Of NTFS, of UDF, and of those that keep no nanoseconds.
    private static let steps: [UInt32] = [100, 1_000, 1_000_000_000]
    /// Of ext3, of XFS without and with `bigtime`, and of ext4: 2038, 2486 and 2446.
    private static let lastSeconds: [Int64] = [(1 << 31) - 1, 16_299_260_424, 15_032_385_535]

    /// Nanoseconds since 1970, held at the ends of Int64's range (years 1677 and 2262). For clocks, not for file times.
    package var clampedNanoseconds: Int64 {
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, overflow2) = product.addingReportingOverflow(Int64(nanoseconds))
        return overflow2 ? .max : sum
    }
}

/// The number of an object: never reused in a history. 1 is the root directory of the tree.
package typealias ObjectID = UInt64

extension ObjectID {
    package static let root: ObjectID = 1
    /// Numbers from here on are given by a replica to what it found in its own tree, before it has a history.
    package static let firstLocal: ObjectID = 1 << 62
}

/// What is replicated of an object beside its content and its names.
package struct Metadata: Hashable, Sendable {
    /// Permission bits with setuid, setgid and sticky: 0...0o7777.
    package var mode: UInt16
    package var uid: UInt32
    package var gid: UInt32
    package var mtime: Timestamp
    package var attributes: Attributes

    /// In an entry, beside the bits of the mode: extended attributes follow.
    static let attributesFlag: UInt16 = 0o10000

    package init(mode: UInt16, uid: UInt32, gid: UInt32, mtime: Timestamp, attributes: Attributes = .none) {
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.attributes = attributes
    }
}
