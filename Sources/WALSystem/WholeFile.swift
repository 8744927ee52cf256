import WALFormat

/// The content of a small file.
///
/// Throws `EFBIG` when it is longer than `limit` bytes, without having read more than that.
package func readWholeFile(in directory: Directory, _ name: Name, limit: Int) throws(SystemError) -> [UInt8] {
    let file = try directory.openFile(name)
    let bytes = try file.read(count: min(limit, Int(clamping: try file.size())) + 1, at: 0)
    // One byte more than the size was asked for: a file that grew meanwhile is read again in larger steps.
    var all = bytes
    while all.count <= limit {
        let more = try file.read(count: min(limit + 1 - all.count, 64 << 10), at: UInt64(all.count))
        if more.isEmpty { break }
        all += more
    }
    guard all.count <= limit else {
        throw SystemError(code: Errno.tooBig, call: "pread", path: describe(file.descriptor))
    }
    try file.close()
    return all
}

/// Replaces or creates a file so that a crash at any moment leaves the old content or the new, and that after the
/// return it is the new: a temporary file is written, synced, renamed over the name, and the directory is synced.
///
/// A crash may leave a temporary file: its name starts with ``temporaryNamePrefix``.
///
/// - Parameter permissions: 0...0o7777, exactly: no umask.
package func durableReplace(
    in directory: Directory, _ name: Name, _ bytes: [UInt8], permissions: UInt16 = 0o600
) throws(SystemError) {
    let temporary = temporaryName()
    do {
        let file = try directory.createFile(temporary, permissions: 0o600, exclusive: true)
        try file.write(bytes, at: 0)
        try file.setMode(permissions)
        try file.sync()
        try file.close()
        try directory.rename(temporary, to: directory, name)
    } catch {
        // The error to report is the first one.
        try? directory.unlink(temporary)
        throw error
    }
    try directory.sync()
}

/// Files of this prefix in a directory of ours are left over from a crash, and may be removed when nobody else works
/// there.
package let temporaryNamePrefix: StaticString = ".walship-temporary-"

/// A name that nobody else has: the prefix and 128 random bits.
package func temporaryName() -> Name {
    let digits = Array("0123456789abcdef".utf8)
    let random = randomBytes(16).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
    return Name(trusted: temporaryNamePrefix.withUTF8Buffer { Array($0) } + random)
}

extension Name {
    /// Whether it is one of ``temporaryName()``: a leftover of a crash, for whoever owns the folder.
    package var isTemporary: Bool { bytes.starts(with: temporaryNamePrefix.withUTF8Buffer { Array($0) }) }
}
