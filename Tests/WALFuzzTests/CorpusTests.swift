import Foundation
import Testing
import WALFuzz
import WALTestKit

/// What fuzzing has found is never found again: every file of `fixtures/corpus/TARGET/`, and mutations of them.
@Suite(.hangLimit) struct CorpusTests {
    private static let corpus = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "fixtures/corpus")

    /// In the order of their names, so that a seed replays.
    private static func files(of target: FuzzTarget) throws -> [[UInt8]] {
        let folder = corpus.appending(path: target.rawValue)
        return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().map {
            [UInt8](try Data(contentsOf: folder.appending(path: $0)))
        }
    }

    @Test(arguments: FuzzTarget.allCases) func everyFileAndMutationsOfIt(_ target: FuzzTarget) throws {
        var random = SeededRandom()
        random.announce()
        let files = try Self.files(of: target)
        try #require(files.count > 2)
        for file in files { file.withUnsafeBytes { target.run($0) } }
        for _ in 0..<3000 {
            var bytes = files.randomElement(using: &random)!
            for _ in 0..<random.int(in: 1...4) { mutate(&bytes, files, &random) }
            bytes.withUnsafeBytes { target.run($0) }
        }
    }

    private func mutate(_ bytes: inout [UInt8], _ files: [[UInt8]], _ random: inout SeededRandom) {
        let at = bytes.isEmpty ? 0 : random.int(in: 0..<bytes.count)
        switch random.int(in: 0...4) {
        case 0 where !bytes.isEmpty: bytes[at] ^= 1 << UInt8(random.int(in: 0...7))
        case 1 where !bytes.isEmpty: bytes.removeSubrange(at..<min(bytes.count, at + random.int(in: 1...16)))
        case 2: bytes.insert(contentsOf: random.bytes(random.int(in: 1...16)), at: at)
        case 3:
            let other = files.randomElement(using: &random)!
            bytes.replaceSubrange(at..., with: other.suffix(random.int(in: 0...other.count)))
        default: bytes.replaceSubrange(at..<min(bytes.count, at + 8), with: repeatElement(0xFF, count: 8))
        }
    }
}
