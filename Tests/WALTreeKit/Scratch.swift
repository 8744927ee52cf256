import Glibc
import WALSystem

/// A new folder under `TMPDIR`, or `/tmp`, that is gone when the last who holds this is.
package final class Scratch: Sendable {
    package let path: String

    package init() throws {
        let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(base)/walship-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Files.Failure(call: "mkdtemp", code: errno) }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        try? Files.removeTree(path)
    }
}

/// Asks again and again until `condition` holds, for `seconds` at most.
package func eventually(within seconds: UInt64 = 10, _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = Clock.monotonicNanoseconds() + seconds * 1_000_000_000
    repeat {
        if try condition() { return true }
        sched_yield()
    } while Clock.monotonicNanoseconds() < deadline
    return false
}
