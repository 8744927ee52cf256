import Foundation
import Glibc
import Testing
import WALTestKit

/// `--include`, `--exclude` and `--filter-file` with real processes.
@Suite struct FilterTests {
    private func withPair(
        _ options: [String], _ body: (World, String, Node, Node, Int) throws -> Void
    ) throws {
        try withWorld { world in
            let source = try world.folder("source")
            try world.must("mkdir", "-p", source + "/docs/drafts", source + "/cache/deep")
            for path in ["docs/a.txt", "docs/a.tmp", "docs/drafts/b.txt", "cache/deep/c", "top.tmp", "keep.tmp"] {
                try writeFile("\(source)/\(path)", "content of \(path)")
            }
            let port = try freePort()
            let primary = try Node(
                world, "walship", source, ["--listen", "127.0.0.1:\(port)", "--name", "primary"] + options)
            let replica = try world.replica("replica", from: port)
            try body(world, source, primary, replica, port)
            for node in [primary, replica] where node.child.isRunning { try node.stop() }
        }
    }

    /// Another start of the same primary, with other options.
    private func restart(_ primary: Node, _ options: [String]) throws -> Node {
        try primary.stop()
        let index = try #require(primary.arguments.firstIndex(of: "primary"))
        return try Node(primary.world, "walship", primary.folder, Array(primary.arguments[...index]) + options)
    }

    private func paths(_ folder: String) throws -> Set<String> {
        Set(try FileManager.default.subpathsOfDirectory(atPath: folder).filter { !$0.hasPrefix(".wal") })
    }

    private func expectVerified(_ world: World, _ replica: Node, _ port: Int) throws {
        let verify = try world.run("walctl", "verify", "--deep", replica.folder, "--against", "127.0.0.1:\(port)")
        #expect(verify.status == 0, "\(verify)")
    }

    private static let all: Set<String> = [
        "docs", "docs/a.txt", "docs/a.tmp", "docs/drafts", "docs/drafts/b.txt", "cache", "cache/deep", "cache/deep/c",
        "top.tmp", "keep.tmp",
    ]
    private static let kept: Set<String> = ["docs", "docs/a.txt", "docs/drafts", "docs/drafts/b.txt", "keep.tmp"]

    @Test func firstSyncAndLiveChanges() throws {
        let options = ["--include", "keep.tmp", "--exclude=*.tmp", "--exclude", "/cache/"]
        try withPair(options) { world, source, primary, replica, port in
            try world.catchUp(primary, [replica])
            #expect(try paths(replica.folder) == Self.kept)
            try expectVerified(world, replica, port)
            #expect(try world.run("walctl", "verify", "--deep", source).status == 0)
            let rules = ["+ keep.tmp", "- *.tmp", "- /cache/"]
            for node in [primary, replica] {
                #expect(try #require(try node.status())["filter"] as? [String] == rules)
                let table = try world.must("walctl", "status", node.folder)
                #expect(table.contains("filter    3 rules: + keep.tmp, - *.tmp, - /cache/"), "\(table)")
            }
            try writeFile(source + "/docs/new.txt", "new")
            try writeFile(source + "/docs/new.tmp", "new")
            try writeFile(source + "/cache/new", "new")
            try world.catchUp(primary, [replica])
            #expect(try paths(replica.folder) == Self.kept.union(["docs/new.txt"]))
            // rsync with the same rules would do nothing.
            let rsync = try world.run(
                "rsync", ["-aHAXcni", "--delete", "--exclude=/.wal"] + options + [source + "/", replica.folder + "/"])
            #expect(rsync.status == 0 && rsync.output == "", "\(rsync)")
            try expectVerified(world, replica, port)
            try primary.stop()
            let offline = try Status(world.must("walctl", "status", source, "--json"))
            #expect(offline["filter"] as? [String] == rules)
            try primary.restart()
        }
    }

    /// What the next start says; and what it says nothing of.
    @Test func changedFilterAtARestart() throws {
        try withPair([]) { world, source, first, replica, port in
            try world.catchUp(first, [replica])
            #expect(try paths(replica.folder) == Self.all)
            #expect(try #require(try first.status())["filter"] as? [String] == [])
            // More is excluded: the replica drops it, the primary keeps it.
            let file = world.path + "/rules"
            try writeFile(file, "# what is kept\n+ keep.tmp\n\nexclude *.tmp\n- /cache/\n")
            var primary = try restart(first, ["--filter-file", file])
            try world.catchUp(primary, [replica])
            #expect(try paths(replica.folder) == Self.kept && paths(source) == Self.all)
            try expectVerified(world, replica, port)
            let log = try world.must("walctl", "dump", source + "/.wal/log/00000000000000000001.log")
            #expect(log.contains("  filter\n    + keep.tmp\n    - *.tmp\n    - /cache/\n"), "\(log)")
            // Nothing is said.
            primary = try restart(primary, [])
            try writeFile(source + "/docs/later.tmp", "later")
            try writeFile(source + "/docs/later.txt", "later")
            try world.catchUp(primary, [replica])
            #expect(try paths(replica.folder) == Self.kept.union(["docs/later.txt"]))
            #expect(primary.child.errors.contains("the filter of the history stays as it was: 3 rules"))
            // Less is excluded.
            primary = try restart(primary, ["--exclude", "*.tmp"])
            try world.catchUp(primary, [replica])
            let less = Self.all.subtracting(["keep.tmp", "top.tmp", "docs/a.tmp"]).union(["docs/later.txt"])
            #expect(try paths(replica.folder) == less)
            try expectVerified(world, replica, port)
            primary = try restart(primary, ["--no-filter"])
            try world.expectEqual(primary, port: port, [replica])
            #expect(try paths(replica.folder) == Self.all.union(["docs/later.txt", "docs/later.tmp"]))
            try primary.stop()
        }
    }

