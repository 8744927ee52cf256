import Glibc
import Testing

/// The oracle sees what it says that it sees: of two equal trees one is changed in one thing at a time.
@Suite struct OracleTests {
    private func make(_ root: Bytes) throws {
        try Do.makeDirectory(root)
        try Do.makeDirectory(root / "folder")
        try Do.write(root / "folder/file", [UInt8](repeating: 1, count: 20_000))
        try Do.write(root / "folder/\u{1B}", "odd")
        try Do.link(root / "folder/file", root / "link")
        try Do.write(root / "other", [UInt8](repeating: 1, count: 20_000))
        try Do.symlink(root / "soft", to: "here")
        try Do.makeNode(root / "device", S_IFCHR | 0o600, dev_t(0xF001))
        try Do.setAttribute(root / "other", "user.x", [1])
        for name in ["folder/file", "folder/\u{1B}", "other", "soft", "device", "folder"] as [Bytes] {
            try Do.setTime(root / name, 1_000, 5)
        }
        try Do.setTime(root, 1_000, 5)
    }

    /// What is changed, in whose description which word must be, and how; the time of what was written to is set back.
    private static let changes: [(what: String, word: String, change: @Sendable (Bytes) throws -> Void)] = [
        ("mode", "other: mode", { try Do.setMode($0 / "other", 0o600) }),
        ("owner", "soft: owner", { try Do.setOwner($0 / "soft", 1, 0) }),
        ("time", "folder: time", { try Do.setTime($0 / "folder", 1_000, 6) }),
        ("the root's time", "/: time", { try Do.setTime($0, 1_001, 5) }),
        ("attribute", "attribute user.x", { try Do.setAttribute($0 / "other", "user.x", [2]) }),
        ("root's attribute", "/: attribute trusted.y", { try Do.setAttribute($0, "trusted.y", []) }),
        ("byte", "other: content", { try Do.write($0 / "other", [2], at: 19_999) }),
        ("size", "other: size", { try Do.truncate($0 / "other", 19_999) }),
        ("hole", "other: data", { try Do.punch($0 / "other", 4096, 4096) }),
        ("odd name's content", "folder/%27: content", { try Do.write($0 / "folder/\u{1B}", "ODD") }),
        ("missing", "folder/%27: there", { try Do.remove($0 / "folder/\u{1B}") }),
        ("extra", "new: there", { try Do.write($0 / "new") }),
        (
            "target", "soft: target",
            { root in
                try Do.remove(root / "soft")
                try Do.symlink(root / "soft", to: "Here")
            }
        ),
        (
            "kind", "soft: kind",
            { root in
                try Do.remove(root / "soft")
                try Do.write(root / "soft", "here")
            }
        ),
        (
            "device", "device: device",
            { root in
                try Do.remove(root / "device")
                try Do.makeNode(root / "device", S_IFCHR | 0o600, dev_t(0xF002))
            }
        ),
        (
            "link that became a copy", "link: link count",
            { root in
                try Do.remove(root / "link")
                try Do.write(root / "link", [UInt8](repeating: 1, count: 20_000))
            }
        ),
        (
            "link to another equal file", "first name of the object",
            { root in
                try Do.remove(root / "link")
                try Do.link(root / "other", root / "link")
                try Do.write(root / "folder/file2")
                try Do.remove(root / "folder/file2")
            }
        ),
    ]

    @Test func everyDifferenceIsSeen() throws {
        try withWorld { world in
            let (one, two) = (world.path + "/one", world.path + "/two")
            try make(Bytes(one))
            for (what, word, change) in Self.changes {
                try make(Bytes(two))
                #expect(try Oracle.differences(one, two) == [], "before \(what)")
                try change(Bytes(two))
                let found = try Oracle.differences(one, two)
                #expect(found.contains { $0.contains(word) }, "\(what): \(found)")
                try world.must("rm", "-r", two)
            }
        }
    }
}
