import Glibc

/// Clears away what a test has started when the test program itself is killed: a shell that waits for the end of a pipe
/// which only the test program holds. It knows processes by number, and looks whether they are still of this scratch
/// folder before it ends them.
final class Guard {
    private let pipeEnd: Int32
    private let shell: Child
    private let listPath: String

    private static let script = """
        cat > /dev/null
        [ -f "$0/output/guarded" ] || exit 0
        while read -r pid; do
            tr '\\0' ' ' < /proc/$pid/cmdline | grep -qF "$0/" && kill -KILL $pid
        done < "$0/output/guarded"
        grep -F " $0/" /proc/mounts | cut -d ' ' -f 2 | sort -r | while read -r mount; do umount -l "$mount"; done
        rm -rf "$0"
        """

    init(_ path: String) throws {
        listPath = path + "/output/guarded"
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw Failed("pipe: \(String(cString: strerror(errno)))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        pipeEnd = ends[1]
        try writeFile(listPath, "")
        shell = try Child("sh", ["-c", Self.script, path], outputBase: path + "/output/guard", input: ends[0])
        close(ends[0])
    }

    func add(_ child: Child) {
        let descriptor = open(listPath, O_WRONLY | O_APPEND | O_CLOEXEC)
        let line = "\(child.pid)\n"
        write(descriptor, line, line.utf8.count)
        close(descriptor)
    }

    /// The test has cleared away everything itself.
    func end() {
        unlink(listPath)
        close(pipeEnd)
        _ = try? shell.wait()
    }
}
