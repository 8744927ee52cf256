import Foundation
import Testing

/// `walship --sync N`: what is answered is on N replicas.
@Suite(.timeLimit(.minutes(10))) struct SynchronousTests {
    @Test func nothingIsAnsweredBeforeReplicasHaveIt() throws {
        try withTrio(["a": ["--sync", "2"]]) { trio in
            #expect(try !(trio["a"].status()?.notes ?? []).contains { $0.contains("DEGRADED") })
            try trio["c"].stop()
            let degraded = try poll("a word of it") { try trio["a"].status()?.notes.first { $0.contains("DEGRADED") } }
            #expect(degraded.contains("missing: c"), "\(degraded)")
            try trio.write("a", "new", "1")
            let late = try trio.world.run("walctl", "mark", trio.folder("a"), "--timeout", "1s")
            #expect(late.status == 2 && late.errors.contains("1 of 2 replicas"), "\(late)")
            #expect(late.errors.contains("without it: c"), "\(late)")
            try trio["c"].restart()
            let made = try trio.world.run("walctl", "mark", trio.folder("a"), "--timeout", "30s")
            #expect(made.status == 0, "\(made)")
            #expect(trio.read("c", "new") == "1" || trio.read("b", "new") == "1")
            // With two that must have it, the promise of any one is enough for safety, and of two for the epoch.
            #expect(try trio.group("b")["sync_replicas"] as? Int == 2)
        }
    }
}
