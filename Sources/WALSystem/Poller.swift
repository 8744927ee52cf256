import CLinux

/// Waits for descriptors, poll(2).
package enum Poller {
    /// Returns those that can be read, failed or were hung up, in the order given; none when the time is over.
    ///
    /// - Parameters:
    ///   - descriptors: 64 at most with the following (`EINVAL`); one that is not open is `EBADF`.
    ///   - urgent: those that can be read at any time, and have something to tell beside that, ``MountTable``.
    ///   - timeoutMilliseconds: nil waits for ever.
    package static func poll(
        descriptors: [Int32], urgent: [Int32] = [], timeoutMilliseconds: Int?
    ) throws(SystemError) -> [Int32] {
        let descriptors = descriptors + urgent
        var ready = [UInt8](repeating: 0, count: descriptors.count)
        let timeout = timeoutMilliseconds.map { Int64(max($0, 0)) } ?? -1
        try check(cl_poll(descriptors, descriptors.count, urgent.count, timeout, &ready), "poll", nil)
        return zip(descriptors, ready).compactMap { $1 != 0 ? $0 : nil }
    }
}

/// Wakes a thread that waits in ``Poller``, from any other, eventfd(2).
package final class EventFD: Sendable {
    package let descriptor: Int32

    package init() throws(SystemError) {
        descriptor = try check(cl_eventfd_create(), "eventfd", nil)
    }

    deinit {
        _ = cl_close(descriptor)
    }

    /// Makes the descriptor readable until ``drain()``. Signals add up to one.
    package func signal() {
        let result = cl_eventfd_signal(descriptor)
        precondition(result == 0, "eventfd cannot be written")
    }

    /// Makes the descriptor wait for the next signal. Drain first and look at what was signalled then: the other order
    /// loses a signal.
    package func drain() {
        let result = cl_eventfd_drain(descriptor)
        precondition(result == 0, "eventfd cannot be read")
    }
}
