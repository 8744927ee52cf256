import Foundation
import Glibc
import Testing
import WALTestKit

/// Promotions, switchovers and rejoins that are broken off, overlap, or are asked for too early: nothing that was acknowledged
/// is lost, and the same command, or one that is named, goes on from there.
@Suite(.hangLimit) struct BrokenFailoverTests {
    /// Its last step fails, and so every attempt is one more.
    @Test(.enabled(if: World.isRoot, "an immutable file needs root"), arguments: [false, true])
    func aRejoinThatIsTriedAgainKeepsAll(isKilled: Bool) throws {
        try withTrio { trio in
            var random = SeededRandom()
            let (large, small) = (random.bytes(20 << 20), "of a alone")
            try trio["a"].crash()
            try trio.promote("b")
            try writeFile(trio.folder("a") + "/large", large)
            try trio.write("a", "small", small)
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            // It waits for the one that it is to find the fork with.
            trio["b"].child.signal(SIGSTOP)
            try trio.world.must("walctl", "rejoin", trio.folder("a"))
            try freeze(trio["a"], true)
            defer { try? freeze(trio["a"], false) }
            trio["b"].child.signal(SIGCONT)
            try until("an attempt that failed") { trio["a"].child.errors.contains("trying again") }
            if isKilled { try trio["a"].crash() } else { sleep(2) }
            try freeze(trio["a"], false)
            if isKilled { try trio["a"].restart() }
            try trio.waitForRole("replica", of: "a")
            try trio.expectEqual("b")
            let kept = try trio.quarantine("a")
            let folder = try #require(kept.first { $0.hasSuffix("/LIST") }?.dropLast(5))
            let files = "\(trio.folder("a"))/.wal/quarantine/\(folder)/files"
            #expect(try bytes(ofFile: files + "/large") == large)
            #expect(try text(ofFile: files + "/small") == small)
            #expect(!kept.contains { $0.hasSuffix(".unfinished") }, "\(kept)")
        }
    }

    /// What only the one has acknowledged that is to be forgotten would be out of every promotion's sight.
    @Test func nobodyIsForgottenWhoAloneHasSomething() throws {
        try withTrio { trio in
            trio["c"].child.signal(SIGSTOP)
            _ = try trio.world.put(trio.folder("a"), "money", "100", "--durable", "1")
            try trio["b"].crash()
            let lacking = try poll("the end of b's connection") {
                let outcome = try trio.world.run("walctl", "forget", trio.folder("a"), "b")
                return outcome.errors.contains("is connected") ? nil : outcome
            }
            #expect(lacking.status == 2, "\(lacking)")
            for part in ["b may have acknowledged", "1 of c must have", "--force"] {
                #expect(lacking.errors.contains(part), "\(lacking)")
            }
            trio["c"].child.signal(SIGCONT)
            try trio.catchUp("a", but: ["b"])
            try trio.world.must("walctl", "forget", trio.folder("a"), "b")
            try until("word of it at c") { try (trio.group("c")["members"] as? [Any])?.count == 1 }
            try trio["a"].crash()
            try trio.promote("c")
            #expect(trio.read("c", "money") == "100")
        }
    }

    /// Two who want to promote at the same time, which neither knows of the other.
    @Test(arguments: [0, 15, 30]) func promotionsThatOverlap(milliseconds: Int) throws {
        try withTrio { trio in
            _ = try trio.world.put(trio.folder("a"), "money", "100", "--durable", "2")
            try trio["a"].crash()
            var running: [Child] = []
            for name in ["b", "c"] {
                running.append(try trio.world.start("walctl", ["promote", trio.address(name), "--timeout", "20s"]))
                usleep(UInt32(milliseconds * 1000))
            }
            for child in running { _ = try child.wait(seconds: 90) }
            // One of them leads, or can be made to without force.
            let leader = try poll("somebody who leads") {
                for name in ["b", "c"] where try trio.world.run("walctl", "promote", trio.address(name)).status == 0 {
                    if try trio.role(name) == "primary" { return name }
                }
                return nil
            }
            let other = leader == "b" ? "c" : "b"
            try until("word of what became of \(other)") { try ["replica", "fenced"].contains(trio.role(other)) }
            if try trio.role(other) == "fenced" {
                try trio.world.must("walctl", "rejoin", trio.folder(other), "--wait", "--timeout", "60s")
            }
            try trio.expectEqual(leader, but: ["a"])
            #expect(trio.read(leader, "money") == "100")
        }
    }

