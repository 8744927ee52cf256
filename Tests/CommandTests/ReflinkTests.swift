import Foundation
import Glibc
import Synchronization
import Testing
import WALSystem
import WALTestKit

/// A large file that changes in part, where the file system has clones and where it has none.
@Suite(.hangLimit) struct ReflinkTests {
    enum Kind: String, CaseIterable {
        case xfs, btrfs, ext4

        var command: [String] {
            switch self {
            case .xfs: ["mkfs.xfs", "-q", "-m", "reflink=1"]
            case .btrfs: ["mkfs.btrfs", "-q"]
            case .ext4: ["mkfs.ext4", "-q", "-m", "0"]
            }
        }
    }

    private static let size = 24 << 20
    private static let places = [1 << 20, 12 << 20, 23 << 20]

    /// Bytes that no two blocks have in common.
    private static func content() -> [UInt8] {
        var state: UInt64 = 1
        return (0..<size / 8).flatMap { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return withUnsafeBytes(of: state, Array.init)
        }
    }

    /// The same version at each of the places.
    private static func write(_ version: Int, _ path: Bytes) throws {
        // One write at a time: but the capture sees the file only when it is quiet.
        for place in places { try Do.write(path, [UInt8](repeating: UInt8(version), count: 6000), at: place) }
    }

    private static func versions(_ file: Int32) -> Set<UInt8> {
        var found: Set<UInt8> = []
        for place in places {
            var bytes = [UInt8](repeating: 0, count: 6000)
            guard pread(file, &bytes, bytes.count, off_t(place)) == bytes.count else { return [] }
            found.formUnion(bytes)
        }
        return found
    }

    /// Bytes that the process had written to storage, proc(5).
    private func written(_ node: Node) throws -> Int {
        let line = try text(ofFile: "/proc/\(node.child.pid)/io").split(separator: "\n").first { $0.hasPrefix("wchar") }
        return Int(line?.filter(\.isNumber) ?? "") ?? 0
    }

    @Test(arguments: Kind.allCases) func aLargeFileThatChangesInPart(_ kind: Kind) throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { root in
                try Do.write(root / "large", Self.content())
                try Self.write(1, root / "large")
                try Do.link(root / "large", root / "twin")
            }
            _ = try world.mountImage("replica", megabytes: 700, kind.command)
            let replica = try mirrored.replica()
            // Holes and link counts of directories are another's own on these.
            mirrored.oracle = { $0.comparesHoles = false }
            try mirrored.expectEqual("at first")
            let shown = Bytes(replica.folder) / "large"
            let first = try Do.status(shown).st_ino
            // Who reads while it is patched.
            let isStopped = Atomic<Bool>(false)
            let mixes = Atomic<Int>(0)
            let reads = Atomic<Int>(0)
            let reader = try WorkerThread.start(name: "reader") {
                while !isStopped.load(ordering: .relaxed) {
                    guard let file = try? Do.openFile(shown) else { continue }
                    let versions = Self.versions(file)
                    close(file)
                    reads.add(1, ordering: .relaxed)
                    if versions.count != 1 { mixes.add(1, ordering: .relaxed) }
                }
            }
            let before = try written(replica)
            for version in 2...9 {
                try Self.write(version, mirrored.root / "large")
                try world.catchUp(mirrored.primary, [replica])
            }
            isStopped.store(true, ordering: .relaxed)
            reader.join()
            let bytes = try written(replica) - before
            #expect(bytes < Self.size / 2, "\(bytes) bytes written")
            #expect(reads.load(ordering: .relaxed) > 10)
            // The clone is another object, put over the old one; a patch in place is the same.
            let last = try Do.status(shown).st_ino
            if kind == .ext4 {
                #expect(last == first)
            } else {
                #expect(last != first)
                #expect(mixes.load(ordering: .relaxed) == 0, "\(mixes.load(ordering: .relaxed)) half patched")
            }
            try mirrored.expectEqual("patched")
            try mirrored.step("longer, shorter, and with another time", isVerified: true) { root in
                try Do.write(root / "large", [7, 7, 7], at: Self.size + 100_000)
                try mirrored.expectEqual("longer")
                try Do.truncate(root / "large", 13 << 20)
                try Do.setTime(root / "large", 5, 5)
            }
            // Killed again and again in the middle of it.
            for version in 10..<16 {
                try Do.write(mirrored.root / "large", [UInt8](repeating: UInt8(version), count: 300_000), at: 2_000_000)
                _ = try world.mark(mirrored.primary)
                try replica.crash()
                try replica.restart()
            }
            try mirrored.expectEqual("after crashes", isVerified: true)
            try mirrored.stop()
        }
    }
}
