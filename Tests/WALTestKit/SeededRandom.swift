import Foundation

/// Random numbers that can be had again: splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
/// OOPSLA 2014) from a seed.
///
/// `SeededRandom()` draws a new seed in every run unless `WALSHIP_SEED` holds one. A test puts ``reproduce`` into the
/// comment of its expectations; one that looks for traps calls ``announce(_:)`` first, because a trap leaves no comment.
package struct SeededRandom: RandomNumberGenerator, Sendable {
    package static let variable = "WALSHIP_SEED"

    package let seed: UInt64
    private var state: UInt64

    package init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    package init() {
        let text = ProcessInfo.processInfo.environment[SeededRandom.variable]
        self.init(seed: text.flatMap { UInt64($0) } ?? UInt64.random(in: 0...UInt64.max))
    }

    /// How to see the same failure again.
    package var reproduce: String { "run again with \(SeededRandom.variable)=\(seed)" }

    package func announce(_ test: String = #function) {
        FileHandle.standardError.write(Data("\(test): \(reproduce)\n".utf8))
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    package mutating func int(in range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

    package mutating func int(in range: Range<Int>) -> Int { Int.random(in: range, using: &self) }

    /// True once in `times`.
    package mutating func once(in times: Int) -> Bool { int(in: 0..<times) == 0 }

    package mutating func bytes(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 8)
        while bytes.count < count {
            withUnsafeBytes(of: next().littleEndian) { bytes.append(contentsOf: $0) }
        }
        bytes.removeLast(bytes.count - count)
        return bytes
    }

    /// Mostly small, sometimes of any size: lengths and numbers as they come in life and from an enemy.
    package mutating func anyUInt64() -> UInt64 { next() >> UInt64(int(in: 0...63)) }
}
