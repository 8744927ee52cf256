import Foundation
import Glibc
import Testing

/// What an operator and an operator's scripts see.
@Suite struct OperatorTests {
    @Test func statusNamesAreTheContract() throws {
        try withPair { world, primary, replica, port in
            let position = try world.catchUp(primary, [replica])
            let parts = position.split(separator: ":").map(String.init)
            // The replica's word of what it has applied reaches the primary a moment later.
            let known = try poll("full status of the primary") {
                try primary.status().flatMap {
                    $0.replica("replica")?["applied_seq"] as? Int == Int(parts[1]) ? $0 : nil
                }
            }
            for key in [
                "role", "node", "history", "epoch", "position", "state", "tree_digest", "log", "replicas", "upstream",
                "applied_seq", "durable_seq",
            ] {
                #expect(known.json.keys.contains(key), "\(key)")
            }
            #expect(known["role"] as? String == "primary" && known["node"] as? String == "primary")
            #expect(known.state == "streaming" && known["upstream"] is NSNull)
            #expect(known["epoch"] as? Int == Int(parts[0]))
            let at = try #require(known["position"] as? [String: Any])
            #expect(at["epoch"] as? Int == Int(parts[0]) && at["seq"] as? Int == Int(parts[1]))
            #expect(at["chain"] as? String == parts[2])
            let log = try #require(known["log"] as? [String: Any])
            #expect(log["first_seq"] as? Int == 1 && log["last_seq"] as? Int == Int(parts[1]))
            #expect(try #require(log["bytes"] as? Int) > 0)
            let entry = try #require(known.replica("replica"))
            #expect(
                Set(entry.keys).isSuperset(of: [
                    "name", "address", "state", "sent_seq", "received_seq", "durable_seq", "applied_seq",
                    "lag_segments", "lag_bytes", "lag_seconds", "last_contact_seconds",
                ]))
            #expect(entry["state"] as? String == "streaming" && entry["lag_segments"] as? Int == 0)
            let own = try #require(try replica.status())
            #expect(own["role"] as? String == "replica" && own.state == "streaming")
            #expect(own.appliedSeq == Int(parts[1]) && own["durable_seq"] as? Int == Int(parts[1]))
            #expect(own["tree_digest"] as? String == known["tree_digest"] as? String)
            #expect(own["history"] as? String == known["history"] as? String)
            let upstream = try #require(own["upstream"] as? [String: Any])
            #expect(Set(upstream.keys).isSuperset(of: ["address", "state", "last_contact_seconds"]))
            #expect(upstream["address"] as? String == "127.0.0.1:\(port)")
        }
    }

    @Test func whatIsNotKnownIsNullAndDisconnectedReplicasStay() throws {
        try withPair { world, primary, replica, _ in
            try world.catchUp(primary, [replica])
            try replica.stop()
            let gone = try poll("disconnected replica") {
                try primary.status()?.replica("replica").flatMap { $0["state"] as? String == "disconnected" ? $0 : nil }
            }
            #expect(gone["last_contact_seconds"] is Double)
            // The lag is known from what the replica said last.
            try writeFile(primary.folder + "/more", "more")
            _ = try world.mark(primary)
            #expect(try primary.status()?.replica("replica")?["lag_segments"] as? Int == 1)
            try primary.stop()
            try primary.restart()
            try primary.waitForState("streaming")
            // This run has not heard of it.
            let later = try #require(try primary.status()?.replica("replica"))
            #expect(later["last_contact_seconds"] is NSNull && later["state"] as? String == "disconnected")
            try primary.stop()
            try replica.restart()
            let alone = try replica.waitForState("connecting")
            #expect(alone["lag_segments"] is NSNull && alone["lag_seconds"] is NSNull)
            let table = try world.must("walctl", "status", replica.folder)
            #expect(table.contains("lag unknown"), "\(table)")
        }
    }

    @Test func theTableShowsTheSame() throws {
        try withPair { world, primary, replica, _ in
            try world.catchUp(primary, [replica])
            let table = try world.must("walctl", "status", primary.folder)
            for text in [
                "primary  primary", primary.folder, "pid \(primary.child.pid)", "REPLICA", "replica ", "0 seg",
            ] {
                #expect(table.contains(text), "\(text) in\n\(table)")
            }
        }
    }

    @Test func markHoldsEverythingBeforeIt() throws {
        try withPair { world, primary, replica, port in
            try world.catchUp(primary, [replica])
            for index in 0..<5 {
                try writeFile(primary.folder + "/marked", "\(index)")
                let position = try world.must("walctl", "mark", primary.folder)
                try world.must("walctl", "wait", "127.0.0.1:\(port)", position, "--replicas", "1")
                #expect(try text(ofFile: replica.folder + "/marked") == "\(index)")
                #expect(try world.must("walctl", "position", primary.folder) == position)
            }
        }
    }

    @Test func waitSaysWhyNot() throws {
        try withPair { world, primary, replica, _ in
            let position = try world.catchUp(primary, [replica])
            let parts = position.split(separator: ":")
            let ahead = "\(parts[0]):\(Int(parts[1])! + 1000)"
            for (folder, position, more, status) in [
                (primary.folder, ahead, ["--timeout", "300ms"], Int32(2)),
                (replica.folder, ahead, ["--timeout", "300ms"], 2),
                (primary.folder, position, ["--replicas", "2", "--timeout", "300ms"], 2),
                (primary.folder, "\(parts[0]):\(parts[1]):" + String(repeating: "0", count: 32), [], 3),
                (replica.folder, "\(parts[0]):\(parts[1]):" + String(repeating: "0", count: 32), [], 3),
                (primary.folder, "banana", [], 64),
                (primary.folder, "1:-1", [], 64),
                (primary.folder, "1:1:xyz", [], 64),
                (primary.folder, "99999999999999999999:1", [], 64),
                (primary.folder, position, ["--replicas", "0"], 64),
                (replica.folder, position, ["--replicas", "1"], 64),
            ] {
                let outcome = try world.run("walctl", ["wait", folder, position] + more)
                #expect(outcome.status == status, "\(outcome)")
                #expect(outcome.output.isEmpty && !outcome.errors.isEmpty, "\(outcome)")
            }
            #expect(try world.run("walctl", "mark", replica.folder).status == 1)
        }
    }

    @Test func logAndDumpTellWhatHappened() throws {
        try withPair { world, primary, replica, _ in
            // What is there at the start needs no segment's entries, so it comes after.
            try world.catchUp(primary, [replica])
            try writeFile(primary.folder + "/dumped file", "content of it")
            let position = try world.catchUp(primary, [replica])
            let seq = position.split(separator: ":")[1]
            for folder in [primary.folder, replica.folder] {
                let table = try world.must("walctl", "log", folder).split(separator: "\n")
                #expect(table.last?.hasPrefix("1:\(seq) ") == true, "\(table)")
                let rows = try objects(try world.must("walctl", "log", folder, "--json"))
                let last = try #require(rows.last)
                #expect(position == "\(last["epoch"]!):\(last["seq"]!):\(last["chain"]!)")
                #expect(rows.compactMap { $0["seq"] as? Int } == Array(Int(seq)! - rows.count + 1...Int(seq)!))
                let file = "\(folder)/.wal/log/\(try #require(last["file"] as? String))"
                #expect(try world.must("walctl", "dump", file).contains("dumped file"))
                let dumped = try objects(try world.must("walctl", "dump", file, "--json", "--seq", String(seq)))
                #expect(dumped.count == 1 && dumped[0]["chain"] as? String == last["chain"] as? String)
                let entries = try #require(dumped[0]["entries"] as? [[String: Any]])
                #expect(entries.contains { $0["entry"] as? String == "bind" && $0["name"] as? String == "dumped file" })
            }
        }
    }

    @Test func verifyFindsWhatDiffers() throws {
        try withPair { world, primary, replica, port in
            try writeFile(primary.folder + "/file", "content")
            try world.catchUp(primary, [replica])
            let equal = try world.run("walctl", "verify", replica.folder, "--deep", "--against", "127.0.0.1:\(port)")
            #expect(equal.status == 0 && equal.lines.last == "equal to 127.0.0.1:\(port)", "\(equal)")
            // The same size and time, other bytes: only reading it all tells.
            try world.must("cp", "-p", replica.folder + "/file", world.path + "/reference")
            try patchFirstByte(replica.folder + "/file")
            try world.must("touch", "-r", world.path + "/reference", replica.folder + "/file")
            #expect(try world.run("walctl", "verify", replica.folder).status == 0)
            let deep = try world.run("walctl", "verify", replica.folder, "--deep")
            #expect(deep.status == 2 && deep.output.contains("changed  file"), "\(deep)")
            let json = try world.run("walctl", "verify", replica.folder, "--deep", "--json")
            let report = try #require(try objects(json.output, pretty: true).first)
            let differences = try #require(report["differences"] as? [[String: Any]])
            #expect(differences.map { $0["path"] as? String } == ["file"] && report["is_deep"] as? Bool == true)
            #expect(json.errorLines.count == 1)
        }
    }

    /// More differences than an answer has room for, of names that are five times as long in JSON.
    @Test func verifyListsTheFirstOfVeryManyDifferences() throws {
        try withPair { world, primary, replica, _ in
            try world.catchUp(primary, [replica])
            let name = String(repeating: "\n", count: 240)
            for index in 0..<16_000 { try writeFile("\(replica.folder)/\(name)\(index)", "") }
            let json = try world.run("walctl", "verify", replica.folder, "--json")
            #expect(json.status == 2 && json.errorLines.count == 1, "\(json.errors)")
            let report = try #require(try objects(json.output, pretty: true).first)
            let total = try #require(report["total_differences"] as? Int)
            #expect(total >= 16_000 && report["is_truncated"] as? Bool == true)
            #expect((report["differences"] as? [[String: Any]])?.count == 1000)
            #expect(json.errors.contains("\(total) differences"), "\(json.errors)")
            let text = try world.run("walctl", "verify", replica.folder)
            #expect(text.lines.contains("listed    1000 of \(total) differences"), "\(text.errors)")
            // From the files it is the same.
            try replica.stop()
            let files = try world.run("walctl", "verify", replica.folder, "--json")
            #expect(files.output == json.output, "\(files.errors)")
        }
    }

    @Test func repairHealsMoreThanItLists() throws {
        try withPair { world, primary, replica, _ in
            try world.catchUp(primary, [replica])
            for index in 0..<1500 { try writeFile("\(replica.folder)/drift-\(index)", "drift") }
            let repair = try world.run("walctl", "verify", replica.folder, "--repair")
            #expect(repair.status == 2 && repair.output.contains("listed    1000 of "), "\(repair.errors)")
            try until("repair") { try world.run("walctl", "verify", replica.folder).status == 0 }
            #expect(try FileManager.default.contentsOfDirectory(atPath: replica.folder).sorted() == [".wal", "first"])
        }
    }

    @Test func aPrimaryIsNotRepaired() throws {
        try withPair { world, primary, replica, _ in
            try world.catchUp(primary, [replica])
            for isRunning in [true, false] {
                if !isRunning { try primary.stop() }
                let repair = try world.run("walctl", "verify", primary.folder, "--repair")
                #expect(repair.status == 64 && repair.errorLines.count == 1 && repair.output.isEmpty, "\(repair)")
                #expect(repair.errors.contains("is a primary") && repair.errors.contains("next scan"), "\(repair)")
            }
        }
    }

    @Test func aMarkWithoutTimeSaysOnlyThat() throws {
        try withPair { world, primary, replica, _ in
            try world.catchUp(primary, [replica])
            try primary.waitForState("streaming")
            let mark = try world.run("walctl", "mark", primary.folder, "--timeout", "0")
            // It may be faster than the clock.
            #expect(
                mark.status == 0 || (mark.status == 2 && mark.errors == "walctl: no mark within 0 s\n"), "\(mark)")
        }
    }

    @Test func anEmptyLogFileHoldsNoSegments() throws {
        try withWorld { world in
            let file = try world.folder("log") + "/00000000000000000007.log"
            try writeFile(file, "")
            let dump = try world.run("walctl", "dump", file)
            #expect(dump.status == 0 && dump.output.isEmpty && dump.errors.isEmpty, "\(dump)")
        }
    }

    @Test func filesAnswerWhereNothingRuns() throws {
        try withPair { world, primary, replica, _ in
            let position = try world.catchUp(primary, [replica])
            let digest = try primary.status()?["tree_digest"] as? String
            try primary.stop()
            try replica.stop()
            for (node, role) in [(primary, "primary"), (replica, "replica")] {
                let status = try Status(try world.must("walctl", "status", node.folder, "--json"))
                #expect(status["role"] as? String == role && status["pid"] is NSNull && status.state == "stopped")
                #expect(status["tree_digest"] as? String == digest)
                #expect(try world.must("walctl", "position", node.folder) == position)
                #expect(try world.run("walctl", "verify", node.folder, "--deep").status == 0)
                #expect(try world.must("walctl", "status", node.folder).contains("not running"))
                for verb in [["mark", node.folder], ["wait", node.folder, position]] {
                    let outcome = try world.run("walctl", verb)
                    #expect(outcome.status == 6 && outcome.errors.contains("nothing runs for"), "\(outcome)")
                }
            }
        }
    }

    @Test func theFirstTargetThatAnswersIsAsked() throws {
        try withPair { world, primary, replica, port in
            let position = try world.catchUp(primary, [replica])
            let nobody = "127.0.0.1:\(try freePort())"
            for list in ["\(nobody),127.0.0.1:\(port)", "\(world.path)/missing,\(primary.folder)"] {
                #expect(try Status(try world.must("walctl", "status", list, "--json"))["role"] as? String == "primary")
                #expect(try world.must("walctl", "position", list) == position)
                #expect(try world.must("walctl", "mark", list) == position)
                try world.must("walctl", "wait", list, position, "--replicas", "1")
                try world.must("walctl", "verify", list)
            }
            let none = try world.run("walctl", "status", "\(nobody),127.0.0.1:1")
            #expect(none.status == 6 && none.errorLines.count == 1, "\(none)")
        }
    }

    @Test func theJSONLogIsOneObjectALine() throws {
        try withWorld { world in
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.primary(source, port: port, "--log-format", "json", "--log-level", "debug")
            let replica = try world.replica("replica", from: port, "--log-format", "json", "--log-level", "debug")
            try writeFile(source + "/file", "content")
            try world.catchUp(primary, [replica])
            try primary.crash()
            try until("word of the lost connection") { replica.child.errors.contains("warning") }
            try replica.stop()
            // Also the last word of one that cannot start.
            let failed = try world.run(
                "walship", "\(world.path)/missing", "--listen", "127.0.0.1:\(port)", "--log-format", "json")
            #expect(failed.status == 1)
            for errors in [primary.child.errors, replica.child.errors, failed.errors] {
                let lines = try objects(errors)
                #expect(!lines.isEmpty)
                for line in lines {
                    #expect(Set(line.keys).isSuperset(of: ["time", "level", "program", "message"]), "\(line)")
                }
            }
        }
    }

    @Test func aLogThatNobodyReadsStopsNothing() throws {
        try withWorld { world in
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try world.start(
                "walship", [source, "--listen", "127.0.0.1:\(port)", "--log-level", "debug"], error: "/dev/full")
            let replica = try world.replica("replica", from: port)
            try until("first sync") { try replica.status()?.appliedSeq ?? 0 > 0 }
            #expect(primary.isRunning)
            let unwritten = try world.run("sh", "-c", "\(World.programs)/walctl status \(source) > /dev/full")
            #expect(unwritten.status == 1 && unwritten.errorLines.count == 1, "\(unwritten)")
        }
    }

    /// A daemon that is stopped has done what it was started for; one that was to wait for something has not.
    @Test func stoppedBeforeWhatWasWaitedForIsNotMet() throws {
        try withWorld { world in
            let nobody = "127.0.0.1:\(try freePort())"
            let once = try Node(world, "walship", try world.folder("source"), ["--to", nobody, "--once"])
            let until = try Node(world, "walrecv", try world.folder("replica"), ["--from", nobody, "--until", "1:9"])
            for (node, what) in [(once, "every --to replica"), (until, "before --until was applied")] {
                try CommandTests.until("answer") { try node.status() != nil }
                #expect(try node.child.terminate() == 2)
                let last = try #require(node.child.errorLines.last)
                #expect(last.hasPrefix("\(node.program): stopped") && last.contains(what), "\(last)")
                #expect(last.contains("start again"), "\(last)")
            }
        }
    }

    // MARK: Helpers

    private func withPair(_ body: (World, _ primary: Node, _ replica: Node, _ port: Int) throws -> Void) throws {
        try withWorld { world in
            let port = try freePort()
            let source = try world.folder("source")
            try writeFile(source + "/first", "first")
            try body(
                world, try world.primary(source, port: port), try world.replica("replica", from: port), port)
        }
    }

    private func objects(_ text: String, pretty: Bool = false) throws -> [[String: Any]] {
        try (pretty ? [text[...]] : text.split(separator: "\n")).map {
            try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any], "\($0)")
        }
    }

    private func patchFirstByte(_ path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        #expect(descriptor >= 0 && pwrite(descriptor, "X", 1, 0) == 1)
        close(descriptor)
    }
}
