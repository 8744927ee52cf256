import Foundation
import Glibc
import Testing
import WALFormat
import WALTestKit

/// What is replicated for a change of so many bytes: as the status counts it, as a proxy on the wire does, and as the kernel
/// does for the processes. ``Meter`` sees to it that the counts of the status are those of the proxy, to the byte.
@Suite(.serialized) struct FrugalityTests {
    /// Of what goes to and fro beside content, in one capture of one file.
    private static let little = 4096
    /// The largest block. Of what is replaced or added, so much may go along at either end.
    private static let block = 124 << 10

    @Test func partsOfALargeFile() throws {
        try withWorld { world in
            // Always the same: one change in 1,500 moves so many cuts that it costs more.
            var random = SeededRandom(seed: 17)
            let source = try world.folder("source")
            let image = source + "/image"
            let size = 1 << 30
            try writeNoise(image, bytes: size, &random)
            let meter = try Meter(world, source: source)
            let first = try meter.total()
            #expect(first.raw >= size && first.down < size + size / 100, "\(first)")
            #expect(first.written == size && first.copied == 0, "\(first)")

            // Anywhere, and where it lies across two blocks that are as large as two get.
            var cost = Cost()
            let anywhere = random.int(in: 0..<size - 4096)
            for place in [anywhere, try Self.longestPair(image) - 2048] {
                cost = try meter.cost { try overwrite(image, at: place, random.bytes(4096)) }
                #expect(cost.raw >= 4096 && cost.down + cost.up <= 256 << 10, "4 KiB changed at \(place): \(cost)")
                #expect(cost.written >= 4096 && cost.written <= 256 << 10, "4 KiB changed: \(cost)")
                #expect(cost.written <= cost.replicaDirtied && cost.copied == 0, "4 KiB changed: \(cost)")
                // The kernel counts the log and the catalog, too: some 250 kB in all, 400 kB of the largest pair; and a page
                // once more that goes to disk between two changes of it, as it may on a busy machine, but not each time.
                if place == anywhere {
                    var dirtied = cost.replicaDirtied
                    var again = SeededRandom(seed: 18)
                    for _ in 0..<2 where dirtied > 256 << 10 {
                        cost = try meter.cost { try overwrite(image, at: place, again.bytes(4096)) }
                        dirtied = cost.replicaDirtied
                    }
                    #expect(dirtied <= 256 << 10, "4 KiB changed: \(cost)")
                }
            }

            let more = 1 << 20
            cost = try meter.cost { try overwrite(image, at: size, random.bytes(more)) }
            #expect(cost.raw >= more && cost.down <= more + Self.block + Self.little, "appended: \(cost)")
            // Into the patch, and from there into the file.
            #expect(cost.written >= 2 * more && cost.written <= 2 * (more + Self.block) && cost.copied == 0, "\(cost)")

            cost = try meter.cost { truncate(image, off_t(random.int(in: size / 2..<size))) }
            #expect(cost.down + cost.up <= Self.little && cost.written <= 100, "truncated: \(cost)")
            #expect(cost.copied == 0, "truncated: \(cost)")

            // What is left of the last block is then not what the replica has there.
            let end = random.int(in: size / 4..<size / 2)
            cost = try meter.cost {
                try overwrite(image, at: end - 100, random.bytes(50))
                truncate(image, off_t(end))
            }
            #expect(cost.down + cost.up <= 2 * Self.block + Self.little, "written to and truncated: \(cost)")
            #expect(cost.written <= 2 * Self.block && cost.copied == 0, "written to and truncated: \(cost)")

            cost = try meter.cost { rename(image, source + "/moved") }
            #expect(cost.down + cost.up <= Self.little && cost.written == 0 && cost.copied == 0, "moved: \(cost)")

            // Whatever of a copy is captured before it is whole ends in a block of its own.
            cost = try meter.cost { try world.must("cp", "--reflink=never", source + "/moved", source + "/copy") }
            #expect(cost.down <= size / 400 && cost.written <= size / 400, "copied: \(cost)")
            #expect(cost.copied >= size / 4, "copied: \(cost)")

            cost = try meter.cost {
                rename(source + "/copy", source + "/edited")
                try overwrite(source + "/edited", at: size / 8, random.bytes(4096))
            }
            #expect(cost.down + cost.up <= 256 << 10 && cost.written <= 256 << 10, "moved and edited: \(cost)")
            #expect(cost.copied == 0, "moved and edited: \(cost)")

            cost = try meter.cost { truncate(source + "/edited", 0) }
            #expect(cost.down <= Self.little && cost.written == 0, "emptied: \(cost)")
            try world.must("walctl", "verify", "--deep", meter.replica.folder)
            for name in ["moved", "edited"] {
                try world.must("cmp", "\(source)/\(name)", "\(meter.replica.folder)/\(name)")
            }
        }
    }

