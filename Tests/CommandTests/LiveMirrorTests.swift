import Glibc
import Testing
import WALTestKit

/// The main job on real files, with everything that can interrupt it.
@Suite struct LiveMirrorTests {
    @Test func realFilesUnderAWorkloadWithCutsAndKills() throws {
        try withWorld { world in
            let random = SeededRandom()
            random.announce()
            let source = try world.copyRealFiles(to: "source", count: 10_000)
            var workload = try Workload(source, random)
            var chance = SeededRandom(seed: random.seed ^ 1)
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            let proxy = try world.proxy(to: port)
            let near = try world.replica("near", from: port)
            let far = try world.replica("far", from: proxy.port)
            for round in 0..<9 {
                try workload.run(150)
                switch round % 5 {
                case 0:
                    proxy.cut()
                    try workload.run(60)
                    proxy.open()
                case 1: try restart([near, far].randomElement(using: &chance)!, &workload)
                case 2: try restart(primary, &workload)
                case 3:
                    // Stopped like a host that hangs: the others go on.
                    far.child.signal(SIGSTOP)
                    try workload.run(60)
                    far.child.signal(SIGCONT)
                default:
                    proxy.cut(afterDown: UInt64(chance.int(in: 1...200_000)), staysOpen: true)
                    try workload.run(100)
                }
            }
            try world.expectEqual(primary, port: port, [near, far], random.reproduce)
            try far.stop()
            try near.stop()
            try primary.stop()
        }
    }

    /// Nobody keeps something open for each directory that a batch touches.
    @Test func moreDirectoriesThanFilesMayBeOpen() throws {
        try withWorld { world in
            let source = try world.folder("source")
            for number in 0..<1500 {
                try Do.makeDirectory(Bytes("\(source)/\(number)"))
                try Do.write(Bytes("\(source)/\(number)/file"), "first \(number)")
            }
            let port = try freePort()
            let limits = ["prlimit", "--nofile=512:512"]
            let primary = try Node(
                world, "walship", source, ["--listen", "127.0.0.1:\(port)", "--name", "primary"], wrapper: limits)
            let replica = try Node(
                world, "walrecv", try world.folder("replica"), ["--from", "127.0.0.1:\(port)"], wrapper: limits)
            try world.catchUp(primary, [replica])
            primary.child.signal(SIGSTOP)
            for number in 0..<1500 {
                try Do.rename(Bytes("\(source)/\(number)"), Bytes("\(source)/moved\(number)"))
                try Do.write(Bytes("\(source)/moved\(number)/file"), "second \(number)")
            }
            primary.child.signal(SIGCONT)
            try world.expectEqual(primary, port: port, [replica])
            for node in [replica, primary] { try node.stop() }
        }
    }

    private func restart(_ node: Node, _ workload: inout Workload) throws {
        try node.crash()
        try workload.run(60)
        try node.restart()
    }

    @Test func mirrorOnceProvesThatBothAreEqual() throws {
        try withWorld { world in
            let source = try world.copyRealFiles(to: "source", count: 1_000)
            let mirror = world.path + "/mirror"
            let first = try world.run("walctl", "mirror", source, mirror, "--once")
            #expect(first.status == 0 && first.lines.last == "equal", "\(first)")
            #expect(try world.difference(source, mirror) == "")
            try writeFile(source + "/later", "later")
            let second = try world.run("walctl", "mirror", source, mirror, "--once")
            #expect(second.status == 0 && second.lines.last == "equal", "\(second)")
            #expect(try world.difference(source, mirror) == "")
        }
    }

    @Test func mirrorGoesOnUntilItIsTold() throws {
        try withWorld { world in
            let source = try world.folder("source")
            try writeFile(source + "/first", "first")
            let mirror = world.path + "/mirror"
            let child = try world.start("walctl", ["mirror", source, mirror])
            try until("first file") { (try? text(ofFile: mirror + "/first")) == "first" }
            try writeFile(source + "/second", "second")
            try until("second file") { (try? text(ofFile: mirror + "/second")) == "second" }
            #expect(try child.terminate() == 0, "\(child.errors)")
            #expect(try world.difference(source, mirror) == "")
        }
    }
}