    /// Its catalog is at the end of it, its tree in the midst, and its log where it was before.
    @Test(.enabled(if: World.isRoot, "an immutable file needs root"))
    func aReplicaWhoseReconcileIsNotShownYetLeadsFromThere() throws {
        try withTrio(replicas: ["b"]) { trio in
            let (a, b) = (Bytes(trio.folder("a")), Bytes(trio.folder("b")))
            try trio["b"].stop()
            // So that it must reconcile; what that brings cannot be shown.
            try Do.remove(b / "file1")
            try trio.world.must("chattr", "+i", "\(trio.folder("b"))/file2")
            defer { _ = try? trio.world.run("chattr", "-i", "\(trio.folder("b"))/file2") }
            try Do.setMode(a / "file2", 0o600)
            try trio.write("a", "new", "new")
            let position = try trio.world.must("walctl", "mark", trio.folder("a"))
            try trio["b"].restart()
            try until("the stall") { trio["b"].child.errors.contains("trying again") }
            try trio["a"].crash()
            let refused = try trio.world.run("walctl", "promote", trio.address("b"))
            #expect(refused.status == 1 && refused.errors.contains("file2"), "\(refused)")
            #expect(try trio.role("b") == "replica")
            try trio.world.must("chattr", "-i", "\(trio.folder("b"))/file2")
            try trio.promote("b")
            try until("it leads") { try trio["b"].status()?["state"] as? String == "streaming" }
            #expect(trio.read("b", "new") == "new" && (try? Do.status(b / "file2").st_mode) == S_IFREG | 0o600)
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            try trio.world.must("walctl", "rejoin", trio.folder("a"))
            try trio.waitForRole("replica", of: "a")
            try trio.expectEqual("b")
            // Its tree was at the primary's last position, so that is where the two part.
            let seq = try #require(position.split(separator: ":").dropFirst().first)
            #expect(trio["a"].child.errors.contains("the fork is at 1:\(seq)"), "\(trio["a"].child.errors)")
        }
    }

    enum Remedy: CaseIterable {
        case again, promote, leadOn
    }

