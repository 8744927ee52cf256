import CLinux

/// The allocator of the process.
package enum Allocator {
    /// Buffers of a few hundred KiB come and go for every block. By default glibc maps and unmaps each of them, which
    /// costs a page fault for every 4 KiB: half of the kernel's time in a first sync (mallopt(3)).
    package static func keepBuffers() {
        cl_allocator_keep(32 << 20)
    }
}
