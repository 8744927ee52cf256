import Foundation
import Glibc
import Testing
import WALTestKit

/// Something that happens to a primary with one replica, during which either may be killed.
struct CrashScenario: Sendable, CustomTestStringConvertible {
    typealias Step = @Sendable (Bytes) throws -> Void

    let name: String
    /// Of both daemons, beside those that make them a pair.
    var primaryArguments: [String] = []
    var replicaArguments: [String] = []
    /// The first sync is what is interrupted. Else it is over, and both are down, when the scenario begins.
    var isFirstSync = false
    /// The tree before the first sync.
    var before: Step = CrashScenario.tree
    /// While both are down: to the primary's tree, then to the replica's.
    var offline: Step = { _ in }
    var replicaOffline: Step = { _ in }
    /// Primary and replica run.
    var change: Step = { _ in }
    /// Arguments that the primary has from `offline` on.
    var laterArguments: [String] = []

    var testDescription: String { name }

    init(_ name: String, _ change: @escaping Step = { _ in }) {
        self.name = name
        self.change = change
    }

    func with(_ body: (inout CrashScenario) -> Void) -> CrashScenario {
        var copy = self
        body(&copy)
        return copy
    }

    /// A bit of everything.
    static let tree: Step = { root in
        try Do.makeDirectory(root / "a")
        try Do.makeDirectory(root / "a/b")
        try Do.makeDirectory(root / "c")
        for number in 0..<8 { try Do.write(root / "a/\(number)", "content \(number)") }
        try Do.write(root / "a/b/deep", "deep")
        try Do.link(root / "a/1", root / "c/link")
        try Do.symlink(root / "c/symlink", to: "../a/2")
        try Do.makeNode(root / "c/fifo", S_IFIFO | 0o600)
        try Do.setAttribute(root / "a/3", "user.note", [1, 2, 3])
        try Do.write(root / "large", noise(1, 6 << 20))
    }

    static func noise(_ seed: UInt64, _ count: Int) -> [UInt8] {
        var random = SeededRandom(seed: seed)
        return random.bytes(count)
    }

    private static func removeTree(_ path: Bytes) throws {
        try FileManager.default.removeItem(atPath: String(decoding: path.bytes, as: UTF8.self))
    }

