import Foundation
import Glibc
import Testing
import WALTestKit
import WALSystem

/// A primary is lost and a replica takes its place.
@Suite(.hangLimit) struct FailoverTests {
    @Test func oneIsPromotedAndTheOtherFollows() throws {
        try withTrio { trio in
            try trio.write("a", "before", "1")
            try trio.catchUp("a")
            try trio["a"].crash()
            let outcome = try trio.promote("b")
            #expect(outcome.output.contains("followers  c"), "\(outcome)")
            try until("c at b") {
                let upstream = try trio["c"].status()?["upstream"] as? [String: Any]
                return upstream?["address"] as? String == trio.address("b")
                    && upstream?["state"] as? String == "streaming"
            }
            // The one time that is promised: as they both log it, which the machine's load does not change.
            let promoted = try Self.time(of: "promoted at", trio["b"])
            let followed = try Self.time(of: "streaming from b", trio["c"])
            #expect(followed.timeIntervalSince(promoted) < 2, "\(promoted) to \(followed)")
            #expect(try trio.epoch("b") == 2)
            try trio.write("b", "after", "2")
            try trio.expectEqual("b", but: ["a"])
            #expect(trio.read("c", "before") == "1" && trio.read("c", "after") == "2")
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            try trio.world.must("walctl", "rejoin", trio.folder("a"))
            try trio.waitForRole("replica", of: "a")
            try trio.expectEqual("b")
        }
    }

    /// Of the last line of a log that has these words.
    private static func time(of words: String, _ node: Node) throws -> Date {
        let lines = node.child.errors.split(separator: "\n").filter { $0.contains(words) }
        let line = try #require(lines.last, "'\(words)' in \(node.child.errors)")
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        return try Date(String(line.prefix { $0 != " " }), strategy: style)
    }

