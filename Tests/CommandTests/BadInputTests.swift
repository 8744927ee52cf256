import Foundation
import Glibc
import Testing

/// What cannot be done is refused with one line that names the thing and the remedy, the documented exit code, and
/// nothing changed on disk.
@Suite struct BadInputTests {
    // MARK: Directories

    @Test(arguments: ["walship", "walrecv"]) func whatIsNoDirectoryIsRefused(program: String) throws {
        try withWorld { world in
            try writeFile(world.path + "/file", "not a directory")
            try refused(world, program, ["missing"] + peer(program), names: ["missing does not exist", "create it"])
            try refused(world, program, ["file"] + peer(program), names: ["file is not a directory"])
            try refused(world, program, ["file/below"] + peer(program), names: ["file/below"])
            try refused(world, program, [""] + peer(program), status: 64, names: ["path of the directory is empty"])
        }
    }

    @Test func walctlNamesWhatIsNoTree() throws {
        try withWorld { world in
            let plain = try world.folder("plain")
            try writeFile(plain + "/file", "content")
            for verb in [["status"], ["position"], ["mark"], ["log"], ["verify"], ["wait"]] {
                let more = verb == ["wait"] ? ["1:1"] : []
                try refused(world, "walctl", verb + ["missing/"] + more, names: ["missing/ does not exist"])
                try refused(
                    world, "walctl", verb + ["plain"] + more, names: ["plain is not kept by walship or walrecv"])
            }
            try refused(world, "walctl", ["dump", "missing"], names: ["missing does not exist; name a log file"])
            try refused(world, "walctl", ["dump", "/missing"], names: [": /missing does not exist"])
            try refused(world, "walctl", ["dump", "plain"], names: ["plain is a directory; name a log file"])
            try refused(world, "walctl", ["status", "a b"], status: 64, names: ["'a b' is neither"])
            try refused(world, "walctl", ["status", "host:99999"], status: 64, names: ["'host:99999' is neither"])
        }
    }

    @Test(.enabled(if: World.isRoot, "another user is needed"), arguments: ["walship", "walrecv"])
    func whatMayNotBeReadIsRefused(program: String) throws {
        try withWorld { world in
            // Somebody else must be able to run it.
            try world.must("cp", World.programs + "/" + program, world.path)
            let hidden = try world.folder("hidden")
            chmod(hidden, 0o700)
            let readOnly = try world.folder("read-only")
            for (folder, names) in [(hidden, ["hidden cannot be read", "permissions"]), (readOnly, ["read-only"])] {
                let arguments = [
                    "--reuid=65534", "--regid=65534", "--clear-groups", "\(world.path)/\(program)", folder,
                ]
                try refused(world, "setpriv", arguments + peer(program), names: names)
            }
        }
    }

    /// What is in a tree may have any name; the path of the tree itself is text.
    @Test func aPathThatIsNotTextIsNamedByALink() throws {
        try withWorld { world in
            try world.must("sh", "-c", "cd \(world.path) && mkdir \"$(printf 'odd\\377')\" && ln -s odd* link")
            try writeFile(world.path + "/link/file", "content")
            for arguments in [
                "walship \"$odd\"", "walrecv \"$odd\" --from 127.0.0.1:1", "walctl status \"$odd\"",
                "walctl mirror link \"$odd\"", "walctl log link --state \"$odd\"",
            ] {
                try refused(
                    world, "sh",
                    ["-c", "odd=$(printf 'odd\\377') && PATH=\(World.programs):$PATH && exec \(arguments)"], status: 64,
                    names: [": the argument 'odd\\xff' is not UTF-8", "symbolic link"])
            }
            let link = world.path + "/link"
            for _ in 0..<2 {
                let mirror = try world.must("walctl", "mirror", link, world.path + "/mirror", "--once")
                #expect(mirror.hasSuffix("equal"), "\(mirror)")
            }
            let status = try Status(try world.must("walctl", "status", link, "--json"))
            #expect(status["path"] as? String == link)
            try world.must("walctl", "verify", link, "--deep")
        }
    }

