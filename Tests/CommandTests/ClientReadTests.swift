import Foundation
import Glibc
import Testing
import WALNode
import WALSystem
import WALTestKit

/// What clients read, and how old it is.
@Suite struct ClientReadTests {
    @Test func everyNodeAnswersAndSaysHowFreshItIs() throws {
        try withTwoNodes { world, primary, replica, _ in
            try writeFile(primary.folder + "/file", "content")
            try world.must("ln", "-s", "file", primary.folder + "/link")
            try world.catchUp(primary, [replica])
            for folder in [primary.folder, replica.folder] {
                let get = try world.run("walctl", "get", folder, "file", "--max-stale", "5s")
                #expect(get.status == 0 && get.output == "content", "\(get)")
                #expect(get.errorLines.count == 1 && !get.errors.contains("stale"), "\(get)")
                let stat = try Status(try world.must("walctl", "stat", folder, "link", "--json"))
                let entry = try #require(stat["entry"] as? [String: Any])
                #expect(entry["kind"] as? String == "symlink" && entry["target"] as? String == "file")
                #expect(entry["size"] as? Int == 4 && entry["links"] as? Int == 1)
                #expect(stat["is_stale"] as? Bool == false)
                #expect(
                    Set(stat.json.keys) == ["node", "role", "position", "stale_seconds", "is_stale", "entry"])
                let list = try Status(try world.must("walctl", "ls", folder, "--json"))
                let entries = try #require(list["entries"] as? [[String: Any]])
                #expect(entries.compactMap { $0["name"] as? String } == ["file", "link"])
            }
            let part = try world.must("walctl", "get", replica.folder, "file", "--offset", "3", "--length", "2")
            #expect(part == "te")
            #expect(try world.must("walctl", "get", replica.folder, "file", "--offset", "70") == "")
            let output = world.path + "/got"
            try world.must("walctl", "get", replica.folder, "file", "--output", output)
            #expect(try text(ofFile: output) == "content")
            let json = try world.run("walctl", "get", replica.folder, "file", "--json")
            #expect(try Status(json.errors)["role"] as? String == "replica", "\(json)")
        }
    }

    @Test func aReplicaThatWasCutOffSaysSoOrRefuses() throws {
        try withWorld { world in
            let port = try freePort()
            let proxy = try world.proxy(to: port)
            let primary = try world.primary(try world.folder("source"), port: port, "--advertise", proxy.address)
            try writeFile(primary.folder + "/file", "content")
            let replica = try world.replica("replica", from: proxy.port)
            let strict = try world.replica("strict", from: proxy.port, "--max-stale", "300ms")
            try world.catchUp(primary, [replica, strict])
            #expect(try world.run("walctl", "get", strict.folder, "file").status == 0)
            // A question to the primary tells more than its last heartbeat.
            for _ in 0..<20 {
                let fresh = try world.run("walctl", "get", replica.folder, "file", "--max-stale", "200ms")
                #expect(fresh.status == 0 && !fresh.errors.contains("redirected"), "\(fresh)")
            }
            proxy.cut()
            try replica.waitForState("connecting")
            try strict.waitForState("connecting")
            let stale = try world.run("walctl", "get", replica.folder, "file")
            #expect(stale.status == 0 && stale.output == "content" && stale.errors.contains(", stale"), "\(stale)")
            let stat = try Status(try world.must("walctl", "stat", replica.folder, "file", "--json"))
            #expect(stat["is_stale"] as? Bool == true)
            let age = try #require(stat["stale_seconds"] as? Double)
            #expect(age > 0 && age < 30)
            try until("old answers") {
                try Status(try world.must("walctl", "stat", replica.folder, "file", "--json"))["stale_seconds"]
                    as? Double ?? 0 > 0.5
            }
            for arguments in [
                ["get", replica.folder, "file", "--max-stale", "500ms"], ["ls", strict.folder],
                ["stat", strict.folder, "file", "--max-stale", "1h"],
            ] {
                let refused = try world.run("walctl", arguments + ["--no-redirect"])
                #expect(refused.status == 2 && refused.output == "\(proxy.address)\n", "\(refused)")
            }
            // The primary itself is asked, where it can be reached.
            let dead = try world.run("walctl", "get", replica.folder, "file", "--max-stale", "500ms")
            #expect(dead.status == 2, "\(dead)")
            // Not known is not current.
            try replica.stop()
            try replica.restart()
            try replica.waitForState("connecting")
            let unknown = try Status(try world.must("walctl", "stat", replica.folder, "file", "--json"))
            #expect(unknown["stale_seconds"] is NSNull && unknown["is_stale"] as? Bool == true)
            #expect(
                try world.run("walctl", "get", replica.folder, "file", "--max-stale", "100d", "--no-redirect").status
                    == 2)
            proxy.open()
            try until("fresh answers") {
                try world.run("walctl", "get", replica.folder, "file", "--max-stale", "500ms", "--no-redirect").status
                    == 0
            }
        }
    }

    /// The age that a replica tells is never below the real one, however long frames are on their way.
    @Test func delayedHeartbeatsDoNotMakeYounger() throws {
        try withWorld { world in
            let port = try freePort()
            let primary = try world.primary(try world.folder("source"), port: port)
            let proxy = try world.proxy(to: port)
            let replica = try world.replica("replica", from: proxy.port)
            try writeFile(primary.folder + "/file", "0")
            try world.catchUp(primary, [replica])
            try until("word of the primary") { try replica.status()?["stale_seconds"] is Double }
            proxy.setWeather(.init(delay: 1_500_000), [.down])
            var old = 0
            for index in 1...12 {
                try world.put("127.0.0.1:\(port)", "file", "\(index)")
                let logged = Clock.monotonicNanoseconds()
                usleep(300_000)
                let outcome = try world.run("walctl", "stat", replica.folder, "file", "--json")
                let now = Clock.monotonicNanoseconds()
                let shown = try text(ofFile: replica.folder + "/file")
                let age = try #require(try Status(outcome.output)["stale_seconds"] as? Double, "\(outcome)")
                guard Int(shown) ?? 0 < index else { continue }
                old += 1
                // Looked at after the answer, so what it shows now it may not have shown then; not the other way round.
                #expect(age >= 0.3, "\(index): says \(age) s, and lacks what is \(now - logged) ns old")
            }
            #expect(old > 0, "nothing was late")
        }
    }

    @Test func severalTargetsAreTriedByFreshness() throws {
        try withTwoNodes { world, primary, replica, port in
            try world.put("127.0.0.1:\(port)", "file", "one")
            try world.catchUp(primary, [replica])
            let dead = try freePort()
            let both = "127.0.0.1:\(dead),\(replica.folder),127.0.0.1:\(port)"
            let first = try world.run("walctl", "get", both, "file")
            #expect(first.status == 0 && first.output == "one", "\(first)")
            #expect(first.errors.contains("127.0.0.1:\(dead) does not answer"), "\(first)")
            #expect(first.errors.contains("primary primary"), "\(first)")
            try primary.crash()
            let second = try world.run("walctl", "get", both, "file")
            #expect(
                second.status == 0 && second.output == "one" && second.errors.contains("replica replica"), "\(second)")
            try primary.restart()
            try primary.waitForState("streaming")
        }
    }

    /// Nothing is printed twice, and nothing is left out.
    @Test func anotherTargetGoesOnInTheMiddleOfAFile() throws {
        try withTwoNodes { world, primary, replica, port in
            let path = primary.folder + "/large"
            var random = SeededRandom(seed: 5)
            try writeNoise(path, bytes: 40 << 20, &random)
            try world.catchUp(primary, [replica])
            for (options, output) in [([], true), (["--output", world.path + "/got"], false)] as [([String], Bool)] {
                let proxy = try world.proxy(to: port)
                proxy.cut(afterDown: 20 << 20)
                let targets = "\(proxy.address),\(replica.folder)"
                let got = world.path + "/got"
                let script = output ? "exec \"$@\" > \(got)" : "exec \"$@\""
                let outcome = try world.run(
                    "sh", ["-c", script, "sh", World.programs + "/walctl", "get", targets, "large"] + options)
                #expect(outcome.status == 0 && outcome.errors.contains("replica replica"), "\(outcome)")
                try world.must("cmp", path, got)
                proxy.stop()
            }
        }
    }

    @Test func aFileThatIsWrittenIsNeverAMix() throws {
        try withTwoNodes { world, primary, replica, _ in
            // One that is written in place, block by block, in a loop.
            let path = primary.folder + "/busy"
            try writeFile(path, [UInt8](repeating: 1, count: 6 << 20))
            _ = try world.mark(primary)
            let stop = Monitor(false)
            let writer = try WorkerThread.start(name: "writer") {
                var value: UInt8 = 1
                while !stop.withLock({ $0 }) {
                    value = value == 9 ? 1 : value + 1
                    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
                    for block in 0..<6 {
                        try? Do.write(descriptor, [UInt8](repeating: value, count: 1 << 20), at: block << 20)
                    }
                    close(descriptor)
                    usleep(150_000)
                }
            }
            var whole = 0
            for index in 0..<20 {
                let folder = index % 2 == 0 ? primary.folder : replica.folder
                let output = "\(world.path)/got"
                let outcome = try world.run("walctl", "get", folder, "busy", "--output", output)
                guard outcome.status == 0 else {
                    #expect(outcome.errors.contains("was changed while it was read") || index % 2 == 1, "\(outcome)")
                    continue
                }
                let bytes = try CommandTests.bytes(ofFile: output)
                // A replica shows what was captured, which may be a mix that is called fuzzy.
                if index % 2 == 0 { #expect(Set(bytes).count == 1, "a mix of \(Set(bytes))") }
                whole += 1
            }
            stop.update { $0 = true }
            writer.join()
            #expect(whole > 0)
        }
    }

    @Test func hugeFilesStreamInLittleMemory() throws {
        try withTwoNodes { world, primary, replica, _ in
            let path = primary.folder + "/huge"
            try world.must("truncate", "-s", "1G", path)
            try Do.write(Bytes(path), Array("middle".utf8), at: 700 << 20)
            try Do.write(Bytes(path), Array("end".utf8), at: (1 << 30) - 3)
            try world.catchUp(primary, [replica])
            for node in [primary, replica] {
                let before = node.child.residentBytes
                let output = world.path + "/got"
                let client = try world.start("walctl", ["get", node.folder, "huge", "--output", output])
                var peak: UInt64 = 0
                while client.isRunning {
                    peak = max(peak, client.residentBytes)
                    usleep(20_000)
                }
                #expect(client.exitStatus == 0, "\(client.errors)")
                #expect(peak < 100 << 20, "walctl took \(peak) bytes")
                #expect(node.child.residentBytes < before + 64 << 20, "\(node.folder)")
                try world.must("cmp", path, output)
                var status = stat()
                #expect(lstat(output, &status) == 0 && status.st_blocks < 10_000)
                try FileManager.default.removeItem(atPath: output)
            }
        }
    }

    @Test func aLargeDirectoryIsListed() throws {
        try withTwoNodes { world, primary, replica, _ in
            try world.must("mkdir", primary.folder + "/many")
            try world.must("sh", "-c", "cd '\(primary.folder)/many' && seq -f 'name-%05g' 1 5000 | xargs touch")
            try world.catchUp(primary, [replica])
            let names = try world.must("walctl", "ls", replica.folder, "many").split(separator: "\n")
            #expect(names.count == 5000 && names.first == "name-00001" && names.last == "name-05000")
        }
    }

    /// Whatever a client sends, it costs a connection at most.
    @Test func hostileClientsAreClosed() async throws {
        let world = try World()
        defer { world.end() }
        let port = try freePort()
        let primary = try world.primary(try world.folder("source"), port: port)
        try primary.waitForState("streaming")
        try writeFile(primary.folder + "/file", [UInt8](repeating: 1, count: 1 << 20))
        let client = try await TestClient(port: port)
        await #expect(throws: NodeError.self) { try await client.client.wait(client.client.send(content: [1])) }
        // More files than a client may have open.
        let many = try await TestClient(port: port)
        var open = ControlRequest(.open)
        open.look = ReadRequest(path: "file")
        var handle: Int?
        for _ in 0..<16 { handle = try await many.client.ask(open).handle }
        await #expect(throws: NodeError.self) { try await many.client.ask(open) }
        var read = ControlRequest(.read)
        read.handle = handle
        read.offset = .max
        read.length = 1 << 20
        #expect(try await Asked.content(many.client.wait(many.client.ask(later: read))) == [])
        read.length = 1 << 21
        let long = read
        await #expect(throws: NodeError.self) {
            try await Asked.content(many.client.wait(many.client.ask(later: long)))
        }
        // More requests than may wait.
        let flood = try await TestClient(port: port)
        read.length = 1 << 20
        read.offset = 0
        read.handle = try await flood.client.ask(open).handle
        await #expect(throws: NodeError.self) {
            var asked: [Asked] = []
            for _ in 0..<5000 { asked.append(try flood.client.ask(later: read)) }
            for one in asked { _ = try await flood.client.wait(one) }
        }
        for client in [client, many, flood] { await client.close() }
        #expect(try primary.status() != nil)
        #expect(primary.child.peakResidentBytes < 200 << 20)
    }
}
