import Foundation
import Testing
import WALFormat
import WALNode
import WALSystem

@Suite struct StateFolderTests {
    private func withRoot(_ body: (String) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "walship-state-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    private func open(_ root: String, state: String? = nil) throws -> StateFolder {
        try StateFolder(rootPath: root, statePath: state, command: "test") { _, _ in }
    }

    @Test func makesPrivateFolders() throws {
        try withRoot { root in
            let folder = try open(root)
            #expect(try folder.directory.status().mode == 0o700)
            let names = try Set(folder.directory.entries().map(\.name.description))
            #expect(names == ["lock", "log", "staging", "quarantine"])
        }
    }

    @Test func refusesASecondHolderByNameAndPid() throws {
        try withRoot { root in
            let first = try open(root)
            #expect {
                try open(root)
            } throws: { error in
                "\(error)".contains("test (pid \(ProcessFacts.processID))") && "\(error)".contains(root)
            }
            withExtendedLifetime(first) {}
        }
    }

    @Test func refusesASecondHolderOfTheRootWithAnotherFolder() throws {
        try withRoot { root in
            let first = try open(root)
            let other = root + "-state"
            #expect {
                try open(root, state: other)
            } throws: { error in
                "\(error)".contains("(pid \(ProcessFacts.processID)), with another state folder")
                    && "\(error)".contains(root)
            }
            #expect(!FileManager.default.fileExists(atPath: other))
            withExtendedLifetime(first) {}
        }
    }

    @Test func leavesNothingBehindWhenRefused() throws {
        try withRoot { root in
            struct No: Error {}
            #expect(throws: No.self) {
                try StateFolder(rootPath: root, statePath: nil, command: "test") { _, _ in throw No() }
            }
            let left = try FileManager.default.contentsOfDirectory(atPath: root)
            #expect(left.isEmpty)
        }
    }

    @Test func refusesAnotherFileSystem() throws {
        try withRoot { root in
            let other = "/dev/shm/walship-state-\(UUID().uuidString)"
            #expect {
                try open(root, state: other)
            } throws: { error in
                "\(error)".contains("another file system") && "\(error)".contains(other)
            }
            #expect(!FileManager.default.fileExists(atPath: other))
            try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(atPath: other) }
            #expect {
                try open(root, state: other)
            } throws: {
                "\($0)".contains("another file system")
            }
            let left = try FileManager.default.contentsOfDirectory(atPath: other)
            #expect(left.isEmpty)
        }
    }

    @Test func namesWhatIsWrongWithARoot() throws {
        try withRoot { root in
            #expect {
                try open(root + "/none")
            } throws: {
                "\($0)".contains("does not exist")
            }
            try Data().write(to: URL(fileURLWithPath: root + "/file"))
            #expect {
                try open(root + "/file")
            } throws: {
                "\($0)".contains("is not a directory")
            }
        }
    }
}