    /// Each time another leads; the one that was lost comes back as a replica.
    @Test func threeFailoversInARow() throws {
        try withTrio { trio in
            var epochs = [try trio.epoch("a")]
            var leader = "a"
            for (round, next) in ["b", "c", "a"].enumerated() {
                try trio.write(leader, "round\(round)", leader)
                try trio.catchUp(leader)
                try trio[leader].crash()
                try trio.promote(next)
                epochs.append(try trio.epoch(next))
                try trio.write(next, "begun\(round)", next)
                try trio.catchUp(next, but: [leader])
                try trio[leader].restart()
                try trio.waitForRole("fenced", of: leader)
                try trio.world.must("walctl", "rejoin", trio.folder(leader))
                try trio.waitForRole("replica", of: leader)
                try trio.expectEqual(next, "round \(round)")
                leader = next
            }
            #expect(epochs == [1, 2, 3, 4])
            for name in ["a", "b", "c"] {
                for round in 0..<3 { #expect(trio.read(name, "begun\(round)") == ["b", "c", "a"][round]) }
            }
        }
    }

    @Test func oldPrimaryWithWritesOfItsOwnIsFencedAndItsTailKept() throws {
        try withTrio { trio in
            // Not even captured before it is gone.
            try trio["a"].crash()
            try trio.promote("b")
            try trio.write("a", "mine", "tail")
            let own = Bytes(trio.folder("a"))
            try Do.setAttribute(own / "mine", "user.note", [1, 2])
            try Do.setOwner(own / "mine", 12, 13)
            try Do.setMode(own / "mine", 0o4751)
            try Do.link(own / "mine", own / "mine-too")
            try Do.makeNode(own / "fifo", S_IFIFO | 0o600)
            try trio.write("a", "file1", "mine too")
            try FileManager.default.removeItem(atPath: trio.folder("a") + "/file2")
            try trio.write("b", "file1", "theirs")
            try trio.catchUp("b", but: ["a"])
            let before = try listing(trio.folder("b")).filter { !$0.hasPrefix(".wal") }
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            try until("name of the leader") { try trio.group("a")["primary"] as? String == trio.address("b") }
            #expect(try listing(trio.folder("b")).filter { !$0.hasPrefix(".wal") } == before)
            // What is done there while it is fenced is kept, too.
            try trio.write("a", "late", "later still")
            try trio.world.must("walctl", "rejoin", trio.folder("a"))
            try trio.waitForRole("replica", of: "a")
            try trio.expectEqual("b")
            let kept = try trio.quarantine("a")
            let fork = try #require(kept.first { !$0.contains("/") }, "\(kept)")
            #expect(fork.hasPrefix("1-"))
            let base = trio.folder("a") + "/.wal/quarantine/\(fork)"
            #expect(try text(ofFile: base + "/files/mine") == "tail")
            #expect(try text(ofFile: base + "/files/file1") == "mine too")
            #expect(try text(ofFile: base + "/files/late") == "later still")
            let (kept1, kept2) = (Bytes(base) / "files/mine", Bytes(base) / "files/mine-too")
            let status = try Do.status(kept1)
            #expect(status.st_uid == 12 && status.st_gid == 13 && status.st_mode & 0o7777 == 0o4751)
            #expect(try status.st_ino == Do.status(kept2).st_ino)
            #expect(try Do.attributes(kept1) == [Array("user.note".utf8): [1, 2]])
            #expect(try Do.status(Bytes(base) / "files/fifo").st_mode & S_IFMT == S_IFIFO)
            let list = try text(ofFile: base + "/LIST")
            for line in ["kept     file1", "kept     late", "kept     mine", "removed  file2"] {
                #expect(list.contains(line), "\(list)")
            }
            #expect(try trio.world.run("walctl", "dump", base + "/segments.log").status == 0)
            // Only what was touched.
            #expect(!kept.contains { $0.hasSuffix("file3") }, "\(kept)")
        }
    }

    /// Neither has the lead to give.
    @Test func onlyThePrimaryHandsOver() throws {
        try withTrio { trio in
            let refused = try trio.world.run("walctl", "switchover", trio.address("b"), trio.address("c"))
            #expect(refused.status == 1 && refused.errors.contains("the primary is \(trio.address("a"))"), "\(refused)")
            let asked = try trio.world.run(
                "walctl", "promote", trio.address("a"), "--candidates", trio.address("b"))
            #expect(asked.status == 1 && asked.errors.contains("switchover"), "\(asked)")
            #expect(try trio.role("a") == "primary")
        }
    }

    /// It comes back while the promotion is under way, again and again.
    @Test func oldPrimaryComesBackDuringThePromotion() throws {
        try withTrio { trio in
            for round in 0..<3 {
                let (leader, next) = round % 2 == 0 ? ("a", "b") : ("b", "a")
                try trio.write(leader, "round\(round)", leader)
                try trio.catchUp(leader)
                try trio[leader].crash()
                let promotion = try trio.world.start("walctl", ["promote", trio.address(next)])
                try trio.write(leader, "stray\(round)", leader)
                try trio[leader].restart()
                if try promotion.wait() != 0 {
                    // It had shipped to one of them before they promised.
                    let isAhead = promotion.errors.contains("c has become the furthest")
                    #expect(isAhead || promotion.errors.contains("segments ahead of"), "\(promotion.errors)")
                    try trio.world.must("walctl", "promote", trio.address("c"))
                    try trio.waitForRole("replica", of: next)
                    try trio.world.must("walctl", "switchover", trio.address("c"), trio.address(next))
                }
                try trio.waitForRole("primary", of: next)
                try trio.waitForRole("fenced", of: leader)
                try trio.world.must("walctl", "rejoin", trio.folder(leader))
                try trio.waitForRole("replica", of: leader)
                try trio.expectEqual(next, "round \(round)")
                // What an epoch that is over has not reached never comes.
                let lost = try trio.world.run("walctl", "get", trio.folder(next), "base", "--after", "1:100000")
                #expect(lost.status == 3, "\(lost)")
                // Shipped before the others had promised, or kept.
                let isKept = try trio.quarantine(leader).contains { $0.hasSuffix("files/stray\(round)") }
                #expect((trio.read(next, "stray\(round)") == leader) != isKept)
            }
        }
    }

    @Test func promotionNeedsThoseThatMayHaveAcknowledged() throws {
        try withTrio { trio in
            try trio["c"].stop()
            try trio.write("a", "more", "1")
            try trio.catchUp("a", but: ["c"])
            try trio["a"].crash()
            let refused = try trio.world.run("walctl", "promote", trio.address("b"))
            #expect(refused.status == 2 && refused.errors.contains("missing: c"), "\(refused)")
            #expect(refused.errors.contains("--force"))
            // Nothing has changed by that.
            #expect(try trio.epoch("b") == 1 && trio.role("b") == "replica")
            #expect(try trio.group("b")["promised_epoch"] as? Int == 1)
            let forced = try trio.promote("b", "--force")
            #expect(forced.errors.contains("forced: 1 of 2 replicas"), "\(forced)")
            // Who was away is told when it is back.
            try trio["c"].restart()
            try trio.expectEqual("b", but: ["a"])
        }
    }

    @Test func theFurthestIsPromoted() throws {
        try withTrio { trio in
            try trio["c"].crash()
            try trio.write("a", "more", "1")
            try trio.catchUp("a", but: ["c"])
            try trio["a"].crash()
            try trio["c"].restart()
            try until("c without its primary") { try trio["c"].status()?.state == "connecting" }
            let refused = try trio.world.run("walctl", "promote", trio.address("c"))
            #expect(refused.status == 2 && refused.errors.contains("b at \(trio.address("b")) is"), "\(refused)")
            let outcome = try trio.promote("c", "--candidates", "\(trio.address("c")),\(trio.address("b"))")
            #expect(outcome.output.contains("primary    b at"), "\(outcome)")
            try trio.expectEqual("b", but: ["a"])
        }
    }

    @Test func aPromotionIsSafeToRepeatAndToKill() throws {
        try withTrio { trio in
            try trio["a"].crash()
            for round in 0..<6 {
                let promotion = try trio.world.start("walctl", ["promote", trio.address("b")])
                usleep(UInt32(5_000 + round * 12_000))
                promotion.signal(SIGKILL)
                _ = try? promotion.wait()
            }
            try trio.promote("b")
            try trio.promote("b")
            try trio.write("b", "new", "1")
            try trio.expectEqual("b", but: ["a"])
        }
    }

    @Test func switchoverLosesNothingAndCanBeKilled() throws {
        try withTrio { trio in
            for (round, way) in [("a", "b"), ("b", "c"), ("c", "a")].enumerated() {
                let (from, to) = way
                try trio.write(from, "round\(round)", from)
                // Killed somewhere on the way first.
                let killed = try trio.world.start("walctl", ["switchover", trio.address(from), trio.address(to)])
                usleep(UInt32(20_000 + round * 40_000))
                killed.signal(SIGKILL)
                _ = try? killed.wait()
                let outcome = try trio.world.run("walctl", "switchover", trio.address(from), trio.address(to))
                #expect(outcome.status == 0, "\(outcome)\(trio[from].child.errors)\(trio[to].child.errors)")
                try trio.waitForRole("primary", of: to)
                try trio.waitForRole("replica", of: from)
                try trio.expectEqual(to, "round \(round)")
                #expect(trio.read(to, "round\(round)") == from)
            }
            for name in ["a", "b", "c"] { #expect(try trio.quarantine(name).isEmpty) }
        }
    }

    @Test func hooksAreRunWithoutAShell() throws {
        try withWorld { world in
            let hook = world.path + "/hook"
            try Data(
                "#!/bin/sh\necho \"$WALSHIP_EVENT $WALSHIP_NODE $WALSHIP_EPOCH $WALSHIP_PRIMARY $1\" >> \(world.path)/hooked\n"
                    .utf8
            )
            .write(to: URL(fileURLWithPath: hook))
            chmod(hook, 0o755)
            let option = "\(hook) '$(touch /nowhere); \"'"
            let trio = try Trio(world, ["a": ["--on-fence", option], "b": ["--on-promote", option]])
            try trio["a"].crash()
            try trio.promote("b")
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            let hooked = try poll("hooks") {
                let lines = (try? text(ofFile: world.path + "/hooked"))?.split(separator: "\n").sorted()
                return lines?.count == 2 ? lines : nil
            }
            let given = "$(touch /nowhere); \""
            #expect(hooked == ["fence a 2 \(trio.address("b")) \(given)", "promote b 2 \(trio.address("b")) \(given)"])
            // As if it had ended before it came to that.
            try trio["b"].crash()
            let file = trio.folder("b") + "/.wal/node.json"
            let before = try text(ofFile: file)
            #expect(!before.contains("pending_hook"))
            let due = before.replacingOccurrences(
                of: "\"promised_epoch\"", with: "\"pending_hook\" : \"promote\",\n  \"promised_epoch\"")
            try Data(due.utf8).write(to: URL(fileURLWithPath: file))
            try trio["b"].restart()
            try until("the hook") { try text(ofFile: world.path + "/hooked").split(separator: "\n").count == 3 }
            try until("that it was run") { try !text(ofFile: file).contains("pending_hook") }
            let wrong = try world.run("walship", world.folder("x"), "--on-fence", world.path + "/hooked")
            #expect(wrong.status == 64 && wrong.errors.contains("no program that can be started"), "\(wrong)")
            try trio.stop()
        }
    }

    /// The group says that it is deposed before it has acknowledged anything.
    @Test func aReturningPrimaryAcknowledgesNothing() throws {
        try withTrio { trio in
            try trio["a"].crash()
            try trio.promote("b")
            // One that does not answer keeps nobody from hearing the others.
            trio["c"].child.signal(SIGSTOP)
            try trio["a"].restart()
            var tries = 0
            while try trio.role("a") != "fenced" {
                tries += 1
                let put = try trio.world.walctl(
                    ["put", trio.folder("a"), "stray", "--no-redirect", "--timeout", "500ms"], input: Array("1".utf8))
                #expect(put.status != 0, "\(put)")
                try #require(tries < 200)
            }
            #expect(trio.read("a", "stray") == nil)
            trio["c"].child.signal(SIGCONT)
        }
    }

    /// Its successors are lost: it leads on where an operator says so.
    @Test func aFencedPrimaryLeadsOnByForce() throws {
        try withTrio { trio in
            try trio["a"].crash()
            try trio.promote("b")
            try trio.write("b", "of", "b")
            try trio.catchUp("b", but: ["a"])
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            let early = try trio.world.run("walctl", "promote", trio.address("a"), "--force")
            #expect(early.status == 1 && early.errors.contains("walctl rejoin"), "\(early)")
            try trio["b"].crash()
            let other = try trio.world.run("walctl", "promote", trio.address("a"), "--force")
            #expect(other.status == 1 && other.errors.contains("walctl promote \(trio.address("c"))"), "\(other)")
            try trio["c"].crash()
            let refused = try trio.world.run("walctl", "promote", trio.address("a"))
            #expect(refused.status == 2 && refused.errors.contains("give --force"), "\(refused)")
            try trio.promote("a", "--force")
            try trio.waitForRole("primary", of: "a")
            #expect(try trio.epoch("a") == 3)
            _ = try trio.world.put(trio.folder("a"), "of", "a")
            for name in ["b", "c"] { try trio[name].restart() }
            try trio.waitForRole("fenced", of: "b")
            try until("c has diverged") { try trio["c"].status()?.state == "diverged" }
            for name in ["b", "c"] {
                try trio.world.must(
                    "walctl", "rejoin", trio.folder(name), "--to", trio.address("a"), "--wait", "--timeout", "60s")
            }
            try trio.expectEqual("a")
            #expect(trio.read("b", "of") == "a" && trio.read("c", "of") == "a")
            #expect(try trio.quarantine("b").contains { $0.hasSuffix("files/of") })
        }
    }

    /// Who asks while roles change is answered by the one that ends or by the next.
    @Test func aStatusIsAnsweredAtAnyTime() throws {
        try withTrio { trio in
            for (from, to) in [("a", "b"), ("b", "a"), ("a", "b"), ("b", "a")] {
                let switchover = try trio.world.start("walctl", ["switchover", trio.address(from), trio.address(to)])
                while switchover.isRunning {
                    for name in [from, to] {
                        let status = try trio.world.run("walctl", "status", trio.folder(name))
                        #expect(status.status == 0, "\(status)")
                    }
                }
                #expect(switchover.exitStatus == 0, "\(switchover.errors)")
            }
        }
    }

    /// What was acknowledged before an epoch began may be on its primary alone, until a replica has come so far.
    @Test func nobodyIsPromotedWhoHasNothingOfTheLastEpoch() throws {
        try withWorld { world in
            let ports = try (0..<3).map { _ in try freePort() }
            let addresses = ports.map { "127.0.0.1:\($0)" }
            let proxy = try world.proxy(to: ports[1])
            let a = try Node(world, "walship", try world.folder("a"), ["--listen", addresses[0], "--name", "a"])
            let b = try Node(
                world, "walrecv", try world.folder("b"),
                ["--from", addresses[0], "--listen", addresses[1], "--advertise", proxy.address, "--name", "b"])
            let c = try Node(
                world, "walrecv", try world.folder("c"),
                ["--from", addresses[0], "--listen", addresses[2], "--name", "c"])
            try world.catchUp(a, [b, c])
            for node in [b, c] {
                try until("members at \(node.folder)") {
                    ((try node.status()?["group"] as? [String: Any])?["members"] as? [Any])?.count == 2
                }
            }
            try c.crash()
            var random = SeededRandom(seed: 4)
            try Data(random.bytes(8 << 20)).write(to: URL(fileURLWithPath: a.folder + "/big"))
            _ = try world.put(a.folder, "safe", "1", "--durable", "1", "--timeout", "60s")
            try a.crash()
            try c.restart()
            try until("c answers") { try c.status() != nil }
            // From b to c it takes as long as this needs.
            proxy.setWeather(.init(delay: 300_000), [.down])
            try world.must("walctl", "promote", addresses[1])
            try until("c listens to b") { try c.status()?["epoch"] as? Int == 2 }
            // What the proxy delays can, on a busy machine, take longer than a promotion asks for.
            let refused = try poll("an answer of b") {
                let refused = try world.run("walctl", "promote", addresses[2])
                return refused.errors.contains("missing: b") ? nil : refused
            }
            #expect(refused.status == 2 && refused.errors.contains("nothing of epoch 2"), "\(refused)")
            #expect(try b.status()?["role"] as? String == "primary")
            proxy.setWeather(.fair)
            try world.catchUp(b, [c])
            try world.must("walctl", "promote", addresses[2])
            try until("c leads") { try c.status()?["role"] as? String == "primary" }
            #expect(try text(ofFile: c.folder + "/safe") == "1")
            for node in [b, c] { try node.stop() }
        }
    }

    /// A switchover that fails leaves the primary as it was, at once; one whose old primary is lost says who leads.
    @Test func aSwitchoverThatDoesNotComeToItsEnd() throws {
        try withWorld { world in
            let ports = try (0..<2).map { _ in try freePort() }
            let hook = world.path + "/hook"
            try Data("#!/bin/sh\nkill -9 $PPID\n".utf8).write(to: URL(fileURLWithPath: hook))
            chmod(hook, 0o755)
            let a = try Node(
                world, "walship", try world.folder("a"),
                ["--listen", "127.0.0.1:\(ports[0])", "--name", "a", "--on-fence", hook])
            let proxy = try world.proxy(to: ports[0])
            let b = try Node(
                world, "walrecv", try world.folder("b"),
                ["--from", proxy.address, "--listen", "127.0.0.1:\(ports[1])", "--name", "b"])
            try world.catchUp(a, [b])
            proxy.cut()
            try Data("1".utf8).write(to: URL(fileURLWithPath: a.folder + "/new"))
            let words = ["switchover", "127.0.0.1:\(ports[0])", "127.0.0.1:\(ports[1])", "--timeout", "2s"]
            let failed = try world.run("walctl", words)
            #expect(failed.status == 2, "\(failed)")
            try until("the capture") { try a.status()?.state == "streaming" }
            proxy.open()
            try world.catchUp(a, [b])
            let outcome = try world.run("walctl", ["switchover", "127.0.0.1:\(ports[0])", "127.0.0.1:\(ports[1])"])
            #expect(outcome.status == 2 && outcome.output.contains("primary    b at"), "\(outcome)")
            #expect(outcome.errors.contains("b leads; 127.0.0.1:\(ports[0]) does not answer"), "\(outcome)")
            #expect(try b.status()?["role"] as? String == "primary")
            try b.stop()
        }
    }
}
