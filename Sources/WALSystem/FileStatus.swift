import CLinux
import WALFormat

/// Which object a name means, as far as the file system can tell: an inode number is used again after a removal, the
/// pair of it and the birth time is not (as long as the clock does not go back).
package struct FileIdentity: Hashable, Sendable {
    package var ino: UInt64
    /// Nanoseconds since 1970, held at the ends of Int64; 0 where the file system keeps no birth time.
    package var birthNanos: Int64

    package init(ino: UInt64, birthNanos: Int64) {
        self.ino = ino
        self.birthNanos = birthNanos
    }
}

/// What statx(2) says of an object.
package struct FileStatus: Hashable, Sendable {
    /// `S_IFMT` part of the mode.
    package var fileType: UInt16
    /// Permission bits with setuid, setgid and sticky: 0...0o7777.
    package var mode: UInt16
    package var uid: UInt32
    package var gid: UInt32
    /// Bytes; of a symlink, of its target.
    package var size: UInt64
    package var mtime: Timestamp
    package var ctime: Timestamp
    /// Zero where the file system does not keep it.
    package var btime: Timestamp
    package var ino: UInt64
    /// makedev(3) of the device that holds the file system.
    package var dev: UInt64
    package var linkCount: UInt32
    /// Blocks of 512 bytes.
    package var allocatedBlocks: UInt64
    /// The root of a mount, so a file system begins here. False on kernels before 5.8.
    package var isMountRoot: Bool
    /// Immutable or append-only, chattr(1).
    package var isImmutable: Bool
    /// Of a device node; zero otherwise.
    package var device: DeviceNumber
    /// None until somebody reads them: ``Directory/attributes(of:)``. statx(2) does not tell them.
    package var attributes = Attributes.none

    /// Nil for a socket, which nobody can replicate: it is the end of somebody's connection.
    package var kind: Kind? {
        switch fileType {
        case 0o100000: .file
        case 0o040000: .directory
        case 0o120000: .symlink
        case 0o010000: .fifo
        case 0o020000: .characterDevice
        case 0o060000: .blockDevice
        default: nil
        }
    }

    package var identity: FileIdentity { FileIdentity(ino: ino, birthNanos: btime.clampedNanoseconds) }

    package var metadata: Metadata {
        Metadata(mode: mode, uid: uid, gid: gid, mtime: mtime, attributes: attributes)
    }

    init(_ raw: cl_status) {
        fileType = raw.mode & 0o170000
        mode = raw.mode & 0o7777
        uid = raw.uid
        gid = raw.gid
        size = raw.size
        mtime = Timestamp(seconds: raw.mtime_seconds, nanoseconds: raw.mtime_nanoseconds)
        ctime = Timestamp(seconds: raw.ctime_seconds, nanoseconds: raw.ctime_nanoseconds)
        btime = Timestamp(seconds: raw.btime_seconds, nanoseconds: raw.btime_nanoseconds)
        ino = raw.ino
        dev = raw.device
        linkCount = raw.link_count
        allocatedBlocks = raw.blocks
        isMountRoot = raw.is_mount_root != 0
        isImmutable = raw.is_immutable != 0
        device = DeviceNumber(major: raw.node_major, minor: raw.node_minor)
    }
}

/// Bytes and inodes of a file system, statvfs(3).
package struct FilesystemSpace: Hashable, Sendable {
    package var totalBytes: UInt64
    /// What this process may still use; the reserve of root is not in it.
    package var availableBytes: UInt64
    /// 0 on file systems that do not count them.
    package var availableInodes: UInt64
    /// What it hands out at a time.
    package var blockBytes: UInt64
}
