import CLinux

/// The clocks of the machine, clock_gettime(2).
package enum Clock {
    /// Nanoseconds since 1970; goes back when somebody sets it.
    package static func realtimeNanoseconds() -> Int64 {
        cl_realtime_nanoseconds()
    }

    /// Nanoseconds since some start; never goes back, stands still while the machine sleeps.
    package static func monotonicNanoseconds() -> UInt64 {
        cl_monotonic_nanoseconds()
    }
}

/// Bytes that nobody can guess, getrandom(2). Waits, once after the machine's start, until the kernel has them.
package func randomBytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        // It fails only on kernels before 3.17, which this package does not run on.
        let result = count == 0 ? 0 : cl_random(buffer.baseAddress, count)
        precondition(result == 0, "getrandom is not there")
        filled = count
    }
}
