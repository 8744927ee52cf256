import Foundation
import Glibc
import Testing
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
}
