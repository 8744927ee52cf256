import Glibc
import Testing
import WALFormat
import WALSystem

/// Runs a test in a new directory of a real file system, and removes that afterwards.
func withScratch(_ body: (_ directory: Directory, _ path: String) throws -> Void) throws {
    let template = try #require(strdup("/tmp/walsystem-XXXXXX"))
    defer { free(template) }
    let path = String(cString: try #require(mkdtemp(template)))
    let directory = try Directory.open(path: path)
    defer {
        try? directory.removeContents()
        rmdir(path)
    }
    try body(directory, path)
}

extension Name: ExpressibleByStringLiteral {
    public init(stringLiteral text: StaticString) {
        self.init(text)
    }
}

extension Directory {
    func put(_ name: Name, _ text: String = "") throws(SystemError) {
        let file = try createFile(name)
        try file.write(Array(text.utf8), at: 0)
        try file.close()
    }

    func text(_ name: Name) throws(SystemError) -> String {
        String(decoding: try readWholeFile(in: self, name, limit: 1 << 20), as: UTF8.self)
    }

    func names() throws(SystemError) -> [Name] {
        try entries().map(\.name).sorted()
    }

    func has(_ name: Name) throws(SystemError) -> Bool {
        do {
            _ = try status(of: name)
            return true
        } catch let error where error.isNotFound {
            return false
        }
    }
}

/// The error that `body` throws; nil when it throws none.
func systemError(_ body: () throws(SystemError) -> Void) -> SystemError? {
    do {
        try body()
        return nil
    } catch {
        return error
    }
}

/// Asks again and again until `condition` holds, for 10 seconds at most.
func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = Clock.monotonicNanoseconds() + 10_000_000_000
    repeat {
        if try condition() { return true }
        sched_yield()
    } while Clock.monotonicNanoseconds() < deadline
    return false
}