    /// Where the second of two blocks begins that are longer together than any other two.
    private static func longestPair(_ path: String) throws -> Int {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped)
        return bytes.withUnsafeBytes { all in
            var best = (length: 0, place: 0)
            var (offset, last) = (0, 0)
            while offset < all.count {
                let length = Chunker.cut(UnsafeRawBufferPointer(rebasing: all[offset...]))
                if last + length > best.length { best = (last + length, offset) }
                (offset, last) = (offset + length, length)
            }
            return best.place
        }
    }

    @Test func aLargeDirectoryMoved() throws {
        try withWorld { world in
            // One of its own: ext4 takes its time for names where many were removed lately.
            let disk = try world.mountExt4("disk", megabytes: 2048)
            let source = try world.folder("disk/source")
            let many = try world.folder("disk/source/many")
            for index in 0..<50_000 { try writeFile("\(many)/\(index)", "\(index)") }
            let meter = try Meter(world, source: source, replica: disk + "/replica")
            let cost = try meter.cost { rename(many, source + "/moved") }
            #expect(cost.down + cost.up <= Self.little, "\(cost)")
            #expect(cost.written == 0 && cost.copied == 0, "\(cost)")
            let there = try FileManager.default.contentsOfDirectory(atPath: meter.replica.folder + "/moved")
            #expect(there.count == 50_000)
        }
    }

    /// It goes past both logs, is read from the disk once, and is written once. The primary asks the kernel for it twice: to
    /// know its blocks, and to ship them.
    @Test func newLargeContent() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            try writeFile(source + "/small", "small")
            let meter = try Meter(world, source: source)
            let size = 256 << 20
            try writeNoise(world.path + "/new", bytes: size, &random)
            try dropFromCache(world.path + "/new")
            let cost = try meter.cost { rename(world.path + "/new", source + "/new") }
            #expect(cost.log > 0 && cost.log <= size / 500, "\(cost) \(random.reproduce)")
            #expect(cost.logged == cost.log, "\(cost)")
            #expect(
                cost.down >= size && cost.down <= size + size / 100 && cost.raw >= size,
                "\(cost) \(meter.primary.child.errors) \(meter.replica.child.errors)")
            #expect(cost.written == size && cost.copied == 0, "\(cost)")
            #expect(cost.replicaDirtied >= size && cost.replicaDirtied <= size + size / 100, "\(cost)")
            #expect(cost.primaryRead >= size && cost.primaryRead <= 2 * size + size / 100, "\(cost)")
            #expect(cost.primaryFetched >= size && cost.primaryFetched <= size + size / 100, "\(cost)")
            try world.must("cmp", source + "/new", meter.replica.folder + "/new")
        }
    }

    /// A new disk image is zeros for the most part.
    @Test func aBlockComesOnceForAFile() throws {
        try withWorld { world in
            var random = SeededRandom()
            let meter = try Meter(world, source: try world.folder("source"))
            let noise = random.bytes(4 << 20)
            let cost = try meter.cost {
                let zeros = [UInt8](repeating: 0, count: 32 << 20)
                try writeFile(world.path + "/image", zeros + noise + zeros + noise)
                rename(world.path + "/image", meter.primary.folder + "/image")
            }
            #expect(cost.down >= 4 << 20 && cost.down <= 6 << 20, "\(cost) \(random.reproduce)")
            try world.must("cmp", meter.primary.folder + "/image", meter.replica.folder + "/image")
            // It is data all the same, and not a hole.
            var status = stat()
            #expect(stat(meter.replica.folder + "/image", &status) == 0 && status.st_blocks >= 72 << 11)
        }
    }

    /// A tunnel to another host is a connection within this one.
    @Test(arguments: [true, false]) func contentIsCompressedWhereThatIsAskedFor(isAsked: Bool) throws {
        try withWorld { world in
            let more = isAsked ? ["--compress", "zlib:1"] : []
            let source = try world.folder("source")
            let port = try freePort()
            let primary = try Node(
                world, "walship", source, ["--listen", "127.0.0.1:\(port)", "--name", "primary"] + more)
            let proxy = try world.proxy(to: port)
            let lines = (0..<800_000).map { "INSERT INTO t VALUES (\($0), 'of number \($0 * 7)');\n" }.joined()
            try writeFile(world.path + "/dump", Array(lines.utf8))
            try world.catchUp(primary, [])
            rename(world.path + "/dump", source + "/dump")
            let replica = try world.replica("replica", from: proxy.port)
            try world.catchUp(primary, [replica])
            let size = lines.utf8.count
            #expect(isAsked == (proxy.down < size / 2), "\(proxy.down) of \(size)")
            try world.must("cmp", source + "/dump", replica.folder + "/dump")
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// A replica may ask for content before the primary's catalog knows of it: it waits, and asks once.
    @Test func contentIsAskedForOnce() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            try writeFile(source + "/small", "small")
            let meter = try Meter(world, source: source)
            func costOfNew(_ name: String) throws -> Cost {
                try writeNoise("\(world.path)/\(name)", bytes: 20 << 20, &random)
                return try meter.cost { rename("\(world.path)/\(name)", "\(source)/\(name)") }
            }
            let usual = try costOfNew("one")
            // Some 200 ms for a commit.
            let tracer = try world.start(
                "strace",
                [
                    "-f", "-o", "/dev/null", "-P", source + "/.wal/catalog.sqlite-wal", "-e", "trace=pwrite64", "-e",
                    "inject=pwrite64:delay_enter=10000", "-p", "\(meter.primary.child.pid)",
                ])
            try until("tracer", seconds: 20) { tracer.errors.contains("attached") }
            let slow = try costOfNew("two")
            #expect(slow.up < usual.up * 3 / 2, "\(usual) \(slow) \(random.reproduce)")
            #expect(slow.written == 20 << 20)
        }
    }

    /// Each write of a replica into its tree, its staging folder and its log, seen by a tracer.
    @Test func theStatusCountsEveryWrite() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            try writeFile(source + "/large", random.bytes(8 << 20))
            // What is larger than this goes past the log.
            let meter = try Meter(world, source: source, "--inline-limit", "1M")
            let trace = world.path + "/trace"
            let tracer = try world.start(
                "strace",
                [
                    "-ff", "-y", "-s", "0", "-e", "trace=write,writev,pwrite64,pwritev,pwritev2,copy_file_range", "-o",
                    trace, "-p", "\(meter.replica.child.pid)",
                ])
            try until("tracer", seconds: 20) { tracer.errors.contains("attached") }
            let cost = try meter.cost {
                for index in 0..<200 { try writeFile("\(source)/small-\(index)", random.bytes(index * 31)) }
                try writeFile(source + "/fetched", random.bytes(3 << 20))
                try overwrite(source + "/large", at: 5_000_000, random.bytes(10_000))
                try world.must("cp", source + "/fetched", source + "/copied")
                try overwrite(source + "/copied", at: 1_000_000, random.bytes(10))
                // Smaller than what is patched in place.
                _ = try world.mark(meter.primary)
                try overwrite(source + "/fetched", at: 2_000_000, random.bytes(10))
                try world.must("truncate", "-s", "9M", source + "/large")
            }
            // The tracer ends with what it traces.
            try meter.replica.stop()
            _ = try tracer.wait()

            let seen = try Self.writes(trace, below: meter.replica.folder)
            #expect(cost.written == seen.tree && seen.tree > 3 << 20, "\(cost) \(seen) \(random.reproduce)")
            #expect(cost.copied == seen.copied && seen.copied > 3 << 20, "\(cost) \(seen)")
            #expect(cost.logged == seen.log && seen.log > 0, "\(cost) \(seen)")
        }
    }

    private struct Writes {
        var tree = 0
        var log = 0
        var copied = 0
    }

    /// What a tracer saw of writes to files of a replica. Its catalog's are left out.
    private static func writes(_ trace: String, below folder: String) throws -> Writes {
        let path = trace.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }
        var writes = Writes()
        for name in try FileManager.default.contentsOfDirectory(atPath: path) where name.hasPrefix("trace.") {
            for line in try text(ofFile: path + "/" + name).split(separator: "\n") {
                guard let match = line.wholeMatch(of: /(\w+)\((.*)\) += (\d+).*/), let bytes = Int(match.3) else {
                    continue
                }
                // Of a copy the last one is the file that is written.
                let files = match.2.matches(of: /<(\/[^>]*)>/)
                guard let file = files.last.map({ String($0.1) }), file.hasPrefix(folder + "/") else { continue }
                if match.1 == "copy_file_range" {
                    writes.copied += bytes
                } else if file.hasPrefix(folder + "/.wal/log/") {
                    writes.log += bytes
                } else if file.hasPrefix(folder + "/.wal/staging/") || !file.hasPrefix(folder + "/.wal/") {
                    writes.tree += bytes
                }
            }
        }
        return writes
    }

    /// The counters of a run go on over lost connections, and those of several replicas are added up.
    @Test func theCountersGoOn() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            let meter = try Meter(world, source: source)
            let other = try world.replica("other", from: meter.port)
            _ = try meter.cost { try writeFile(source + "/file", random.bytes(100_000)) }
            let before = try meter.total()
            #expect(before.written == 100_000)
            meter.proxy.cut()
            try until("replica that is not there") {
                try meter.primary.status()?.replica("replica")?["state"] as? String == "disconnected"
            }
            meter.proxy.open()
            try writeFile(source + "/more", random.bytes(50_000))
            try world.catchUp(meter.primary, [meter.replica, other])

            // What the cut took with it was sent all the same, so the proxy's count is another one now.
            let status = try poll("counters of both replicas") {
                try meter.primary.status().flatMap { status in
                    status.replicas.allSatisfy {
                        ($0["traffic"] as? [String: Any])?["written_bytes"] as? Int == 150_000
                    } ? status : nil
                }
            }
            #expect(status.replicas.count == 2)
            let each = status.replicas.compactMap { $0["traffic"] as? [String: Any] }
            let sum = try #require(status["traffic"] as? [String: Any])
            for key in ["sent_bytes", "received_bytes", "raw_bytes", "written_bytes", "copied_bytes", "logged_bytes"] {
                #expect(sum[key] as? Int == each.reduce(0) { $0 + ($1[key] as? Int ?? -1) }, "\(key): \(status.json)")
            }
            let cut = try #require(status.replica("replica")?["traffic"] as? [String: Any])
            #expect(try #require(cut["sent_bytes"] as? Int) >= before.down + 50_000)
            #expect(try #require(cut["raw_bytes"] as? Int) >= before.raw + 50_000)
            let ratio = try #require(cut["ratio"] as? Double)
            #expect(ratio > 0.5 && ratio < 1)
            let table = try world.must("walctl", "status", source)
            #expect(table.contains("TRAFFIC") && table.contains("150.0 kB"), "\(table)")

            // Not running, a node has no counters.
            try meter.replica.stop()
            let stopped = try Status(try world.must("walctl", "status", meter.replica.folder, "--json"))
            #expect(stopped["traffic"] is NSNull)
        }
    }
}
