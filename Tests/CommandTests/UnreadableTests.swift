import Foundation
import Glibc
import Testing
import WALTestKit

/// A read of the tree fails, and does not when it is tried again.
@Suite(.longLimit) struct UnreadableTests {
    /// The first scan has these, of the root, and of each directory and file below it. Who cannot list the root before that
    /// does not begin, and what comes after that is of the check.
    @Test(arguments: 5...15) func noReadIsMissed(at: Int) throws {
        try withWorld { world in
            let root = try world.folder("primary")
            for folder in ["a", "a/b", "c"] {
                try Do.makeDirectory(Bytes("\(root)/\(folder)"))
                try writeFile("\(root)/\(folder)/file", folder)
            }
            let trace = world.path + "/trace"
            let faults = Faults(root: root, action: .io, at: at, calls: ["read"], place: "tree", trace: trace)
            let primary = try Node(world, "walship", root, [], wrapper: faults.wrapper)
            try primary.waitForState("streaming")
            #expect(try text(ofFile: trace).split(separator: "\n").count >= at)
            try expectAll(of: primary)
            // What nothing looks at is seen by its events.
            for folder in ["a", "a/b", "c"] { try writeFile("\(root)/\(folder)/new", folder) }
            try expectAll(of: primary)
        }
    }

    /// Whoever could not be looked at under the new name is not taken for gone.
    @Test(arguments: ["stat", "getxattr"]) func aRenameIsNoDeletion(call: String) throws {
        // From the end of the start on, up to what the rename took.
        let (first, last) = try withRename(Faults(root: "", calls: [call])) { _ in }
        #expect(last > first)
        for at in first...last {
            _ = try withRename(Faults(root: "", action: .io, at: at, calls: [call], place: "tree")) { replica in
                #expect(replica.before == replica.after, "\(call) \(at) of \(first) to \(last)")
            }
        }
    }

    /// Renames a file on a primary with these faults, and tells what inode its replica has for it. Returns how many
    /// failpoints the primary has passed before and after.
    private func withRename(
        _ faults: Faults, _ body: ((before: UInt64, after: UInt64)) throws -> Void
    ) throws -> (Int, Int) {
        var passed = (0, 0)
        try withWorld { world in
            let root = try world.folder("primary")
            try writeFile(root + "/old", "content")
            let trace = world.path + "/trace"
            var faults = faults
            (faults.root, faults.place, faults.trace) = (root, "tree", trace)
            func count() throws -> Int { try text(ofFile: trace).split(separator: "\n").count }
            let port = try freePort()
            let primary = try Node(
                world, "walship", root, ["--listen", "127.0.0.1:\(port)"], wrapper: faults.wrapper)
            try primary.waitForState("streaming")
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            let before = try Do.status(Bytes(replica.folder) / "old").st_ino
            // Another file does not get its number while it is open.
            let open = try Do.openFile(Bytes(replica.folder) / "old")
            defer { close(open) }
            passed.0 = try count() + 1
            try FileManager.default.moveItem(atPath: root + "/old", toPath: root + "/new")
            try world.catchUp(primary, [replica])
            passed.1 = try count()
            try body((UInt64(before), UInt64(try Do.status(Bytes(replica.folder) / "new").st_ino)))
        }
        return passed
    }

    private func expectAll(of primary: Node) throws {
        let mark = try primary.world.run("walctl", "mark", primary.folder, "--timeout", "30s")
        #expect(mark.status == 0, "\(mark)")
        let verify = try primary.world.run("walctl", "verify", "--deep", primary.folder)
        #expect(verify.status == 0, "\(verify)")
        #expect(try primary.status()?.notes == [])
    }
}
