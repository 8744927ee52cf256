import Glibc
import Testing
import WALFormat
import WALSystem

@Suite struct ExtendedAttributesTests {
    /// All their names take more than the 64 KiB that listxattr(2) gives.
    @Test(.enabled(if: geteuid() == 0, "needs root, to mount a file system"))
    func moreThanCanBeListed() throws {
        try withScratch { _, path in
            try #require(mount("none", path, "tmpfs", 0, nil) == 0)
            defer { umount2(path, 2) }
            let directory = try Directory.open(path: path)
            try directory.put("file", "content")
            let names = (0..<300).map { "user.\($0)" + String(repeating: "x", count: 240) }
            let wanted = try Attributes(names.map { (Array($0.utf8), [1]) })
            let unset = try AttributeTarget(directory, "file").set(wanted, isNew: true, isPrivileged: true)
            // Linux before 6.6 keeps no such attributes there.
            guard unset.isEmpty else {
                #expect(unset.allSatisfy { $0.error.isUnsupported })
                return
            }
            let found = try directory.attributes(of: "file")
            #expect(found.attributes == .none && found.isTooLarge)
        }
    }
}
