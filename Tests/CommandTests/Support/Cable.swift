import Foundation
import Glibc

/// Two network namespaces with a cable between them, as long as its two keepers live.
final class Cable {
    private let world: World
    private let keepers: [Child]
    /// The address of each end.
    let hosts = ["10.77.0.1", "10.77.0.2"]

    init(_ world: World) throws {
        self.world = world
        // It does nothing, and names the folder: whoever clears away knows by that what is of this test.
        let nothing = ["tail", "--follow", world.path + "/output/cable"]
        try writeFile(nothing[2], "")
        keepers = try (0..<2).map { _ in try world.start("unshare", ["--net"] + nothing) }
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/net")
        for keeper in keepers {
            try until("network namespace") {
                try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(keeper.pid)/ns/net") != own
            }
        }
        try must(0, "ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", "\(keepers[1].pid)")
        for end in 0..<2 {
            try must(end, "ip", "address", "add", hosts[end] + "/24", "dev", "cable")
            for link in ["lo", "cable"] { try must(end, "ip", "link", "set", link, "up") }
        }
    }

    /// What a command begins with that is to run at this end.
    func enter(_ end: Int) -> [String] { ["nsenter", "--net=/proc/\(keepers[end].pid)/ns/net"] }

    /// No more than this goes through in a second, in the direction from the first end to the second.
    func limit(megabits: Int) throws {
        try must(
            0, "tc", "qdisc", "add", "dev", "cable", "root", "tbf", "rate", "\(megabits)mbit", "burst", "64kb",
            "latency", "400ms")
    }

    func removeLimit() throws { try must(0, "tc", "qdisc", "delete", "dev", "cable", "root") }

    /// `up` or `down`.
    func set(_ state: String) throws { try must(0, "ip", "link", "set", "cable", state) }

    private func must(_ end: Int, _ command: String...) throws {
        let line = enter(end) + command
        let outcome = try world.run(line[0], Array(line.dropFirst()))
        guard outcome.status == 0 else { throw Failed("\(outcome)") }
    }
}
