import Foundation
import Testing
import WALFormat

/// walship-segment(5) is the specification; where it can be compared with the code, it is.
@Suite struct ManualTests {
    private let lines: [Substring]

    init() throws {
        let page = try Data(contentsOf: Fixtures.package.appending(path: "man/walship-segment.5"))
        lines = String(decoding: page, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
    }

    /// The lines between two, neither included.
    private func section(from start: String, to end: String) throws -> ArraySlice<Substring> {
        let first = try #require(lines.firstIndex { $0 == start })
        let last = try #require(lines[(first + 1)...].firstIndex { $0.hasPrefix(end) })
        return lines[(first + 1)..<last]
    }

    /// The dump as hexdump(1) would show it, offsets and characters too.
    @Test func workedExampleIsTheFixture() throws {
        let bytes = try Fixtures.bytes("ok-small")
        let dump = stride(from: 0, to: bytes.count, by: 16).map { offset in
            let row = bytes[offset..<min(offset + 16, bytes.count)]
            let pairs = row.map { hexadecimal(Int($0), 2) }
            let halves = [pairs.prefix(8), pairs.dropFirst(8)].map { half in
                let text = half.joined(separator: " ")
                return text + String(repeating: " ", count: 23 - text.count)
            }
            let shown = row.map { (0x20...0x7E).contains($0) ? String(Unicode.Scalar($0)) : "." }.joined()
            return "\(hexadecimal(offset, 4))  \(halves[0])  \(halves[1])  |\(shown.replacing("\\", with: "\\e"))|"
        }
        let printed = try section(from: ".Bd -literal", to: ".Ed").map(String.init)
        #expect(printed == dump, "the worked example is a dump of fixtures/segments/ok-small/segment.wal")
    }

    /// Each byte of the example is explained once, and none is left out.
    @Test func explanationsFollowOneAnother() throws {
        let rows = try section(from: ".Ed", to: ".Sh").filter { $0.hasPrefix(".It ") }
            .map { $0.dropFirst(4).split(separator: " ", maxSplits: 4).map(String.init) }
        var next = 0
        for row in rows {
            #expect(row[0] == hexadecimal(next, 4), "\(row)")
            next += try #require(Int(row[2]), "\(row)")
        }
        #expect(next == (try Fixtures.bytes("ok-small").count))
    }

    @Test func limitsAreThoseOfTheCode() throws {
        let rows = try section(from: ".Ss Limits", to: ".El").filter { $0.hasPrefix(".It ") }.dropFirst()
        let numbers = rows.map { $0.split(separator: " ")[1].replacing(",", with: "") }
        #expect(
            numbers == [
                "\(Limits.maxSegmentRawBytes)", "\(Limits.maxSegmentEntries)", "\(Limits.maxBlockBytes)",
                "\(Limits.maxNameBytes)", "\(Limits.maxAttributeBytes)", "\(Limits.maxLinkTargetBytes)",
                "\(Limits.maxFilterBytes)", "\(Limits.maxFilterRules)", "\(Limits.maxPatternBytes)",
                "\(Limits.maxChunkBytes)",
                "\(Limits.maxExtents)", "\(Limits.maxContentBlocks)", "\(Limits.maxHoleBytes)",
            ])
    }

    private func hexadecimal(_ value: Int, _ digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: digits - text.count) + text
    }
}
