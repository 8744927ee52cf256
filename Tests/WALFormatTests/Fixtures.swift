import Foundation
import WALFormat

/// `fixtures/segments/`: one folder a segment, with `segment.wal` and either `expected.json` or `error.txt`.
///
/// Written only when `WALSHIP_UPDATE_FIXTURES=1` is set, before any test reads them.
enum Fixtures {
    static let variable = "WALSHIP_UPDATE_FIXTURES"

    /// What to do when a fixture and the code differ.
    static let advice = "if the format is meant to change, set \(variable)=1, run again and read the difference"

    static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    static let segments: URL = {
        let folder = package.appending(path: "fixtures/segments")
        if ProcessInfo.processInfo.environment[variable] == "1" {
            do { try write(to: folder) } catch { fatalError("\(folder.path): \(error)") }
        }
        return folder
    }()

    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: segments.appending(path: "\(name)/segment.wal")))
    }

    static func text(_ name: String, _ file: String) throws -> String {
        String(decoding: try Data(contentsOf: segments.appending(path: "\(name)/\(file)")), as: UTF8.self)
    }

    /// The whole folder anew: nothing of a defect that is no longer tested stays behind.
    private static func write(to folder: URL) throws {
        try? FileManager.default.removeItem(at: folder)
        for sample in GoodSegments.all {
            let place = try make(folder, sample.name)
            try Data(sample.segment.bytes).write(to: place.appending(path: "segment.wal"))
            try Data((try sample.segment.described().text + "\n").utf8).write(
                to: place.appending(path: "expected.json"))
        }
        for sample in BadSegments.all {
            let place = try make(folder, sample.name)
            try Data(sample.bytes).write(to: place.appending(path: "segment.wal"))
            try Data((sample.error.description + "\n").utf8).write(to: place.appending(path: "error.txt"))
        }
    }

    private static func make(_ folder: URL, _ name: String) throws -> URL {
        let place = folder.appending(path: name)
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        return place
    }
}