    /// It may be a mistake that would cost most of every replica.
    @Test func aFilterThatExcludesMostIsDoubted() throws {
        try withPair([]) { world, source, first, replica, port in
            for number in 0..<1200 { try writeFile("\(source)/docs/\(number).o", "") }
            try world.catchUp(first, [replica])
            var primary = try restart(first, ["--exclude", "*.o"])
            let status = try primary.waitForState("stalled")
            #expect(status["filter"] as? [String] == [])
            #expect(status.notes.contains { $0.contains("1200 of 1211 objects are gone") }, "\(status.notes)")
            #expect(try paths(replica.folder).count == 1210)
            // Taken back, nothing has happened; meant, it happens.
            primary = try restart(primary, ["--no-filter"])
            try world.expectEqual(primary, port: port, [replica])
            primary = try restart(primary, ["--exclude", "*.o"])
            try primary.waitForState("stalled")
            try world.must("walctl", "resume", source, "--accept-deletions")
            try world.catchUp(primary, [replica])
            #expect(try paths(replica.folder) == Self.all && paths(source).count == 1210)
            try expectVerified(world, replica, port)
            try primary.stop()
        }
    }

    /// Options of different kinds count in the order in which they stand.
    @Test func orderOfTheOptions() throws {
        try withWorld { world in
            let file = world.path + "/rules"
            try writeFile(file, "- b\n+ c\n")
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(
                source, port: port, "--exclude", "a", "--filter-file", file, "--include", "d", "--exclude=+ e",
                "--filter-file", file, "--include", "- f")
            let rules = ["- a", "- b", "+ c", "+ d", "+ e", "- b", "+ c", "- f"]
            try primary.waitForState("streaming")
            #expect(try #require(try primary.status())["filter"] as? [String] == rules)
            try primary.stop()
        }
    }

    @Test func theFilterOutlivesTheCatalog() throws {
        try withPair(["--exclude", "*.tmp"]) { world, source, first, replica, port in
            try world.catchUp(first, [replica])
            try first.stop()
            for suffix in ["", "-wal", "-shm"] {
                try? FileManager.default.removeItem(atPath: source + "/.wal/catalog.sqlite" + suffix)
            }
            let primary = try Node(world, "walship", source, Array(first.arguments.dropLast(2)))
            try world.catchUp(primary, [replica])
            #expect(try #require(try primary.status())["filter"] as? [String] == ["- *.tmp"])
            #expect(try !paths(replica.folder).contains("docs/a.tmp"))
            try expectVerified(world, replica, port)
            try primary.stop()
        }
    }

    /// Names that the filter excludes are whoever's they are on the replica.
    @Test func foreignFilesOnTheReplica() throws {
        try withPair(["--exclude", "*.local", "--exclude", "/own/", "--exclude", "/docs/x"]) {
            world, source, primary, replica, port in
            try world.catchUp(primary, [replica])
            let mirror = replica.folder
            try world.must("mkdir", "-p", mirror + "/own/deep")
            for path in ["docs/a.local", "top.local", "own/deep/file", "docs/x", "docs/drafts/d.local"] {
                try writeFile("\(mirror)/\(path)", "of the replica")
            }
            try expectVerified(world, replica, port)
            // The check at the start, and repair.
            try replica.stop()
            try replica.restart()
            try world.catchUp(primary, [replica])
            #expect(try world.run("walctl", "verify", "--repair", mirror).status == 0)
            #expect(!replica.child.errors.contains("drift"), "\(replica.child.errors)")
            for path in ["docs/a.local", "top.local", "own/deep/file", "docs/x"] {
                #expect(try text(ofFile: "\(mirror)/\(path)") == "of the replica")
            }
            // They follow a directory that is moved.
            try FileManager.default.moveItem(atPath: source + "/docs", toPath: source + "/moved")
            try world.catchUp(primary, [replica])
            #expect(try text(ofFile: mirror + "/moved/a.local") == "of the replica")
            // Under its new path this one is not excluded any more: foreign, as any other.
            let verify = try world.run("walctl", "verify", mirror)
            #expect(verify.status == 2 && verify.output.contains("moved/x"), "\(verify)")
            try FileManager.default.removeItem(atPath: mirror + "/moved/x")
            // And what a directory that is removed holds is kept.
            try FileManager.default.removeItem(atPath: source + "/moved")
            try world.catchUp(primary, [replica])
            #expect(try !paths(mirror).contains("moved"))
            let kept = try paths(mirror + "/.wal/quarantine")
            #expect(kept.contains { $0.hasSuffix("-drafts/d.local") }, "\(kept)")
            #expect(kept.contains { $0.hasSuffix("-moved/a.local") }, "\(kept)")
            #expect(replica.child.errors.contains("moved was changed on the replica; it is kept as quarantine/"))
            try expectVerified(world, replica, port)
        }
    }

