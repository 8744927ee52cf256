import Glibc
import WALTestKit

/// A file that is mapped to be written to, mmap(2). A write through it raises no event, and not even each sets the file's
/// times: only the one that makes a clean page dirty does. The end of the mapping raises one, as a close does.
package final class Mapping {
    private let descriptor: Int32
    private let base: UnsafeMutableRawPointer
    private let size: Int
    private var last = 0

    package init(_ path: String) throws(Files.Failure) {
        descriptor = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { throw Files.Failure(call: "open \(path)", code: errno) }
        size = Int(lseek(descriptor, 0, SEEK_END))
        let map = mmap(nil, max(size, 1), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let map, map != MAP_FAILED else {
            let code = errno
            close(descriptor)
            throw Files.Failure(call: "mmap \(path)", code: code)
        }
        base = map
    }

    deinit {
        munmap(base, max(size, 1))
        close(descriptor)
    }

    /// Of what is mapped, as much as is in the file now: a write behind its end is a SIGBUS.
    package var writableBytes: Int { min(size, Int(lseek(descriptor, 0, SEEK_END))) }

    /// Nothing where it does not fit.
    package func write(_ bytes: [UInt8], at offset: Int) {
        guard offset + bytes.count <= writableBytes else { return }
        base.advanced(by: offset).copyMemory(from: bytes, byteCount: bytes.count)
    }

    /// Where to write next: often where the last write was, for that one may have set the times for both.
    package func offset(_ random: inout SeededRandom) -> Int {
        let limit = writableBytes
        if last >= limit || random.once(in: 3) { last = random.int(in: 0..<limit) }
        return last
    }

    /// msync(2).
    package func sync() { msync(base, size, MS_SYNC) }
}
