import Foundation
import Testing
import WALFormat
import WALNode
import WALSystem

@Suite struct NodeFileTests {
    private let folder: Directory
    private let path: String

    init() throws {
        path = NSTemporaryDirectory() + "walship-node-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        folder = try Directory.open(path: path)
    }

    private func removed<T>(_ body: () throws -> T) rethrows -> T {
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try body()
    }

    private func write(_ text: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/node.json"))
    }

    @Test func isReadAsItWasWritten() throws {
        try removed {
            var file = NodeFile(
                node: "a", role: .replica, history: HistoryID(Digest(high: 1, low: 2)), epoch: 3)
            file.promisedEpoch = 9
            file.filter = ["- caf\\xe9"]
            try file.save(to: folder)
            #expect(try NodeFile.load(from: folder, path: path) == file)
            #expect(try file.historyID == HistoryID(Digest(high: 1, low: 2)))
            #expect(try file.filterValue?.text == Array("- caf".utf8) + [0xE9, 0x0A])
        }
    }

    @Test func isNilWhereThereIsNone() throws {
        try removed {
            let found = try NodeFile.load(from: folder, path: path)
            #expect(found == nil)
        }
    }

    @Test func namesALaterFormat() throws {
        try removed {
            try write(#"{"format": 2, "node": "a"}"#)
            #expect {
                try NodeFile.load(from: folder, path: path)
            } throws: { error in
                (error as? NodeError)?.code == .failed && "\(error)".contains("format 2")
            }
        }
    }

    @Test(arguments: [
        "", "{", "[]", #"{"format": 1}"#, #"{"format":1,"node":"a","role":"king","epoch":1,"promised_epoch":1}"#,
        #"{"format":1,"node":"a","role":"primary","history":"xyz","epoch":1,"promised_epoch":1}"#,
        #"{"format":1,"node":"a","role":"primary","epoch":1,"promised_epoch":1,"filter":["x"]}"#,
    ])
    func refusesDamage(text: String) throws {
        try removed {
            try write(text)
            #expect {
                try NodeFile.load(from: folder, path: path)
            } throws: { error in
                (error as? NodeError)?.code == .diverged && "\(error)".contains(path)
            }
        }
    }
}
