import Foundation
import Glibc
import Testing
import WALSystem
import WALTestKit

/// A signal ends a daemon soon, whatever it is at, and what it had done is not done again.
@Suite struct StopTests {
    @Test func aFirstScanIsCutOffAndGoesOn() throws {
        try withWorld { world in
            let random = SeededRandom()
            let large = try world.mountTmpfs("large", megabytes: 600) + "/tree"
            try FileManager.default.createDirectory(atPath: large, withIntermediateDirectories: true)
            for index in 0..<40 {
                try FileManager.default.createDirectory(atPath: "\(large)/\(index)", withIntermediateDirectories: true)
                var own = SeededRandom(seed: random.seed &+ UInt64(index))
                try writeFile("\(large)/\(index)/file", own.bytes(10 << 20))
            }
            let port = try freePort()
            let primary = try world.primary(large, port: port)
            try until("the scan") { try ((primary.status()?["progress"] as? [String: Any])?["files"] as? Int ?? 0) > 3 }
            kill(primary.child.pid, SIGTERM)
            #expect(try primary.child.wait(seconds: 20) == 0)
            // The next start does not read again what was read.
            try primary.restart()
            try primary.waitForState("streaming")
            let replica = try Node(
                world, "walrecv", try world.folder("replica"), ["--from", "127.0.0.1:\(port)", "--name", "replica"])
            try world.catchUp(primary, [replica])
            #expect(try world.difference(large, replica.folder) == "")
            #expect(try world.run("walctl", "verify", "--deep", large).status == 0)
            for node in [primary, replica] { try node.stop() }
        }
    }

    /// Of several tries the best counts: a machine may be busy.
    @Test func anIdleDaemonEndsAtOnce() throws {
        try withMirroredFile { world, primary, replica, _, _ in
            for node in [primary, replica] {
                let best = try (0..<5).map { _ in
                    if !node.child.isRunning { try node.restart() }
                    try until("answer") { try node.status() != nil }
                    return try secondsToEnd(node.child)
                }.min()
                #expect(try #require(best) < 0.2)
            }
        }
    }

    /// It reads 1 GiB, which takes longer than the end may take.
    @Test(.enabled(if: World.isRoot, "a mount needs root")) func aDeepVerifyHoldsNobodyBack() throws {
        try withWorld { world in
            let source = try world.mountTmpfs("large", megabytes: 1200) + "/source"
            try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
            var random = SeededRandom()
            let bytes = random.bytes(16 << 20)
            try writeFile(source + "/piece", bytes)
            try world.must("sh", "-c", "for i in $(seq 64); do cat \(source)/piece; done > \(source)/file")
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            try primary.waitForState("streaming")
            let best = try (0..<3).compactMap { _ in
                if !primary.child.isRunning { try primary.restart() }
                try primary.waitForState("streaming")
                let verify = try world.start("walctl", ["verify", "--deep", source])
                try until("the verification") { try threads(of: primary.child).contains("verify") }
                let seconds = try secondsToEnd(primary.child)
                // It may have come to its end just before; then it proves nothing. Else its answer and the end of the
                // connection race, and say the same.
                let status = try verify.wait()
                #expect(status == 6 || status == 0, "\(status)")
                return status == 6 ? seconds : nil
            }.min()
            #expect(try #require(best) < 0.2)
        }
    }

    private func secondsToEnd(_ child: Child) throws -> Double {
        let began = Clock.monotonicNanoseconds()
        #expect(try child.terminate() == 0)
        return Double(Clock.monotonicNanoseconds() - began) / 1e9
    }

    private func threads(of child: Child) throws -> [String] {
        let folder = "/proc/\(child.pid)/task"
        return try FileManager.default.contentsOfDirectory(atPath: folder).compactMap { thread in
            try? text(ofFile: "\(folder)/\(thread)/comm").trimmingCharacters(in: .newlines)
        }
    }
}
