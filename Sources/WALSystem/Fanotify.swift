import CLinux
import WALFormat

/// A directory as the kernel names it in events, name_to_handle_at(2): a digest of its `struct file_handle`. It follows
/// the directory through renames, and is not given again.
package struct FileHandleKey: Hashable, Sendable {
    fileprivate var digest: Digest

    /// `EOPNOTSUPP` where the file system has no handles.
    package init(of directory: Directory) throws(SystemError) {
        // MAX_HANDLE_SZ and the head.
        let capacity = 128 + 8
        var digest = Digest.zero
        let count = withUnsafeTemporaryAllocation(byteCount: capacity, alignment: 8) { buffer in
            let count = cl_file_handle(directory.descriptor, buffer.baseAddress, buffer.count)
            if count > 0 { digest = Digest(of: UnsafeRawBufferPointer(rebasing: buffer[..<Int(count)])) }
            return count
        }
        try check(count, "name_to_handle_at", describe(directory.descriptor))
        self.digest = digest
    }

    fileprivate init(bytes: UnsafeRawBufferPointer) {
        digest = Digest(of: bytes)
    }
}

/// One event of a whole file system, fanotify(7).
package struct FanotifyEvent: Hashable, Sendable {
    /// fanotify's bits are those of inotify, as far as both have them.
    package var mask: InotifyMask
    /// Nil for an overflow.
    package var directory: FileHandleKey?
    /// The name in the directory; empty when the event is of the directory itself.
    package var name: [UInt8]
}

/// A fanotify instance that tells of every directory of a file system, however many there are, whoever changes them.
/// Needs CAP_SYS_ADMIN and Linux 5.9: `EPERM`, `EINVAL`, `ENOSYS`. Reading never blocks; wait for ``descriptor``.
package final class Fanotify: Sendable {
    package let descriptor: Int32

    package init() throws(SystemError) {
        descriptor = try check(cl_fanotify_create(), "fanotify_init", nil)
    }

    deinit {
        _ = cl_close(descriptor)
    }

    /// Of what ``InotifyMask/changes`` has, all that a directory's own events and those of its entries are made of.
    private static let mask: InotifyMask = [
        .modify, .attributes, .closeWrite, .movedFrom, .movedTo, .create, .delete,
    ]

    /// Watches the file system that holds the directory, fanotify_mark(2). `EXDEV` and `EOPNOTSUPP` where that has no
    /// identity or no handles.
    package func watchFilesystem(of directory: Directory) throws(SystemError) {
        try check(
            cl_fanotify_watch_filesystem(descriptor, directory.descriptor, UInt64(Self.mask.rawValue)), "fanotify_mark",
            describe(directory.descriptor))
    }

    /// Takes as many events as there are and fit, none when nothing has happened. They are read from the buffer while
    /// they are iterated, so it must stay as it is until then.
    ///
    /// - Parameter buffer: at least 4 KiB, so that every event fits.
    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> FanotifyEvents {
        precondition(buffer.count >= 4096, "an event may not fit into the buffer")
        let count = cl_read_stream(descriptor, buffer.baseAddress, buffer.count)
        if count == Int64(-Errno.again) { return FanotifyEvents(bytes: UnsafeRawBufferPointer(start: nil, count: 0)) }
        let filled = Int(try check(count, "read", "fanotify"))
        return FanotifyEvents(bytes: UnsafeRawBufferPointer(rebasing: buffer[..<filled]))
    }
}

/// The events in a buffer that the kernel has filled: `struct fanotify_event_metadata` of 24 bytes (length 4, version 1,
/// reserved 1, length of the head 2, mask 8, descriptor 4, pid 4), and records behind it: type 1, padding 1, length 2,
/// and in those with a handle fsid 8, `struct file_handle` (bytes 4, type 4, and the handle) and a name with a NUL.
package struct FanotifyEvents: Sequence, IteratorProtocol {
    private var rest: UnsafeRawBufferPointer

    init(bytes: UnsafeRawBufferPointer) {
        rest = bytes
    }

    package mutating func next() -> FanotifyEvent? {
        let headBytes = 24
        guard rest.count >= headBytes else { return nil }
        let length = Int(rest.loadUnaligned(as: UInt32.self))
        let head = Int(rest.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
        precondition(length >= head && head >= headBytes && length <= rest.count, "fanotify event out of bounds")
        let mask = rest.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        var event = FanotifyEvent(
            mask: InotifyMask(rawValue: UInt32(truncatingIfNeeded: mask)), directory: nil, name: [])
        var records = UnsafeRawBufferPointer(rebasing: rest[head..<length])
        while records.count >= 4 {
            let size = Int(records.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            precondition(size >= 4 && size <= records.count, "fanotify record out of bounds")
            Self.read(UnsafeRawBufferPointer(rebasing: records[..<size]), into: &event)
            records = UnsafeRawBufferPointer(rebasing: records[size...])
        }
        rest = UnsafeRawBufferPointer(rebasing: rest[length...])
        return event
    }

    private static func read(_ record: UnsafeRawBufferPointer, into event: inout FanotifyEvent) {
        // FAN_EVENT_INFO_TYPE_DFID_NAME, and without a name FAN_EVENT_INFO_TYPE_DFID.
        let start = 12
        guard record[0] == 2 || record[0] == 3, record.count >= start + 8 else { return }
        let end = start + 8 + Int(record.loadUnaligned(fromByteOffset: start, as: UInt32.self))
        precondition(end <= record.count, "fanotify handle out of bounds")
        event.directory = FileHandleKey(bytes: UnsafeRawBufferPointer(rebasing: record[start..<end]))
        let name = record[0] == 2 ? Array(record[end...].prefix { $0 != 0 }) : []
        event.name = name == [0x2E] ? [] : name
    }
}
