import CLinux
import WALFormat

/// The one error of this room: a system call that failed, and on what.
package struct SystemError: Error, Equatable, Sendable {
    /// `errno` of Linux, errno(3).
    package let code: Int32
    /// The call as its man page is named, without the section.
    package let call: String
    /// The object as people see it (``PathText``); nil when there is none, or when it could not be found out.
    package let path: String?

    package init(code: Int32, call: String, path: String? = nil) {
        self.code = code
        self.call = call
        self.path = path
    }

    /// No object of that name, or a component on the way to it is not a directory.
    package var isNotFound: Bool { code == Errno.noEntry || code == Errno.notDirectory }
    package var isNoSpace: Bool { code == Errno.noSpace || code == Errno.quota }
    package var isExisting: Bool { code == Errno.exists || code == Errno.notEmpty }
    /// Somebody may not, as opposed to something is not.
    package var isDenied: Bool { code == Errno.access || code == Errno.notPermitted }
    /// More names of one file, or a larger file, than the file system can have, or an object that it does not have: a longer
    /// target of a symlink, another number of a device.
    package var isBeyondFileSystem: Bool {
        code == Errno.tooManyLinks || code == Errno.tooBig
            || (code == Errno.nameTooLong || code == Errno.invalid) && ["symlinkat", "mknodat"].contains(call)
    }
    /// Something is mounted there.
    package var isBusy: Bool { code == Errno.busy }
    /// A symlink where this room follows none, or (RESOLVE_BENEATH) a path that leaves its directory.
    package var isSymlinkOrEscape: Bool { code == Errno.loop || code == Errno.crossDevice }
    /// The file system or the kernel does not have the feature.
    package var isUnsupported: Bool {
        code == Errno.notSupported || code == Errno.noCall || code == Errno.notTypewriter
    }
    /// The process or the machine has no more descriptors.
    package var isDescriptorLimit: Bool { code == Errno.processFiles || code == Errno.systemFiles }
    /// No more inotify watches for this user (`fs.inotify.max_user_watches`); inotify_add_watch(2) says it with ENOSPC.
    package var isWatchLimit: Bool { code == Errno.noSpace && call == "inotify_add_watch" }
}

/// The numbers that this package tells apart, equal on all architectures of Linux that Swift runs on.
package enum Errno {
    package static let notPermitted: Int32 = 1
    package static let noEntry: Int32 = 2
    package static let inputOutput: Int32 = 5
    package static let again: Int32 = 11
    package static let access: Int32 = 13
    package static let busy: Int32 = 16
    package static let exists: Int32 = 17
    package static let crossDevice: Int32 = 18
    package static let notDirectory: Int32 = 20
    package static let isDirectory: Int32 = 21
    package static let invalid: Int32 = 22
    package static let systemFiles: Int32 = 23
    package static let processFiles: Int32 = 24
    package static let notTypewriter: Int32 = 25
    package static let tooBig: Int32 = 27
    package static let noSpace: Int32 = 28
    package static let tooManyLinks: Int32 = 31
    package static let range: Int32 = 34
    package static let nameTooLong: Int32 = 36
    package static let noCall: Int32 = 38
    package static let notEmpty: Int32 = 39
    package static let loop: Int32 = 40
    package static let noData: Int32 = 61
    package static let notSupported: Int32 = 95
    package static let stale: Int32 = 116
    package static let quota: Int32 = 122
    package static let noSuchAddress: Int32 = 6
}

extension SystemError: CustomStringConvertible {
    /// The kernel's words for an error number, strerror(3).
    package static func text(of code: Int32) -> String { String(cString: cl_error_text(code)) }

    package var description: String {
        let reason = SystemError.text(of: code)
        let object = path.map { " '\($0)'" } ?? ""
        return "cannot \(SystemError.verbs[call] ?? "use")\(object): \(reason) (\(call))"
    }

    private static let verbs: [String: String] = [
        "open": "open", "openat": "open", "openat2": "open", "close": "close", "statx": "examine",
        "listxattr": "read the extended attributes of", "getxattr": "read an extended attribute of",
        "setxattr": "set an extended attribute of", "removexattr": "remove an extended attribute of",
        "mknodat": "create special file", "getdents64": "list", "mkdirat": "create directory",
        "symlinkat": "create symlink",
        "readlinkat": "read symlink", "linkat": "link", "unlinkat": "remove", "renameat2": "rename",
        "fchownat": "change the owner of", "fchown": "change the owner of", "fchmodat": "change the mode of",
        "fchmod": "change the mode of", "utimensat": "set the times of", "futimens": "set the times of",
        "pread": "read", "read": "read", "pwrite": "write", "pwritev": "write", "ftruncate": "set the size of",
        "fsync": "sync", "fdatasync": "sync", "syncfs": "sync the file system of", "fallocate": "allocate in",
        "copy_file_range": "copy to", "ioctl_ficlone": "clone to", "lseek": "seek in", "flock": "lock",
        "inotify_init1": "start watching", "inotify_add_watch": "watch", "inotify_rm_watch": "stop watching",
        "fanotify_init": "start watching file systems", "fanotify_mark": "watch the file system of",
        "name_to_handle_at": "find the handle of", "eventfd": "create an event counter", "poll": "wait",
        "fstatvfs": "examine the file system of",
        "getrlimit": "read or raise the limit of open files", "pthread_create": "start a thread",
        "gethostname": "read the host's name",
    ]
}

/// Maps what the shim returns: the value where it is 0 or more, else the error. The only place that does. `path` is
/// only asked for when there is an error to report.
@inline(__always)
@discardableResult
func check<Value: SignedInteger & FixedWidthInteger>(
    _ result: Value, _ call: StaticString, _ path: @autoclosure () -> String?
) throws(SystemError) -> Value {
    guard result >= 0 else { throw SystemError(code: Int32(-result), call: "\(call)", path: path()) }
    return result
}

/// What an open descriptor refers to now, from `/proc` (proc(5)). For messages and logs, not for opening again.
package func descriptorPath(_ descriptor: Int32) -> [UInt8]? {
    withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
        let count = cl_descriptor_path(descriptor, buffer.baseAddress, buffer.count)
        return count < 0 ? nil : Array(buffer.prefix(Int(count)))
    }
}

func describe(_ descriptor: Int32) -> String? {
    descriptorPath(descriptor).map { PathText.escaped($0) }
}

func describe(_ directory: Int32, _ name: some Collection<UInt8>) -> String {
    let above = describe(directory) ?? "?"
    return (above == "/" ? "" : above) + "/" + PathText.escaped(name)
}
