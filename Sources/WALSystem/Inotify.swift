import CLinux
import WALFormat

/// One event, inotify(7).
package struct InotifyEvent: Hashable, Sendable {
    /// The watch; -1 for an overflow.
    package var wd: Int32
    package var mask: InotifyMask
    /// The same number for both halves of a rename, else 0.
    package var cookie: UInt32
    /// The name in the watched directory; empty when the event is of the watched object itself.
    package var name: [UInt8]

    package init(wd: Int32, mask: InotifyMask, cookie: UInt32, name: [UInt8]) {
        self.wd = wd
        self.mask = mask
        self.cookie = cookie
        self.name = name
    }
}

/// `IN_…` of inotify(7).
package struct InotifyMask: OptionSet, Hashable, Sendable {
    package var rawValue: UInt32

    package init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    package static let access = InotifyMask(rawValue: 0x1)
    package static let modify = InotifyMask(rawValue: 0x2)
    package static let attributes = InotifyMask(rawValue: 0x4)
    package static let closeWrite = InotifyMask(rawValue: 0x8)
    package static let closeNoWrite = InotifyMask(rawValue: 0x10)
    package static let open = InotifyMask(rawValue: 0x20)
    package static let movedFrom = InotifyMask(rawValue: 0x40)
    package static let movedTo = InotifyMask(rawValue: 0x80)
    package static let create = InotifyMask(rawValue: 0x100)
    package static let delete = InotifyMask(rawValue: 0x200)
    package static let deleteSelf = InotifyMask(rawValue: 0x400)
    package static let moveSelf = InotifyMask(rawValue: 0x800)

    // Only in events.
    package static let unmount = InotifyMask(rawValue: 0x2000)
    package static let overflow = InotifyMask(rawValue: 0x4000)
    package static let ignored = InotifyMask(rawValue: 0x8000)
    package static let isDirectory = InotifyMask(rawValue: 0x4000_0000)

    // Only in requests.
    package static let onlyDirectory = InotifyMask(rawValue: 0x0100_0000)
    /// No events for children that have no name any more.
    package static let excludeUnlinked = InotifyMask(rawValue: 0x0400_0000)
    /// `EEXIST` rather than a changed mask when the object is watched already.
    package static let maskCreate = InotifyMask(rawValue: 0x1000_0000)

    /// Everything that can change what is replicated of a directory and its entries.
    package static let changes: InotifyMask = [
        .modify, .attributes, .closeWrite, .movedFrom, .movedTo, .create, .delete, .deleteSelf, .moveSelf,
        .excludeUnlinked,
    ]
}

/// An inotify instance. Reading never blocks; wait for ``descriptor`` with ``Poller``.
package final class Inotify: Sendable {
    package let descriptor: Int32

    /// inotify_init1(2). `EMFILE` also at the user's limit of instances (`fs.inotify.max_user_instances`).
    package init() throws(SystemError) {
        descriptor = try check(cl_inotify_create(), "inotify_init1", nil)
    }

    // Events that nobody read are lost with the instance, whether or not closing reports an error.
    deinit {
        _ = cl_close(descriptor)
    }

    /// Watches the directory that the handle has open, wherever it is by now: the path given to the kernel is the
    /// handle's own entry in `/proc`. That entry has to be followed, so `IN_DONT_FOLLOW` cannot be asked for and is not
    /// needed: the handle was opened without following a symlink.
    ///
    /// - Returns: the watch descriptor. The same object has the same one, however often it is added.
    /// - Throws: ``SystemError/isWatchLimit`` at the user's limit; `ENOENT` where `/proc` is not mounted.
    package func add(_ directory: Directory, mask: InotifyMask = .changes) throws(SystemError) -> Int32 {
        let requested = mask.union(.onlyDirectory).rawValue
        let result = cl_inotify_add(descriptor, directory.descriptor, requested)
        return try check(result, "inotify_add_watch", describe(directory.descriptor))
    }

    /// Ends a watch; one last ``InotifyMask/ignored`` event of it follows. `EINVAL` when the kernel had ended it
    /// before.
    package func remove(_ wd: Int32) throws(SystemError) {
        try check(cl_inotify_remove(descriptor, wd), "inotify_rm_watch", nil)
    }

    /// Takes as many events as there are and fit, none when nothing has happened. They are read from the buffer while
    /// they are iterated, so it must stay as it is until then.
    ///
    /// - Parameter buffer: at least 4 KiB, so that every event fits.
    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> InotifyEvents {
        precondition(buffer.count >= 4096, "an event may not fit into the buffer")
        let count = cl_read_stream(descriptor, buffer.baseAddress, buffer.count)
        if count == Int64(-Errno.again) { return InotifyEvents(bytes: UnsafeRawBufferPointer(start: nil, count: 0)) }
        let filled = Int(try check(count, "read", "inotify"))
        return InotifyEvents(bytes: UnsafeRawBufferPointer(rebasing: buffer[..<filled]))
    }

    /// The events of one read of 64 KiB, for those who do not keep a buffer.
    package func readEvents() throws(SystemError) -> [InotifyEvent] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
        defer { buffer.deallocate() }
        return Array(try read(into: buffer))
    }
}

/// The events in a buffer that the kernel has filled: `struct inotify_event`, so wd 4, mask 4, cookie 4, length 4, and
/// a name padded with NULs.
package struct InotifyEvents: Sequence, IteratorProtocol {
    private var rest: UnsafeRawBufferPointer

    init(bytes: UnsafeRawBufferPointer) {
        rest = bytes
    }

    package mutating func next() -> InotifyEvent? {
        let headBytes = 16
        guard rest.count >= headBytes else { return nil }
        let length = Int(rest.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        precondition(headBytes + length <= rest.count, "inotify event out of bounds")
        let event = InotifyEvent(
            wd: rest.loadUnaligned(fromByteOffset: 0, as: Int32.self),
            mask: InotifyMask(rawValue: rest.loadUnaligned(fromByteOffset: 4, as: UInt32.self)),
            cookie: rest.loadUnaligned(fromByteOffset: 8, as: UInt32.self),
            name: Array(rest[headBytes..<headBytes + length].prefix { $0 != 0 }))
        rest = UnsafeRawBufferPointer(rebasing: rest[(headBytes + length)...])
        return event
    }
}
