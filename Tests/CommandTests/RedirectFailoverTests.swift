import Foundation
import Testing
import WALTestKit

/// Where writes are sent while primaries change.
@Suite(.hangLimit) struct RedirectFailoverTests {
    private func put(_ trio: Trio, _ name: String, _ path: String, _ more: [String] = []) throws -> Outcome {
        let command = ([World.programs + "/walctl", "put", trio.address(name), path] + more).joined(separator: " ")
        return try trio.world.run("sh", ["-c", "echo content | exec \(command)"])
    }

    @Test func beforeDuringAndAfter() throws {
        try withTrio { trio in
            let before = try put(trio, "c", "before")
            #expect(before.status == 0 && before.errors.contains("redirected to \(trio.address("a"))"), "\(before)")
            let shown = try put(trio, "c", "shown", ["--no-redirect"])
            #expect(shown.status == 2 && shown.output == trio.address("a") + "\n", "\(shown)")
            try trio["a"].crash()
            // The one that the replicas know does not answer.
            let dead = try put(trio, "c", "dead", ["--timeout", "1s"])
            #expect(dead.status == 6, "\(dead)")
            // Sent before there is another, and answered by that.
            let waiting = try trio.world.start(
                "sh",
                [
                    "-c", "echo content | exec \"$0\" put \"$1\" waited --timeout 30s", World.programs + "/walctl",
                    trio.address("c"),
                ])
            try trio.promote("b")
            #expect(try waiting.wait() == 0, "\(waiting.errors)")
            let after = try put(trio, "c", "after")
            #expect(after.status == 0 && after.errors.contains("redirected to \(trio.address("b"))"), "\(after)")
            // The old one sends on, too.
            try trio["a"].restart()
            try trio.waitForRole("fenced", of: "a")
            try until("name of the leader") { try trio.group("a")["primary"] as? String == trio.address("b") }
            let old = try put(trio, "a", "old")
            #expect(old.status == 0 && old.errors.contains("redirected to \(trio.address("b"))"), "\(old)")
            try trio.catchUp("b", but: ["a"])
            for path in ["before", "waited", "after", "old"] { #expect(trio.read("c", path) == "content\n", "\(path)") }
            for path in ["shown", "dead"] { #expect(trio.read("c", path) == nil, "\(path)") }
        }
    }
}
