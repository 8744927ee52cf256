import Glibc
import WALSystem

/// A process that a test has started. Its output goes to files, so that nobody has to read along.
final class Child: Sendable {
    let command: String
    let pid: pid_t
    private let outputPath: String
    private let errorPath: String
    private let status = Monitor<Int32?>(nil)

    /// - Parameters:
    ///   - error: where stderr goes instead of the file `outputBase`.err.
    ///   - input: a descriptor to read from; nothing where there is none.
    init(
        _ program: String, _ arguments: [String], outputBase: String, error: String? = nil, input: Int32? = nil
    ) throws {
        command = ([program] + arguments).joined(separator: " ")
        outputPath = outputBase + ".out"
        errorPath = error ?? outputBase + ".err"
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        let flags = O_WRONLY | O_CREAT | O_APPEND
        if let input {
            posix_spawn_file_actions_adddup2(&actions, input, 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        posix_spawn_file_actions_addopen(&actions, 1, outputPath, flags, 0o644)
        posix_spawn_file_actions_addopen(&actions, 2, errorPath, flags, 0o644)
        var argv: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        defer { for argument in argv { free(argument) } }
        var pid: pid_t = 0
        let code = posix_spawnp(&pid, program, &actions, nil, &argv, environ)
        guard code == 0 else { throw Failed("\(command): \(String(cString: strerror(code)))") }
        self.pid = pid
    }

    var output: String { (try? text(ofFile: outputPath)) ?? "" }
    var errors: String { (try? text(ofFile: errorPath)) ?? "" }
    var errorLines: [Substring] { errors.split(separator: "\n") }

    /// The exit code, or minus the signal that ended it; nil while it runs.
    var exitStatus: Int32? {
        status.withLock { status in
            if let status { return status }
            var raw: Int32 = 0
            guard waitpid(pid, &raw, WNOHANG) == pid else { return nil }
            status = raw & 0x7F == 0 ? (raw >> 8) & 0xFF : -(raw & 0x7F)
            return status
        }
    }

    var isRunning: Bool { exitStatus == nil }

    /// Waits for its end.
    func wait(seconds: Double = 60) throws -> Int32 {
        try poll("the end of \(command)", seconds: seconds) { exitStatus }
    }

    func signal(_ number: Int32) {
        // Reaped or not, the number is this child's until `exitStatus` has seen its end.
        if isRunning { kill(pid, number) }
    }

    /// `kill -9`, and waits.
    func crash() throws {
        signal(SIGKILL)
        _ = try wait()
    }

    /// SIGTERM; returns the exit code.
    func terminate() throws -> Int32 {
        signal(SIGTERM)
        return try wait()
    }

    var residentBytes: UInt64 { kilobytes("VmRSS:") << 10 }
    var peakResidentBytes: UInt64 { kilobytes("VmHWM:") << 10 }

    private func kilobytes(_ key: String) -> UInt64 {
        let line = (try? text(ofFile: "/proc/\(pid)/status"))?.split(separator: "\n").first { $0.hasPrefix(key) }
        return line.flatMap { UInt64($0.filter(\.isNumber)) } ?? 0
    }
}

/// What a test cannot go on without.
struct Failed: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) {
        self.description = description
    }
}

/// Asks until there is an answer; throws when there is none in time.
func poll<Answer>(_ what: String, seconds: Double = 60, _ body: () throws -> Answer?) throws -> Answer {
    let deadline = Clock.monotonicNanoseconds() + UInt64(seconds * 1e9)
    while true {
        if let answer = try body() { return answer }
        guard Clock.monotonicNanoseconds() < deadline else { throw Failed("no \(what) within \(seconds) s") }
        usleep(10_000)
    }
}

/// Waits until it is so.
func until(_ what: String, seconds: Double = 60, _ body: () throws -> Bool) throws {
    _ = try poll(what, seconds: seconds) { try body() ? true : nil }
}

/// ``until(_:seconds:_:)`` for what takes long: it keeps no thread from other tests.
func eventually(_ what: String, seconds: Double = 60, _ body: () throws -> Bool) async throws {
    let deadline = Clock.monotonicNanoseconds() + UInt64(seconds * 1e9)
    while try !body() {
        guard Clock.monotonicNanoseconds() < deadline else { throw Failed("no \(what) within \(seconds) s") }
        try await Task.sleep(for: .milliseconds(300))
    }
}

func text(ofFile path: String) throws -> String {
    String(decoding: try bytes(ofFile: path), as: UTF8.self)
}

/// Also of files that have no size, as those of `/proc`.
func bytes(ofFile path: String) throws -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Failed("\(path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
        let count = read(descriptor, &buffer, buffer.count)
        guard count > 0 else { return bytes }
        bytes += buffer[..<count]
    }
}
