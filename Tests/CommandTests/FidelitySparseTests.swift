import Glibc
import Testing

/// Files that are not what their size says, and files of sizes that some programs do not expect.
@Suite struct FidelitySparseTests {
    private static let megabyte = 1 << 20

    private func noise(_ count: Int, _ seed: UInt8 = 1) -> [UInt8] {
        var state = UInt64(seed)
        return (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(truncatingIfNeeded: state >> 56)
        }
    }

    private func blocks(_ path: String, _ name: Bytes) throws -> Int {
        Int(try Do.status(Bytes(path) / name).st_blocks)
    }

    @Test func holesStayHoles() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.write(root / "all hole", [])
                try Do.truncate(root / "all hole", 10 * Self.megabyte + 1)
                try Do.write(root / "islands", noise(4096))
                try Do.write(root / "islands", noise(70_000, 2), at: 3 * Self.megabyte)
                try Do.write(root / "islands", noise(10, 3), at: 9 * Self.megabyte)
                try Do.truncate(root / "islands", 20 * Self.megabyte + 5)
                try Do.write(root / "solid", noise(8 * Self.megabyte))
                // Zeros that were written are data, and stay it.
                try Do.write(root / "zeros", [UInt8](repeating: 0, count: Self.megabyte))
                try Do.write(root / "small hole", noise(100), at: 8192)
            }
            let replica = try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("punched") { root in
                try Do.punch(root / "solid", Self.megabyte, 2 * Self.megabyte)
                try Do.punch(root / "islands", 3 * Self.megabyte, 4096)
                try Do.punch(root / "small hole", 0, 8192)
            }
            #expect(try blocks(replica.folder, "solid") <= blocks(mirrored.source, "solid") + 16)
            // A hole is punched without a change of size, and with the old time set again.
            try mirrored.step("punched behind a time that is set back") { root in
                let before = try Do.status(root / "solid").st_mtim
                try Do.punch(root / "solid", 5 * Self.megabyte, Self.megabyte)
                try Do.setTime(root / "solid", before.tv_sec, before.tv_nsec)
            }
            try mirrored.step("filled again, and a byte in the midst of a hole") { root in
                try Do.write(root / "solid", noise(Self.megabyte, 9), at: 3 * Self.megabyte / 2)
                try Do.write(root / "all hole", [1], at: 5 * Self.megabyte)
            }
            try mirrored.step("grown by a hole, and cut within one") { root in
                try Do.truncate(root / "solid", 30 * Self.megabyte)
                try Do.truncate(root / "islands", 5 * Self.megabyte)
            }
            try mirrored.step("new ones") { root in
                try Do.write(root / "late", noise(5 * Self.megabyte), at: 40 * Self.megabyte)
                try Do.truncate(root / "late", 100 * Self.megabyte)
                try Do.write(root / "late hole", [])
                try Do.truncate(root / "late hole", 64 * Self.megabyte)
            }
            try mirrored.step("punched all through") { root in
                try Do.punch(root / "late", 0, 100 * Self.megabyte)
                try Do.punch(root / "solid", 0, 30 * Self.megabyte)
            }
            #expect(try blocks(replica.folder, "late") <= 16)
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    /// Some data beyond what 32 bits can count, at first and later.
    @Test func filesOverFourGibibytes() throws {
        try withWorld { world in
            let gibibyte = 1 << 30
            let mirrored = try Mirrored(world) { root in
                try Do.write(root / "large", noise(100_000), at: 4 * gibibyte - 50_000)
                try Do.write(root / "large", noise(5000, 2), at: 6 * gibibyte + 7)
                try Do.truncate(root / "large", 7 * gibibyte + 3)
            }
            try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("patched and appended to, beyond the border") { root in
                try Do.write(root / "large", noise(5000, 3), at: 5 * gibibyte)
                try Do.write(root / "large", noise(5000, 4), at: 7 * gibibyte + 3)
            }
            try mirrored.step("a new one") { root in
                try Do.write(root / "late", noise(3 * Self.megabyte), at: 9 * gibibyte)
            }
            try mirrored.step("moved, cut and punched") { root in
                try Do.rename(root / "late", root / "later")
                try Do.truncate(root / "large", 4 * gibibyte + 1)
                try Do.punch(root / "later", 9 * gibibyte, Self.megabyte)
            }
            try mirrored.expectEqual("at last")
            try mirrored.stop()
        }
    }

    /// What a process has read and written by system calls, proc(5).
    private func traffic(_ node: Node) throws -> Int {
        let lines = try text(ofFile: "/proc/\(node.child.pid)/io").split(separator: "\n")
        return lines.filter { $0.hasPrefix("rchar") || $0.hasPrefix("wchar") }
            .reduce(0) { $0 + (Int($1.filter(\.isNumber)) ?? 0) }
    }

    @Test func aTebibyteOfHoleCostsLittle() throws {
        try withWorld { world in
            let tebibyte = 1 << 40
            let mirrored = try Mirrored(world) { root in
                try Do.write(root / "image", noise(10_000), at: tebibyte / 2)
                try Do.truncate(root / "image", tebibyte)
            }
            let replica = try mirrored.replica()
            try mirrored.expectEqual("at first")
            try mirrored.step("a block more, and another image") { root in
                try Do.write(root / "image", noise(10_000, 2), at: tebibyte / 4)
                try Do.write(root / "second", [])
                try Do.truncate(root / "second", 3 * tebibyte)
            }
            try mirrored.step("cut", isVerified: true) { try Do.truncate($0 / "image", tebibyte / 2 + 100) }
            for node in [mirrored.primary, replica] {
                let bytes = try traffic(node)
                #expect(bytes < 64 * Self.megabyte, "\(node.child.command): \(bytes) bytes read and written")
                #expect(node.child.peakResidentBytes < 200 << 20)
            }
            #expect(try blocks(replica.folder, "image") < 128)
            try mirrored.stop()
        }
    }

    /// An image of a disk: most of it is holes, and what changes is little.
    @Test func aSparseFileIsPatched() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                for number in 0..<20 {
                    try Do.write(root / "image", noise(Self.megabyte, UInt8(number)), at: number * 5 * Self.megabyte)
                }
                try Do.truncate(root / "image", 200 * Self.megabyte)
            }
            let replica = try mirrored.replica()
            try mirrored.expectEqual("at first")
            let inode = try Do.status(Bytes(replica.folder) / "image").st_ino
            let before = try traffic(replica)
            try mirrored.step("in its data") {
                try Do.write($0 / "image", noise(4096, 77), at: 35 * Self.megabyte + 4096)
            }
            try mirrored.step("in a hole") { try Do.write($0 / "image", noise(4096, 78), at: 150 * Self.megabyte) }
            try mirrored.step("longer, by a hole and by data") { root in
                try Do.truncate(root / "image", 300 * Self.megabyte)
                try Do.write(root / "image", noise(100), at: 400 * Self.megabyte)
            }
            try mirrored.step("shorter") { try Do.truncate($0 / "image", 33 * Self.megabyte) }
            let bytes = try traffic(replica) - before
            #expect(bytes < 8 * Self.megabyte, "\(bytes) bytes read and written")
            #expect(try Do.status(Bytes(replica.folder) / "image").st_ino == inode)
            try mirrored.step("punched", isVerified: true) { try Do.punch($0 / "image", 0, 20 * Self.megabyte) }
            try mirrored.stop()
        }
    }

    /// Where the file system ends: 16 TiB less a block on ext4 with blocks of 4 KiB.
    @Test func theLargestFileOfTheFileSystem() throws {
        try withWorld { world in
            let largest = (1 << 44) - 4096
            let folder = try world.mountExt4("disk", megabytes: 600)
            try Do.makeDirectory(Bytes(folder) / "source")
            let mirrored = try Mirrored(world, source: folder + "/source") { root in
                try Do.write(root / "largest", [1, 2, 3], at: largest - 3)
            }
            try mirrored.replica("disk/replica")
            try mirrored.expectEqual("at first")
            try mirrored.step("changed at its end", isVerified: true) {
                try Do.write($0 / "largest", [9], at: largest - 1)
            }
            try mirrored.stop()
        }
    }
}
