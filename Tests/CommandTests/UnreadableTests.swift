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

    private func expectAll(of primary: Node) throws {
        let mark = try primary.world.run("walctl", "mark", primary.folder, "--timeout", "30s")
        #expect(mark.status == 0, "\(mark)")
        let verify = try primary.world.run("walctl", "verify", "--deep", primary.folder)
        #expect(verify.status == 0, "\(verify)")
        #expect(try primary.status()?.notes == [])
    }
}