    /// The lead was given away, and nobody has taken it; and one that is needed for any other promotion is gone.
    @Test(.enabled(if: World.isRoot, "an immutable file needs root"), arguments: Remedy.allCases)
    func aSwitchoverThatIsBrokenOffBehindTheFence(remedy: Remedy) throws {
        let told = ["--on-fence", #"/bin/sh -c 'echo "$WALSHIP_PRIMARY" > "$WALSHIP_TREE".primary'"#]
        try withTrio(["a": told]) { trio in
            try trio["c"].crash()
            _ = try trio.world.put(trio.folder("a"), "last", "of a", "--durable", "1")
            try freeze(trio["b"], true)
            defer { try? freeze(trio["b"], false) }
            let broken = try trio.world.run("walctl", "switchover", trio.address("a"), trio.address("b"))
            #expect(broken.status == 2, "\(broken)")
            #expect(try trio.role("a") == "fenced")
            #expect(try trio.group("a")["successor"] as? String == "b")
            try until("the hook") { (try? text(ofFile: trio.folder("a") + ".primary")) == "\(trio.address("b"))\n" }
            try trio["a"].crash()
            try trio["a"].restart()
            try freeze(trio["b"], false)
            try until("a answers") { try trio["a"].status() != nil }
            let command =
                switch remedy {
                case .again: ["switchover", trio.address("a"), trio.address("b")]
                case .promote: ["promote", trio.address("b")]
                case .leadOn: ["promote", trio.address("a")]
                }
            let outcome = try trio.world.run("walctl", command)
            #expect(outcome.status == 0 && !outcome.errors.contains("forced"), "\(outcome)")
            let (leader, other) = remedy == .leadOn ? ("a", "b") : ("b", "a")
            #expect(try trio.role(leader) == "primary")
            if remedy == .promote {
                try trio.world.must("walctl", "rejoin", trio.folder("a"), "--wait", "--timeout", "60s")
            }
            try trio.waitForRole("replica", of: other)
            try trio.expectEqual(leader, but: ["c"])
            #expect(trio.read(leader, "last") == "of a")
            try trio["c"].restart()
            try trio.expectEqual(leader)
        }
    }

    /// The lead that was given to one was taken by another since, which is gone now: the few promises that are enough for a
    /// handover do not say so.
    @Test(.enabled(if: World.isRoot, "an immutable file needs root"), arguments: ["a", "b"])
    func aHandoverThatAnotherPromotionHasComeAfter(name: String) throws {
        try withTrio(replicas: ["b", "c", "d"]) { trio in
            try freeze(trio["b"], true)
            defer { try? freeze(trio["b"], false) }
            let broken = try trio.world.run("walctl", "switchover", trio.address("a"), trio.address("b"))
            #expect(broken.status == 2, "\(broken)")
            try trio["a"].crash()
            try freeze(trio["b"], false)
            let promotion = try trio.world.start("walctl", ["promote", trio.address("c")])
            // It has promised, and hears nothing of what follows.
            try until("the promise") { promotion.errors.contains("b promises") }
            trio["b"].child.signal(SIGSTOP)
            #expect(try promotion.wait() == 0, "\(promotion.errors)")
            _ = try trio.world.put(trio.folder("c"), "money", "200", "--durable", "1")
            for gone in ["c", "d"] { try trio[gone].crash() }
            trio["b"].child.signal(SIGCONT)
            try trio["a"].restart()
            for node in ["a", "b"] { try until("\(node) answers") { try trio[node].status() != nil } }
            let refused = try trio.world.run("walctl", "promote", trio.address(name), "--timeout", "10s")
            #expect([1, 2].contains(refused.status), "\(refused)")
            for back in ["c", "d"] { try trio[back].restart() }
            let leader = try poll("somebody who leads") {
                for name in ["c", "d"] where try trio.world.run("walctl", "promote", trio.address(name)).status == 0 {
                    return name
                }
                return nil
            }
            #expect(trio.read(leader, "money") == "200")
        }
    }

    /// A primary knows by how many it has acknowledged; nobody has told it as a replica.
    @Test(.enabled(if: World.isRoot, "an immutable file needs root"))
    func aHandoverWhereTwoMustAcknowledge() throws {
        try withTrio(["a": ["--sync", "2"]], replicas: ["b", "c", "d"]) { trio in
            try until("two that count") {
                try trio.world.run("walctl", "mark", trio.folder("a"), "--timeout", "5s").status == 0
            }
            try freeze(trio["b"], true)
            defer { try? freeze(trio["b"], false) }
            let broken = try trio.world.run("walctl", "switchover", trio.address("a"), trio.address("b"))
            #expect(broken.status == 2, "\(broken)")
            try freeze(trio["b"], false)
            // Two of the three are enough for a promotion, so one must not be for leading on.
            for name in ["c", "d"] { trio[name].child.signal(SIGSTOP) }
            let refused = try trio.world.run("walctl", "promote", trio.address("a"), "--timeout", "5s")
            #expect(refused.status == 2 && refused.errors.contains("of 3 replicas"), "\(refused)")
            trio["c"].child.signal(SIGCONT)
            // Nor is the one that is fenced promoted where another is named.
            let outcome = try trio.world.run(
                "walctl", "promote", trio.address("a"), "--candidates", trio.address("c"), "--timeout", "10s")
            #expect(outcome.status == 0, "\(outcome)")
            #expect(try trio.role("c") == "primary" && trio.role("a") == "fenced")
            trio["d"].child.signal(SIGCONT)
        }
    }

    /// What a replica had acknowledged is not on disk with what its primary knew of it.
    @Test func nobodyIsForgottenAfterARestart() throws {
        try withTrio { trio in
            trio["c"].child.signal(SIGSTOP)
            _ = try trio.world.put(trio.folder("a"), "money", "100", "--durable", "1")
            for name in ["a", "b"] { try trio[name].crash() }
            try trio["a"].restart()
            try until("a answers") { try trio["a"].status() != nil }
            let refused = try trio.world.run("walctl", "forget", trio.folder("a"), "b")
            #expect(refused.status == 2 && refused.errors.contains("1 of c must have"), "\(refused)")
            trio["c"].child.signal(SIGCONT)
        }
    }

    /// The one that it was to follow is gone for good, before it had given up anything.
    @Test func aRejoinThatHasNowhereToGo() throws {
        try withTrio { trio in
            try trio["a"].crash()
            try trio.promote("b")
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            for name in ["b", "c"] { try trio[name].crash() }
            try trio.world.must("walctl", "rejoin", trio.folder("a"))
            try until("the first attempt") { trio["a"].child.errors.contains("trying again") }
            let refused = try trio.world.run("walctl", "promote", trio.address("a"))
            #expect(refused.status == 2, "\(refused)")
            let forced = try trio.promote("a", "--force")
            #expect(forced.errors.contains("forced: a is fenced"), "\(forced)")
            _ = try trio.world.put(trio.folder("a"), "file", "again")
        }
    }

    /// What a primary has that answers is not given up without a word.
    @Test func aPromotionBehindALivingPrimary() throws {
        try withWorld { world in
            var random = SeededRandom()
            let (port, other) = (try freePort(), try freePort())
            let source = try world.folder("source")
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            let replica = try Node(
                world, "walrecv", try world.folder("replica"),
                ["--from", proxy.address, "--listen", "127.0.0.1:\(other)", "--name", "replica"])
            try world.catchUp(primary, [replica])
            proxy.setWeather(.init(pieceBytes: 4096, delay: 100_000), [.down])
            for number in 0..<3 {
                try writeFile("\(source)/noise-\(number)", random.bytes(1 << 20))
                _ = try world.mark(primary)
            }
            let outcome = try world.run("walctl", "promote", "127.0.0.1:\(other)")
            #expect(outcome.status == 2, "\(outcome)")
            for part in ["primary at", "segments ahead of replica", "walctl switchover", "--force"] {
                #expect(outcome.errors.contains(part), "\(outcome)")
            }
            #expect(try primary.status()?["role"] as? String == "primary")
            proxy.setWeather(.fair)
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    /// A frozen node is one that is not reached, and soon.
    @Test func aFrozenNodeIsNotReached() throws {
        try withTrio { trio in
            trio["b"].child.signal(SIGSTOP)
            let outcome = try trio.world.run("walctl", "promote", trio.address("b"), "--timeout", "2s")
            #expect(outcome.status == 6 && outcome.errors.contains("within 2 s"), "\(outcome)")
            trio["b"].child.signal(SIGCONT)
            let healthy = try trio.world.run("walctl", "rejoin", trio.folder("a"))
            #expect(healthy.status == 1 && healthy.errors.contains("is for one that was deposed"), "\(healthy)")
        }
    }

    /// Those that have not come to the new primary yet are the ones that a person looks for.
    @Test func aDegradedPrimaryNamesThoseItHasNotSeen() throws {
        try withWorld { world in
            let addresses = try (0..<4).map { _ in "127.0.0.1:\(try freePort())" }
            let p = try Node(
                world, "walship", try world.folder("p"), ["--listen", addresses[0], "--name", "p", "--sync", "2"])
            let replicas = try (1...3).map { number in
                try Node(
                    world, "walrecv", try world.folder("r\(number)"),
                    ["--from", addresses[0], "--listen", addresses[number], "--name", "r\(number)"])
            }
            try world.catchUp(p, replicas)
            for replica in replicas {
                try until("members at \(replica.folder)") {
                    ((try replica.status()?["group"] as? [String: Any])?["members"] as? [Any])?.count == 3
                }
            }
            try until("what was acknowledged is on two") {
                try world.run("walctl", "mark", p.folder, "--timeout", "5s").status == 0
            }
            try world.catchUp(p, replicas)
            try p.crash()
            try replicas[2].crash()
            // A + P > N holds with one of three missing.
            try world.must("walctl", "promote", addresses[1])
            let note = try poll("a note") {
                try replicas[0].status()?.notes.first { $0.contains("DEGRADED") && $0.contains("1 of 2") }
            }
            #expect(note.contains("r3"), "\(note)")
            for command in [["put", replicas[0].folder, "x"], ["resume", replicas[0].folder]] {
                let outcome = try world.run("walctl", command + ["--timeout", "500ms"])
                #expect(outcome.status == 2 && outcome.errors.contains("r3"), "\(outcome)")
            }
        }
    }

    /// Two that have one name would be one replica of the next primary, and what one has acknowledged would count for the other.
    @Test func aReplicaHasAnotherNameThanItsPrimary() throws {
        try withWorld { world in
            let port = try freePort()
            let primary = try Node(
                world, "walship", try world.folder("a"), ["--listen", "127.0.0.1:\(port)", "--name", "n"])
            let replica = try Node(
                world, "walrecv", try world.folder("b"), ["--from", "127.0.0.1:\(port)", "--name", "n"])
            try until("a word of it") { replica.child.errors.contains("this node is named 'n' itself") }
            #expect(try primary.status()?.replicas.isEmpty == true)
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// The replica of `walctl mirror` is named by that, whatever the source is named.
    @Test func aMirrorOfATreeThatIsNamedMirror() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let primary = try Node(world, "walship", source, ["--name", "mirror"])
            try primary.waitForState("streaming")
            try primary.stop()
            let target = try world.folder("target")
            try world.must("walctl", "mirror", "--once", source, target)
            #expect(try text(ofFile: target + "/file") == "content")
        }
    }

    /// Fenced for a switchover that others finished, it was away when they led in turn: none of them counts it, so nobody looks
    /// for it.
    @Test func whoWasAwayForTwoEpochsFindsWhoLeads() throws {
        try withWorld { world in
            // At the first time it ends the node that is fenced.
            let hook = world.path + "/hook"
            try writeFile(hook, "#!/bin/sh\nrm '\(hook).once' && kill -9 $PPID\n")
            try writeFile(hook + ".once", "")
            chmod(hook, 0o755)
            let trio = try Trio(world, ["a": ["--on-fence", hook]])
            _ = try trio.world.run("walctl", "switchover", trio.address("a"), trio.address("b"))
            try until("the end of a") { !trio["a"].child.isRunning }
            try trio.waitForRole("primary", of: "b")
            try trio.catchUp("b", but: ["a"])
            try trio.world.must("walctl", "switchover", trio.address("b"), trio.address("c"))
            try trio.waitForRole("primary", of: "c")
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            try until("who leads") { try trio.group("a")["primary"] as? String == trio.address("c") }
            // Said again, what was begun then takes nothing from who leads now.
            let again = try trio.world.run("walctl", "switchover", trio.address("a"), trio.address("b"))
            #expect(again.status == 1 && again.errors.contains("c at \(trio.address("c")) leads"), "\(again)")
            let leadOn = try trio.world.run("walctl", "promote", trio.address("a"))
            #expect(leadOn.status == 1 && leadOn.errors.contains("c at \(trio.address("c")) answers"), "\(leadOn)")
            _ = try trio.world.put(trio.address("a"), "new", "1")
            try trio.world.must("walctl", "rejoin", trio.folder("a"), "--wait")
            try trio.expectEqual("c")
            try trio.stop()
        }
    }
}
