import Foundation
import Glibc
import Testing

/// Somebody changes a replica: it is found, healed, and what was there is kept.
@Suite struct DriftTests {
    @Test func whatChangedWhileTheReplicaWasStopped() throws {
        try withPair { world, primary, replica, port in
            try replica.stop()
            try changeEverything(replica.folder)
            try replica.restart()
            try expectHealed(world, primary, replica, port)
            #expect(replica.child.errors.contains("drift: folder/deleted is missing"), "\(replica.child.errors)")
        }
    }

    @Test func whatChangedWhileTheReplicaRuns() throws {
        try withPair { world, primary, replica, port in
            try changeEverything(replica.folder)
            let found = try world.run("walctl", "verify", "--deep", replica.folder)
            #expect(found.status == 2, "\(found)")
            for path in ["folder/edited", "folder/deleted", "added", "mode", "was-a-file", "added-folder", "."] {
                #expect(found.output.contains("  \(path)\n"), "\(path): \(found)")
            }
            let repair = try world.run("walctl", "verify", "--deep", "--repair", replica.folder)
            #expect(repair.status == 2, "\(repair)")
            try expectHealed(world, primary, replica, port)
        }
    }

    /// The same size and the same time: nothing but its content tells, and a deep repair heals that too.
    @Test func whatOnlyItsContentTells() throws {
        try withPair { world, primary, replica, port in
            let path = replica.folder + "/folder/edited"
            try world.must("cp", "-p", path, world.path + "/reference")
            try writeFile(path, "LOCAL")
            try world.must("touch", "-r", world.path + "/reference", path)
            #expect(try world.run("walctl", "verify", "--deep", "--repair", replica.folder).status == 2)
            try until("healed content") {
                try world.run("walctl", "verify", "--deep", replica.folder).status == 0
            }
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    @Test func whatThePrimaryIsAboutToOverwriteIsKept() throws {
        try withPair { world, primary, replica, port in
            try writeFile(replica.folder + "/folder/edited", "local edit")
            try writeFile(replica.folder + "/folder/new", "local new")
            try FileManager.default.removeItem(atPath: replica.folder + "/folder/deleted")
            try writeFile(primary.folder + "/folder/edited", "the primary's edit")
            try writeFile(primary.folder + "/folder/new", "the primary's new")
            try writeFile(primary.folder + "/folder/deleted", "the primary's other")
            try world.expectEqual(primary, port: port, [replica])
            let kept = try quarantine(replica)
            for text in ["local edit", "local new"] { #expect(kept.contains(text), "\(text) in \(kept)") }
        }
    }

    /// The primary deletes and moves what was edited on the replica.
    @Test func whatThePrimaryRemovesIsKeptWhereItWasEdited() throws {
        try withPair { world, primary, replica, port in
            try writeFile(replica.folder + "/folder/edited", "local edit")
            try writeFile(replica.folder + "/was-a-file", "local edit of another")
            try FileManager.default.removeItem(atPath: primary.folder + "/folder/edited")
            try world.must("mv", primary.folder + "/was-a-file", primary.folder + "/moved")
            try world.catchUp(primary, [replica])
            #expect(try quarantine(replica).contains("local edit"))
            // A moved file is not read again, so its edit is found by looking.
            _ = try world.run("walctl", "verify", "--deep", "--repair", replica.folder)
            try until("healed tree") { try world.difference(primary.folder, replica.folder) == "" }
            #expect(try quarantine(replica).contains("local edit of another"))
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    // MARK: Helpers

    private func withPair(_ body: (World, _ primary: Node, _ replica: Node, _ port: Int) throws -> Void) throws {
        try withWorld { world in
            let source = try world.folder("source")
            _ = try world.folder("source/folder")
            for (name, text) in [
                ("folder/edited", "local"), ("folder/deleted", "deleted"), ("mode", "mode"),
                ("was-a-file", "was a file"),
                ("untouched", "untouched"),
            ] {
                try writeFile(source + "/" + name, text)
            }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let replica = try world.replica("replica", from: port)
            try world.catchUp(primary, [replica])
            try body(world, primary, replica, port)
        }
    }

    private func changeEverything(_ tree: String) throws {
        try writeFile(tree + "/folder/edited", "edited on the replica")
        unlink(tree + "/folder/deleted")
        try writeFile(tree + "/added", "added on the replica")
        chmod(tree + "/mode", 0o600)
        chmod(tree, 0o700)
        unlink(tree + "/was-a-file")
        for folder in ["was-a-file", "added-folder"] {
            try FileManager.default.createDirectory(atPath: "\(tree)/\(folder)", withIntermediateDirectories: true)
            try writeFile("\(tree)/\(folder)/below", "below \(folder) on the replica")
        }
    }

    private func expectHealed(_ world: World, _ primary: Node, _ replica: Node, _ port: Int) throws {
        try until("healed tree") { try world.difference(primary.folder, replica.folder) == "" }
        try world.expectEqual(primary, port: port, [replica])
        let kept = try quarantine(replica)
        for text in [
            "edited on the replica", "added on the replica", "below was-a-file on the replica",
            "below added-folder on the replica",
        ] {
            #expect(kept.contains(text), "\(text) in \(kept)")
        }
        #expect(try text(ofFile: replica.folder + "/untouched") == "untouched")
    }

    /// The content of all files that were set aside.
    private func quarantine(_ node: Node) throws -> [String] {
        let folder = node.folder + "/.wal/quarantine"
        return try FileManager.default.subpathsOfDirectory(atPath: folder).compactMap { name in
            var isFolder: ObjCBool = false
            _ = FileManager.default.fileExists(atPath: "\(folder)/\(name)", isDirectory: &isFolder)
            return isFolder.boolValue ? nil : try text(ofFile: "\(folder)/\(name)")
        }
    }
}