    /// What becomes included again meets what is in its place.
    @Test func aForeignFileInTheWayIsKept() throws {
        try withPair(["--exclude", "*.tmp"]) { world, _, first, replica, port in
            try world.catchUp(first, [replica])
            try writeFile(replica.folder + "/top.tmp", "of the replica")
            let primary = try restart(first, ["--no-filter"])
            try world.expectEqual(primary, port: port, [replica])
            #expect(try text(ofFile: replica.folder + "/top.tmp") == "content of top.tmp")
            let kept = try paths(replica.folder + "/.wal/quarantine")
            #expect(kept.contains { $0.hasSuffix("-top.tmp") }, "\(kept)")
            try primary.stop()
        }
    }

    @Test func adoptingLeavesWhatIsExcluded() throws {
        try withWorld { world in
            let source = try world.folder("source")
            let mirror = try world.folder("mirror")
            for folder in [source, mirror] {
                try world.must("mkdir", "-p", folder + "/docs", folder + "/cache/deep")
                try writeFile(folder + "/docs/same", "the same")
            }
            try writeFile(source + "/cache/deep/file", "of the primary")
            for path in ["cache/deep/file", "docs/a.local", "docs/extra", "b.local"] {
                try writeFile("\(mirror)/\(path)", "of the replica")
            }
            try world.must("mkdir", mirror + "/gone")
            try writeFile(mirror + "/gone/c.local", "of the replica")
            try writeFile(mirror + "/gone/d", "of the replica")
            let port = try freePort()
            let primary = try world.primary(source, port: port, "--exclude", "*.local", "--exclude", "/cache/***")
            let replica = try world.replica("mirror", from: port, "--adopt")
            try world.catchUp(primary, [replica])
            #expect(
                try paths(mirror) == [
                    "docs", "docs/same", "docs/a.local", "b.local", "cache", "cache/deep", "cache/deep/file",
                ])
            #expect(try text(ofFile: mirror + "/cache/deep/file") == "of the replica")
            // Its directory goes, and takes it nowhere but into the quarantine.
            let kept = try paths(mirror + "/.wal/quarantine")
            #expect(kept.contains { $0.hasSuffix("-gone/c.local") } && !kept.contains { $0.hasSuffix("/d") }, "\(kept)")
            try expectVerified(world, replica, port)
            try replica.stop()
            try replica.restart()
            try world.catchUp(primary, [replica])
            try expectVerified(world, replica, port)
            for node in [primary, replica] { try node.stop() }
        }
    }

    @Test func mirror() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/a", "a")
            try writeFile(source + "/b", "b")
            let run = try world.run("walctl", "mirror", "--once", "--exclude", "b", source, world.path + "/mirror")
            #expect(run.status == 0 && run.output.contains("equal"), "\(run)")
            #expect(try paths(world.path + "/mirror") == ["a"])
            let again = try world.run("walctl", "mirror", "--once", "--no-filter", source, world.path + "/mirror")
            #expect(again.status == 0, "\(again)")
            #expect(try paths(world.path + "/mirror") == ["a", "b"])
        }
    }

    @Test func wrongRules() throws {
        try withWorld { world in
            let source = try world.folder("source")
            let file = world.path + "/rules"
            try writeFile(file, "- a\ndir-merge .rules\n")
            let cases: [([String], String)] = [
                (["--filter-file", file], "\(file):2: 'dir-merge .rules' is no rule; a line is '- PATTERN'"),
                (["--filter-file", world.path + "/none"], "/none cannot be read"),
                (["--filter-file", source], "cannot be read"),
                (["--exclude", ""], "--exclude: the pattern is empty"),
                (["--no-filter", "--include", "a"], "--no-filter goes with no rules"),
            ]
            for (options, text) in cases {
                let run = try world.run("walship", [source] + options)
                #expect(run.status == 64 && run.errors.contains(text), "\(run)")
                #expect(run.errorLines.count == 1, "\(run)")
                #expect(!FileManager.default.fileExists(atPath: source + "/.wal"))
                let mirror = try world.run("walctl", ["mirror", source, world.path + "/new"] + options)
                #expect(mirror.status == 64 && mirror.errors.contains(text), "\(mirror)")
                #expect(!FileManager.default.fileExists(atPath: world.path + "/new"))
            }
        }
    }
}