    @Test func foreignContentIsOnlyTakenOverWhenSaid() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let mirror = try world.folder("mirror")
            try writeFile(mirror + "/precious", "precious")
            try refused(
                world, "walrecv", ["mirror", "--from", "127.0.0.1:1"], names: ["mirror is not empty", "--adopt"])
            try refused(world, "walctl", ["mirror", "source", "mirror"], names: ["mirror is not empty", "--adopt"])
        }
    }

    @Test func aMirrorStandsApartFromItsSource() throws {
        try withWorld { world in
            _ = try world.folder("source/below")
            for (source, mirror) in [("source", "source/below"), ("source/below", "source"), ("source", "source")] {
                try refused(
                    world, "walctl", ["mirror", source, mirror, "--once"], status: 64, names: ["one within the other"])
            }
        }
    }

    @Test func oneDirectoryHasOneRole() throws {
        try withWorld { world in
            let (primary, replica, _) = try pair(world)
            try primary.stop()
            try replica.stop()
            try refused(
                world, "walrecv", ["source", "--from", "127.0.0.1:1", "--adopt"], names: ["source is a primary"])
            try refused(world, "walship", ["replica", "--listen", "127.0.0.1:0"], names: ["replica is a replica"])
            try refused(
                world, "walctl", ["mirror", "replica", "other"], names: ["replica is a replica"], mayMake: "other")
        }
    }

    @Test func aSecondProcessIsToldWhoHoldsTheTree() throws {
        try withWorld { world in
            let (primary, replica, port) = try pair(world)
            let listen = ["--listen", "127.0.0.1:\(port)"]
            for (node, arguments) in [(primary, listen), (replica, ["--from", "127.0.0.1:1"])] {
                let outcome = try world.run(node.program, [node.folder] + arguments)
                #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome)")
                for text in [node.folder, node.program, "(pid \(node.child.pid))"] {
                    #expect(outcome.errors.contains(text), "\(outcome)")
                }
                #expect(try node.status() != nil)
            }
        }
    }

    /// Also with a state folder of its own: the tree is what is held.
    @Test func aSecondProcessIsRefusedWhateverItsStateFolder() throws {
        try withWorld { world in
            let (primary, replica, _) = try pair(world)
            for node in [primary, replica] {
                for (program, arguments) in [
                    ("walship", ["--state", "\(world.path)/state-1"]),
                    ("walrecv", ["--state", "\(world.path)/state-2", "--adopt", "--from", "127.0.0.1:1"]),
                    ("walctl", []),
                ] {
                    let command =
                        program == "walctl" ? ["mirror", node.folder, "\(world.path)/copy"] : [node.folder] + arguments
                    let outcome = try world.run(program, command, seconds: 20)
                    #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome)")
                    for text in ["\(node.folder) is in use by", node.program, "(pid \(node.child.pid))"] {
                        #expect(outcome.errors.contains(text), "\(outcome)")
                    }
                }
                #expect(try node.status() != nil)
            }
            let made = try FileManager.default.contentsOfDirectory(atPath: world.path)
            #expect(!made.contains { $0.hasPrefix("state-") || $0 == "copy" }, "\(made)")
            // Who has gone, however, holds nothing.
            try replica.crash()
            let next = try Node(
                world, "walrecv", replica.folder,
                ["--state", "\(world.path)/state-3", "--adopt", "--from", "127.0.0.1:1"])
            try until("control socket") {
                FileManager.default.fileExists(atPath: "\(world.path)/state-3/control.sock")
            }
            #expect(next.child.isRunning)
        }
    }

    @Test func aWrongCommandLineIsOneLine() throws {
        try withWorld { world in
            _ = try world.folder("source")
            for command in [
                ["walship"], ["walship", "source", "--lisen", "127.0.0.1:1"], ["walship", "source", "--listen", "a b"],
                ["walship", "source", "--once"], ["walship", "source", "extra"], ["walrecv", "source"],
                ["walrecv", "source", "--from", "127.0.0.1:1", "--log-budget", "much"], ["walctl", "no-such-verb"],
                ["walctl", "wait", "127.0.0.1:1", "1:1", "--timeout", "-1"], ["walctl", "status"],
                ["walctl", "dump", "source", "--seq", "last\nline"],
            ] {
                try refused(world, command[0], Array(command.dropFirst()), status: 64, names: ["\(command[0]): "])
            }
        }
    }

    @Test func aWrongValueIsToldWhatIsValid() throws {
        try withWorld { world in
            for (command, names) in [
                ("walship t --compress zlib:99", ["'zlib:99'", "zlib:1 (fast) to zlib:9", "see walship --help"]),
                ("walship t --settle -5s", ["'-5s'", "a number with ms, s, m, h or d"]),
                ("walship t --log-budget -1", ["'-1'", "K, M, G or T"]),
                ("walship t --listen 127.0.0.1:99999", ["'127.0.0.1:99999'", "HOST:PORT", "65535"]),
                ("walship t --log-level loud", ["'loud'", "debug", "error"]),
                ("walrecv t --from ::1", ["'::1'", "in brackets", "see walrecv --help"]),
                ("walctl wait t 1:1 --timeout soon", ["'soon'", "a number with", "see walctl wait --help"]),
                ("walctl wait t 1:1 --replicas -1", ["--replicas", "see walctl wait --help"]),
                ("walctl mirror t", ["<dst>", "see walctl mirror --help"]),
                ("walctl verfy t", ["see walctl --help"]),
            ] {
                let words = command.split(separator: " ").map(String.init)
                try refused(world, words[0], Array(words.dropFirst()), status: 64, names: names)
            }
        }
    }

    /// The line is the command's own, and nothing else that is opened gets the number.
    @Test func anAnswerThatNobodyTakesIsALine() throws {
        try withWorld { world in
            let (primary, _, _) = try pair(world)
            for (where_, why) in [(">&-", "Bad file descriptor"), ("> /dev/full", "No space left on device")] {
                let outcome = try world.run(
                    "sh", "-c", "\(World.programs)/walctl status \(primary.folder) \(where_)")
                #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome)")
                #expect(outcome.errors.hasPrefix("walctl: the answer cannot be written"), "\(outcome)")
                #expect(outcome.errors.contains(why), "\(outcome)")
            }
        }
    }

    @Test func aRefusedMirrorMakesNoDirectory() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try refused(world, "walctl", ["mirror", "nowhere", "mirror"], names: ["nowhere does not exist"])
            try refused(
                world, "walctl", ["mirror", "source", "no/mirror"],
                names: ["no/mirror cannot be made: no does not exist", "make it first"])
            try refused(
                world, "walctl", ["mirror", "source", "source/mirror"], status: 64, names: ["one within the other"])
            let primary = try world.primary(source, port: try freePort())
            try primary.waitForState("streaming")
            try refused(
                world, "walctl", ["mirror", "source", "mirror"], names: ["source is in use by walship"],
                mayMake: "source/.wal/")
            try primary.stop()
        }
    }

    // MARK: Network

    @Test(arguments: ["walship", "walrecv"]) func aPortInUseIsNamed(program: String) throws {
        try withWorld { world in
            let listener = try Socket.listening(port: 0)
            defer { close(listener.descriptor) }
            let address = "127.0.0.1:\(listener.port)"
            _ = try world.folder("fresh")
            try refused(
                world, program, ["fresh", "--listen", address], names: ["\(address) is in use", "another port"])
            // Also where there is a state folder already: it ends, and does not wait for what was never begun.
            let node = try Node(world, program, try world.folder("known"), ["--listen", "127.0.0.1:\(try freePort())"])
            try until("control socket") { try node.status() != nil }
            try node.stop()
            let outcome = try world.run(program, [node.folder, "--listen", address], seconds: 20)
            #expect(outcome.status == 1 && outcome.errors.contains("\(address) is in use"), "\(outcome)")
            for (bad, word, status) in [
                ("192.0.2.1:1", "not an address of this host", 1), ("no-such-host.invalid:1", "unknown", 6),
            ] {
                try refused(
                    world, program, ["fresh", "--insecure", "--listen", bad], status: Int32(status), names: [word])
            }
        }
    }

    @Test func anUnknownHostIsNamedAndADaemonGoesOnTrying() throws {
        try withWorld { world in
            try refused(
                world, "walctl", ["status", "no-such-host.invalid:7420"], status: 6,
                names: ["'no-such-host.invalid' is unknown"])
            try refused(
                world, "walctl", ["status", "127.0.0.1:1"], status: 6,
                names: ["127.0.0.1:1 does not answer (Connection refused)"])
            let source = try world.folder("source")
            _ = try world.folder("replica")
            for command in [["walship", "source", "--to"], ["walrecv", "replica", "--from"]] {
                try refused(
                    world, command[0], [command[1], command[2], "no-such-host.invalid"], status: 6,
                    names: ["'no-such-host.invalid' is unknown"])
            }
            // A name server may be down for a while when both have worked before.
            let port = try freePort()
            let first = try world.primary(source, port: port)
            let second = try world.replica("replica", from: port)
            try world.catchUp(first, [second])
            for node in [first, second] { try node.stop() }
            let primary = try Node(world, "walship", source, ["--to", "no-such-host.invalid"])
            let replica = try Node(world, "walrecv", second.folder, ["--from", "no-such-host.invalid:7420"])
            for node in [primary, replica] {
                try until("word of the unknown host") {
                    node.child.errors.contains("'no-such-host.invalid' is unknown")
                }
                #expect(node.child.isRunning)
                try node.stop()
            }
        }
    }

    /// Nobody can be dialled there, and no segment has that number: both would be waited for for ever.
    @Test func whatCannotComeIsNotWaitedFor() throws {
        try withWorld { world in
            _ = try world.folder("tree")
            for (program, arguments, names) in [
                ("walship", ["--to", "127.0.0.1:0"], ["--to 127.0.0.1:0 names no port"]),
                ("walship", ["--to", "127.0.0.1:1", "--to", "host:0"], ["--to host:0 names no port"]),
                ("walrecv", ["--from", "127.0.0.1:0"], ["--from 127.0.0.1:0 names no port"]),
                ("walrecv", ["--from", "127.0.0.1:1", "--until", "1:0"], ["--until", "1:0", "from 1"]),
                ("walrecv", ["--from", "127.0.0.1:1", "--until", "0:1"], ["--until", "0:1", "from 1"]),
            ] {
                try refused(world, program, ["tree"] + arguments, status: 64, names: names)
            }
        }
    }

    @Test func openAddressesNeedAWord() throws {
        try withWorld { world in
            _ = try world.folder("source")
            for program in ["walship", "walrecv"] {
                let outcome = try world.run(program, "\(world.path)/source", "--listen", "0.0.0.0:7420")
                #expect(outcome.status == 64 && outcome.errors.contains("--insecure"), "\(outcome)")
            }
            for program in ["walship", "walrecv"] {
                try refused(
                    world, program, ["source", "--listen", "no-such-host.invalid:29000"], status: 6,
                    names: ["'no-such-host.invalid' is unknown"])
            }
            #expect(try listing(world.path + "/source").count == 1)
        }
    }

    // MARK: State

    @Test func malformedPositionsAreUsageErrors() throws {
        try withWorld { world in
            _ = try world.folder("mirror")
            for (position, remedy) in [
                ("", "EPOCH:SEQ"), ("1", "EPOCH:SEQ"), ("1:", "EPOCH:SEQ"), (":1", "EPOCH:SEQ"),
                ("1:2:3:4", "EPOCH:SEQ"), ("one:two", "EPOCH:SEQ"), ("1:99999999999999999999", "EPOCH:SEQ"),
                ("1:2:xyz", "32 hexadecimal digits"),
            ] {
                try refused(
                    world, "walrecv", ["mirror", "--from", "127.0.0.1:1", "--until", position], status: 64,
                    names: ["--until", remedy])
                try refused(world, "walctl", ["wait", "127.0.0.1:1", position], status: 64, names: [remedy])
            }
        }
    }

    @Test(.enabled(if: World.isRoot, "a mount needs root"), arguments: ["walship", "walrecv"])
    func stateOnAnotherFileSystemIsRefused(program: String) throws {
        try withWorld { world in
            _ = try world.folder("tree")
            let other = try world.mountTmpfs("other", megabytes: 8)
            try FileManager.default.createDirectory(atPath: other + "/existing", withIntermediateDirectories: true)
            for state in ["state", "existing"] {
                try refused(
                    world, program, ["tree", "--state", "\(other)/\(state)"] + peer(program),
                    names: ["another file system", "--state"])
            }
        }
    }

    @Test func aNewerFormatIsNotTouched() throws {
        try withWorld { world in
            let (primary, replica, _) = try pair(world)
            try primary.stop()
            try replica.stop()
            for node in [primary, replica] {
                let file = node.folder + "/.wal/node.json"
                let good = try text(ofFile: file)
                try writeFile(file, good.replacingOccurrences(of: "\"format\" : 1", with: "\"format\" : 2"))
                try refused(world, node.program, [node.folder] + node.arguments, names: ["has format 2", "upgrade"])
                try refused(world, "walctl", ["status", node.folder], names: ["has format 2", "upgrade"])
                try writeFile(file, "{")
                try refused(
                    world, node.program, [node.folder] + node.arguments, status: 3, names: ["node.json is damaged"])
                try writeFile(file, good)
            }
            // The version stands behind the magic of a segment's header.
            let log = try logFile(primary.folder)
            let good = try bytes(ofFile: log)
            var newer = good
            newer[8] = 2
            try writeFile(log, newer)
            try refused(
                world, "walship", [primary.folder] + primary.arguments, names: ["format version 2", "upgrade"])
            try writeFile(log, good)
            try primary.restart()
            try primary.waitForState("streaming")
        }
    }

    @Test func aDamagedLogIsNeverRepairedByForgetting() throws {
        try withWorld { world in
            let (primary, replica, port) = try pair(world)
            for index in 0..<3 {
                try writeFile(primary.folder + "/file-\(index)", String(repeating: "\(index)", count: 1000))
                try world.catchUp(primary, [replica])
            }
            try primary.stop()
            let log = try logFile(primary.folder)
            let good = try bytes(ofFile: log)
            var damaged = good
            damaged[good.count / 2] ^= 0x55
            try writeFile(log, damaged)
            try refused(
                world, "walship", [primary.folder] + primary.arguments, status: 3,
                names: [(log as NSString).lastPathComponent, "offset", "restore"])
            let dump = try world.run("walctl", "dump", log)
            #expect(dump.status == 3 && dump.errorLines.count == 1, "\(dump)")
            // Only a tail that was never whole is cut, and a copy is kept.
            try writeFile(log, good + good[..<100])
            try primary.restart()
            try primary.waitForState("streaming")
            #expect(primary.child.errors.contains("cut 100 bytes"))
            #expect(try bytes(ofFile: log).count == good.count)
            let kept = try FileManager.default.contentsOfDirectory(atPath: primary.folder + "/.wal/quarantine")
            #expect(
                try kept.map { try bytes(ofFile: "\(primary.folder)/.wal/quarantine/\($0)") } == [Array(good[..<100])])
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    @Test func aLogOfAnotherHistoryIsRefused() throws {
        try withWorld { world in
            let (primary, replica, _) = try pair(world)
            let other = try world.folder("other")
            try world.must("walctl", "mirror", other, world.path + "/other-mirror", "--once")
            try primary.stop()
            try replica.stop()
            try writeFile(try logFile(primary.folder), try bytes(ofFile: try logFile(other)))
            try refused(
                world, "walship", [primary.folder] + primary.arguments, status: 3, names: ["history", "another tree"])
        }
    }

    @Test func aReplicaOfAnotherHistoryStaysAsItIsAndSaysSo() throws {
        try withWorld { world in
            let (primary, replica, _) = try pair(world)
            try primary.stop()
            try replica.stop()
            let other = try world.folder("other")
            try writeFile(other + "/other", "other")
            let port = try freePort()
            let stranger = try world.primary(other, port: port)
            try stranger.waitForState("streaming")
            let before = try tree(replica.folder)
            for more in [[], ["--until", "1:99"]] {
                let arguments = [replica.folder, "--from", "127.0.0.1:\(port)"]
                let lost = try world.run("walrecv", arguments + more, seconds: 30)
                #expect(lost.status == 3 && lost.errorLines.count == 1, "\(lost)")
                for text in ["history", "name the right primary", "remove \(replica.folder)/.wal", "--adopt"] {
                    #expect(lost.errors.contains(text), "\(lost)")
                }
            }
            let mirror = try world.run("walctl", ["mirror", primary.folder, replica.folder, "--once"], seconds: 30)
            #expect(mirror.status == 0, "\(mirror)")
            let strange = try world.folder("strange")
            let wrong = try world.run("walctl", ["mirror", strange, replica.folder, "--once"], seconds: 30)
            // A busy machine may see the dial refused by the primary that has just ended; the last line is what counts.
            #expect(wrong.status == 3 && wrong.errors.contains("--adopt"), "\(wrong)")
            let verify = try world.run("walctl", "verify", replica.folder, "--against", "127.0.0.1:\(port)")
            #expect(verify.status == 3 && verify.errors.contains("different trees"), "\(verify)")
            let listening = try freePort()
            let dialled = try Node(world, "walrecv", replica.folder, ["--listen", "127.0.0.1:\(listening)"])
            try until("control socket") { try dialled.status() != nil }
            try stranger.stop()
            let once = try world.run("walship", [other, "--to", "127.0.0.1:\(listening)", "--once"], seconds: 30)
            #expect(once.status == 3 && once.errors.contains("history"), "\(once)")
            // Who is dialled stays: it must not be for a stranger to end it.
            let status = try dialled.waitForState("diverged")
            #expect(status.notes.contains { $0.contains("history") && $0.contains("--adopt") }, "\(status.notes)")
            #expect(try tree(replica.folder) == before)
        }
    }

    @Test func aReplicaBeyondThePrimarysLogHasDiverged() throws {
        try withWorld { world in
            let (primary, replica, port) = try pair(world)
            try primary.stop()
            // The primary's host is restored from a backup.
            try world.must("cp", "-a", primary.folder, world.path + "/backup")
            try primary.restart()
            try writeFile(primary.folder + "/after-the-backup", "after")
            try world.catchUp(primary, [replica])
            try primary.stop()
            let restored = try Node(world, "walship", world.path + "/backup", ["--listen", "127.0.0.1:\(port)"])
            // All in it is as old as the backup says, but each file is another one than the catalog knows.
            let status = try restored.waitForState("stalled")
            #expect(
                status.notes.contains {
                    $0.contains("another directory")
                        && $0.contains("walctl resume \(restored.folder) --accept-deletions")
                }, "\(status.notes)")
            try world.must("walctl", "resume", restored.folder, "--accept-deletions")
            try restored.waitForState("streaming")
            #expect(try world.run("walctl", "verify", "--deep", restored.folder).status == 0)
            try writeFile(restored.folder + "/other", "other")
            try replica.waitForState("diverged")
            #expect(try text(ofFile: replica.folder + "/after-the-backup") == "after")
            let verify = try world.run("walctl", "verify", replica.folder, "--against", "127.0.0.1:\(port)")
            #expect([2, 3].contains(verify.status), "\(verify)")
        }
    }

    // MARK: Helpers

    /// A peer that is not there, for commands that never come so far.
    private func peer(_ program: String) -> [String] {
        program == "walship" ? ["--listen", "127.0.0.1:0"] : ["--from", "127.0.0.1:1"]
    }

    private func pair(_ world: World) throws -> (primary: Node, replica: Node, port: Int) {
        let port = try freePort()
        let source = try world.folder("source")
        try writeFile(source + "/file", "content")
        let primary = try world.primary(source, port: port)
        let replica = try world.replica("replica", from: port)
        try world.catchUp(primary, [replica])
        return (primary, replica, port)
    }

    /// Runs in the scratch folder, so that paths are short, and expects it to fail and to leave everything as it was.
    private func refused(
        _ world: World, _ program: String, _ arguments: [String], status: Int32 = 1, names: [String],
        mayMake: String? = nil, location: SourceLocation = #_sourceLocation
    ) throws {
        let before = try everything(world, but: mayMake)
        let path = ["setpriv", "sh"].contains(program) ? program : "\(World.programs)/\(program)"
        let outcome = try world.run(
            "sh", ["-c", "cd \"$0\" && exec \"$@\"", world.path, path] + arguments, seconds: 30)
        #expect(outcome.status == status, "\(outcome)", sourceLocation: location)
        #expect(outcome.errorLines.count == 1 && outcome.output.isEmpty, "\(outcome)", sourceLocation: location)
        for name in names { #expect(outcome.errors.contains(name), "\(outcome)", sourceLocation: location) }
        let changed = Set(before).symmetricDifference(try everything(world, but: mayMake))
        #expect(changed.isEmpty, "\(changed.sorted()) of \(outcome)", sourceLocation: location)
    }

    /// Not the output of processes, not the name of the last holder of a lock, and not what SQLite keeps beside a database
    /// while somebody reads it.
    private func everything(_ world: World, but made: String?) throws -> [String] {
        try listing(world.path).filter { line in
            let name = line.prefix { $0 != " " }
            return !name.isEmpty && !name.hasPrefix("output") && !name.contains("catalog.sqlite")
                && !name.hasSuffix("/.wal") && !name.hasSuffix("/.wal/lock")
                && !(made.map { name.hasPrefix($0) } ?? false)
        }
    }

    private func tree(_ path: String) throws -> [String] {
        try listing(path).filter { !$0.hasPrefix(".wal") }
    }

    private func logFile(_ tree: String) throws -> String {
        let names = try FileManager.default.contentsOfDirectory(atPath: tree + "/.wal/log").sorted()
        return "\(tree)/.wal/log/\(try #require(names.last))"
    }
}
