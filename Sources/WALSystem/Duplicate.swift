import CLinux

/// A second descriptor of the same open file for somebody who wants to own one (`F_DUPFD_CLOEXEC`, fcntl(2)).
package func duplicateDescriptor(_ descriptor: Int32) throws(SystemError) -> Int32 {
    try check(cl_duplicate(descriptor), "fcntl", nil)
}