    static let all: [CrashScenario] = [
        CrashScenario("first sync").with { $0.isFirstSync = true },
        CrashScenario("first sync of many files").with {
            $0.isFirstSync = true
            $0.before = { root in for number in 0..<300 { try Do.write(root / "\(number)", "content \(number)") } }
        },
        CrashScenario("adopt").with {
            $0.isFirstSync = true
            $0.replicaArguments = ["--adopt"]
            $0.replicaOffline = { root in
                try Do.makeDirectory(root / "a")
                try Do.write(root / "a/1", "content 1")
                try Do.write(root / "a/2", "other")
                try Do.write(root / "stranger", "not on the primary")
            }
        },
        CrashScenario("small commit") { try Do.write($0 / "new", "new") },
        CrashScenario("many commits") { root in
            for number in 0..<10 {
                try Do.write(root / "new\(number)", "new")
                usleep(60_000)
            }
        },
        CrashScenario("many files") { root in
            try Do.makeDirectory(root / "many")
            for number in 0..<300 { try Do.write(root / "many/\(number)", "content \(number)") }
        },
        CrashScenario("overwritten in place") { root in
            for number in 0..<8 { try Do.write(root / "a/\(number)", "CONTENT \(number), longer") }
        },
        CrashScenario("overwritten by a rename") { root in
            for number in 0..<8 {
                try Do.write(root / "a/new", "again \(number)")
                try Do.rename(root / "a/new", root / "a/\(number)")
            }
        },
        CrashScenario("large patch") { root in
            try Do.write(root / "large", noise(2, 4096), at: 3_000_000)
            try Do.write(root / "large", noise(3, 100), at: 6 << 20)
        },
        CrashScenario("growth beyond a patch") { try Do.write($0 / "large", noise(4, 5 << 20), at: 6 << 20) }.with {
            $0.primaryArguments = ["--inline-limit", "1M"]
        },
        CrashScenario("new content past the log") { try Do.write($0 / "huge", noise(5, 4 << 20)) }.with {
            $0.primaryArguments = ["--inline-limit", "64K"]
        },
        CrashScenario("content from elsewhere in the tree") { root in
            try Do.write(root / "copy", noise(1, 6 << 20))
            try Do.write(root / "copy", noise(6, 1000), at: 1 << 20)
        },
        CrashScenario("truncated") { try Do.truncate($0 / "large", 2_500_000) },
        CrashScenario("emptied and written anew") { root in
            try Do.truncate(root / "large", 0)
            try Do.write(root / "large", noise(7, 5 << 20))
        },
        CrashScenario("holes") { root in
            try Do.punch(root / "large", 1 << 20, 2 << 20)
            try Do.write(root / "sparse", "end", at: 1 << 30)
        },
        CrashScenario("directory moved") { root in
            try Do.rename(root / "a", root / "c/moved")
            try Do.write(root / "c/moved/1", "changed and moved")
        },
        CrashScenario("files swapped") { try Do.exchange($0 / "a/1", $0 / "a/b/deep") },
        CrashScenario("directories swapped") { try Do.exchange($0 / "a", $0 / "c") },
        CrashScenario("chain of renames") { root in
            try Do.rename(root / "a/1", root / "a/x")
            for number in 2..<8 { try Do.rename(root / "a/\(number)", root / "a/\(number - 1)") }
            try Do.rename(root / "a/x", root / "a/7")
        },
        CrashScenario("directory in the place of a file") { root in
            try Do.remove(root / "a/4")
            try Do.makeDirectory(root / "a/4")
            try Do.write(root / "a/4/inside", "inside")
        },
        CrashScenario("file in the place of a directory") { root in
            try removeTree(root / "a")
            try Do.write(root / "a", "a file")
        },
        CrashScenario("directory goes into its own child's place") { root in
            try Do.rename(root / "a/b", root / "b")
            try Do.rename(root / "a", root / "b/a")
        },
        CrashScenario("tree removed") { try removeTree($0 / "a") },
        CrashScenario("all removed, and all new") { root in
            for name in ["a", "c", "large"] as [Bytes] { try removeTree(root / name) }
            try tree(root)
        },
        CrashScenario("hard links") { root in
            try Do.link(root / "a/1", root / "a/another")
            try Do.remove(root / "c/link")
            try Do.rename(root / "a/1", root / "c/first")
            try Do.write(root / "a/another", "written by a name")
            try Do.link(root / "large", root / "c/large")
        },
        CrashScenario("symlinks and nodes") { root in
            try Do.remove(root / "c/symlink")
            try Do.symlink(root / "c/symlink", to: "elsewhere")
            try Do.remove(root / "c/fifo")
            try Do.makeNode(root / "c/fifo", S_IFIFO | 0o644)
            try Do.setTime(root / "c/symlink", 1000, 1)
        },
        CrashScenario("metadata") { root in
            try Do.setMode(root / "a/1", 0o4711)
            try Do.setMode(root / "a", 0o700)
            try Do.setTime(root / "a/2", -1_000_000, 7)
            try Do.setAttribute(root / "a/4", "user.more", [9])
            try Do.removeAttribute(root / "a/3", "user.note")
            if World.isRoot { try Do.setOwner(root / "a/5", 12_345, 54_321) }
        },
        CrashScenario("names that are any bytes") { root in
            try Do.makeDirectory(root / Bytes([0xFF, 0x0A, 0x20]))
            try Do.write(root / Bytes([0xFF, 0x0A, 0x20]) / "-x", "odd")
            try Do.rename(root / "a/b", root / Bytes([0x5C, 0x78]))
        },
        CrashScenario("resume after an absence").with {
            $0.offline = { root in
                try Do.write(root / "while away", "offline")
                try Do.rename(root / "a/1", root / "one")
                try removeTree(root / "a/b")
            }
        },
        CrashScenario("log files end and go") { root in
            for number in 0..<5 { try Do.write(root / "noise\(number)", noise(UInt64(10 + number), 14 << 20)) }
        }.with { $0.primaryArguments = ["--log-budget", "256M", "--log-keep", "0s"] },
        CrashScenario("reconcile by listing") { try Do.write($0 / "a/1", "live") }.with {
            $0.offline = { root in
                for number in 2..<6 { try Do.write(root / "a/\(number)", "offline") }
                try Do.write(root / "added", "offline")
                try Do.remove(root / "a/7")
                try removeTree(root / ".wal/log")
            }
        },
        CrashScenario("primary without its catalog") { try Do.write($0 / "a/1", "live") }.with {
            $0.offline = { root in
                try Do.write(root / "a/2", "offline")
                for name in try FileManager.default.contentsOfDirectory(
                    atPath: String(decoding: (root / ".wal").bytes, as: UTF8.self))
                where name.hasPrefix("catalog.sqlite") { try removeTree(root / ".wal" / Bytes(name)) }
            }
        },
        CrashScenario("drift is healed") { root in
            try Do.write(root / "a/1", "of the primary")
            try Do.write(root / "large", noise(8, 1000), at: 1_000_000)
        }.with {
            $0.replicaOffline = { root in
                try Do.write(root / "a/1", "of somebody else")
                try Do.write(root / "large", "of somebody else", at: 5000)
                try Do.remove(root / "a/2")
                try Do.write(root / "stranger", "new here")
            }
        },
        CrashScenario("another filter").with { $0.laterArguments = ["--exclude", "a/b", "--exclude", "large"] },
    ]
}
