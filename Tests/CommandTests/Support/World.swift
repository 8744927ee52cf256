import Foundation
import Glibc
import Synchronization
import Testing
import WALSystem
import WALTestKit

/// A scratch folder, and everything that a test has started: all of it is gone when the test ends, however it ends, be it
/// with the test program.
final class World {
    let path: String
    private var children: [Child] = []
    private var mounts: [String] = []
    private var proxies: [Proxy] = []
    private var peers: [RawPeer] = []
    private var count = 0
    private let watchman: Guard

    static let isRoot = geteuid() == 0
    /// The commands lie beside the test program.
    static let programs: String = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return own.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }
    }()

    init() throws {
        path = try #require(mkdtemp(strdup("/tmp/walcommand-XXXXXX")).map { String(cString: $0) })
        // Other users are to reach what is inside.
        chmod(path, 0o755)
        mkdir(path + "/output", 0o755)
        watchman = try Guard(path)
    }

    func end() {
        for child in children {
            child.signal(SIGCONT)
            child.signal(SIGKILL)
            _ = try? child.wait()
        }
        for peer in peers { peer.close() }
        for proxy in proxies { proxy.stop() }
        for mount in mounts.reversed() { _ = try? run("umount", "-l", mount) }
        watchman.end()
        _ = try? FileManager.default.removeItem(atPath: path)
    }

    func folder(_ name: String) throws -> String {
        let folder = path + "/" + name
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        return folder
    }

    // MARK: Processes

    /// `program` is one of the suite's, or one of the system's.
    func start(
        _ program: String, _ arguments: [String], wrapper: [String] = [], error: String? = nil
    ) throws -> Child {
        count += 1
        let isOurs = ["walship", "walrecv", "walctl"].contains(program)
        let line = wrapper + [isOurs ? World.programs + "/" + program : program] + arguments
        let child = try Child(
            line[0], Array(line.dropFirst()), outputBase: "\(path)/output/\(count)", error: error)
        children.append(child)
        watchman.add(child)
        return child
    }

    /// Runs it to its end.
    @discardableResult
    func run(_ program: String, _ arguments: [String], seconds: Double = 120) throws -> Outcome {
        let child = try start(program, arguments)
        let status = try child.wait(seconds: seconds)
        children.removeAll { $0 === child }
        return Outcome(command: child.command, status: status, output: child.output, errors: child.errors)
    }

    @discardableResult
    func run(_ program: String, _ arguments: String...) throws -> Outcome {
        try run(program, arguments)
    }

    /// Runs what must succeed and returns its output without the last line's end.
    @discardableResult
    func must(_ program: String, _ arguments: String..., seconds: Double = 120) throws -> String {
        let outcome = try run(program, arguments, seconds: seconds)
        guard outcome.status == 0 else { throw Failed("\(outcome)") }
        return outcome.output.trimmingCharacters(in: .newlines)
    }

    // MARK: Network and mounts

    func proxy(to port: Int) throws -> Proxy {
        let proxy = try Proxy(to: port)
        proxies.append(proxy)
        return proxy
    }

    func peer(_ port: Int) throws -> RawPeer {
        let peer = try RawPeer(port: port)
        peers.append(peer)
        return peer
    }

    /// A file system of its own, of `megabytes`, mounted in the scratch folder.
    func mountTmpfs(_ name: String, megabytes: Int) throws -> String {
        let folder = try folder(name)
        try must("mount", "-t", "tmpfs", "-o", "size=\(megabytes)m", "tmpfs", folder)
        mounts.append(folder)
        return folder
    }

    func mountExt4(_ name: String, megabytes: Int, _ options: String...) throws -> String {
        try mountImage(name, megabytes: megabytes, ["mkfs.ext4", "-q", "-m", "0"] + options)
    }

    /// Takes all room of the file system that `disk` is on but so much, by a file in there.
    func fill(_ disk: String, leavingMegabytes: Int) throws {
        try fill(disk, leavingKilobytes: leavingMegabytes << 10)
    }

    func fill(_ disk: String, leavingKilobytes: Int) throws {
        let descriptor = open(disk + "/ballast", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Failed("ballast: \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        var size = 0
        // What the ballast needs for itself is not known before it is there.
        for _ in 0..<200 {
            var status = statvfs()
            // What was removed just now comes back with the journal.
            guard fsync(descriptor) == 0, fstatvfs(descriptor, &status) == 0 else {
                throw Failed("statvfs: \(String(cString: strerror(errno)))")
            }
            let excess = Int(status.f_bavail) * Int(status.f_frsize) - leavingKilobytes << 10
            guard excess > 0 else { return }
            let step = excess > 1 << 20 ? excess - 1 << 19 : max(excess / 2, Int(status.f_frsize))
            let code = posix_fallocate(descriptor, off_t(size), off_t(step))
            guard code == 0 || code == ENOSPC else { throw Failed("fallocate: \(String(cString: strerror(code)))") }
            if code == 0 { size += step }
        }
        throw Failed("\(disk) cannot be filled up to \(leavingKilobytes) KiB")
    }

    func unfill(_ disk: String) throws {
        guard unlink(disk + "/ballast") == 0 else { throw Failed("ballast: \(String(cString: strerror(errno)))") }
    }

    /// What is in the caches of the mounted file system is never written, FS_IOC_SHUTDOWN without its journal.
    func powerOff(_ folder: String) throws {
        try must(
            "python3", "-c",
            "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))",
            folder)
    }

    /// As after a start of the machine; what was cached and not written is gone when the file system was shut down.
    func remount(_ folder: String) throws {
        try must("umount", folder)
        try must("mount", "-o", "loop", folder + ".img", folder)
    }

    func isMounted(_ folder: String) -> Bool { mounts.contains(folder) }

    /// A file system of its own on a loop device; `make` is the command that makes it on a file.
    func mountImage(_ name: String, megabytes: Int, _ make: [String]) throws -> String {
        let folder = try folder(name)
        let image = "\(path)/\(name).img"
        try must("truncate", "-s", "\(megabytes)M", image)
        let made = try run(make[0], Array(make.dropFirst()) + [image])
        guard made.status == 0 else { throw Failed("\(made)") }
        try must("mount", "-o", "loop", image, folder)
        mounts.append(folder)
        if rmdir(folder + "/lost+found") != 0, errno != ENOENT { throw Failed("lost+found: \(errno)") }
        try must("sync", "--file-system", folder)
        return folder
    }
}

struct Outcome: CustomStringConvertible {
    var command: String
    var status: Int32
    var output: String
    var errors: String

    var lines: [Substring] { output.split(separator: "\n") }
    var errorLines: [Substring] { errors.split(separator: "\n") }
    var description: String { "\(command): exit \(status)\n\(output)\(errors)" }
}

/// Runs a test in a world of its own.
func withWorld(_ body: (World) throws -> Void) throws {
    let world = try World()
    defer { world.end() }
    try body(world)
}

func withWorld(_ body: (World) async throws -> Void) async throws {
    let world = try World()
    defer { world.end() }
    try await body(world)
}

/// A port of 127.0.0.1 that nobody listens on. It is below those that the kernel gives to connections: else one of another
/// test could have it while a node that listens there is started again. No port is given out twice.
func freePort() throws -> Int {
    while true {
        let number = nextPort.wrappingAdd(1, ordering: .relaxed).oldValue
        let port = ports.lowerBound + number % ports.count
        guard let listener = try? Socket.listening(port: port) else { continue }
        close(listener.descriptor)
        return port
    }
}

private let ports = 10_240..<32_768
/// Not where another run of the tests began, which may be under way.
private let nextPort = Atomic(Int.random(in: 0..<ports.count))

/// Everything a person could see of a folder: names, kinds, sizes, modes, owners, times, and what files hold.
func listing(_ path: String) throws -> [String] {
    var lines: [String] = []
    let names = try FileManager.default.subpathsOfDirectory(atPath: path).sorted()
    for name in [""] + names {
        var status = stat()
        guard lstat(path + "/" + name, &status) == 0 else { continue }
        var line = "\(name) \(String(status.st_mode, radix: 8)) \(status.st_uid) \(status.st_size) "
        line += "\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
        if status.st_mode & S_IFMT == S_IFREG { line += " \(try bytes(ofFile: path + "/" + name).hashValue)" }
        lines.append(line)
    }
    return lines
}
