import Foundation
import Glibc

extension World {
    /// Waits until the replicas are equal to the primary, whose tree must not change meanwhile: by an oracle that knows
    /// nothing of the suite, and then by `walctl verify --deep`.
    ///
    /// `seconds` are for what the primary finds by a scan only, from when the replicas have what it knows of.
    func waitUntilEqual(_ primary: Node, port: Int, _ replicas: [Node], seconds: Double) throws {
        try catchUp(primary, replicas)
        for replica in replicas {
            var last = "never compared"
            let deadline = Date(timeIntervalSinceNow: seconds)
            while true {
                do {
                    let differences = try Oracle.differences(primary.folder, replica.folder)
                    if differences.isEmpty { break }
                    last = Self.describe(differences)
                } catch let error as Failed {
                    // The replica is about to change something.
                    last = "\(error)"
                }
                guard Date() < deadline else {
                    throw Failed("\(replica.folder) is not equal after \(seconds) s\n\(last)")
                }
                usleep(200_000)
            }
        }
        for replica in replicas {
            let verify = try run("walctl", "verify", "--deep", replica.folder, "--against", "127.0.0.1:\(port)")
            if verify.status != 0 { throw Failed("\(verify)") }
        }
    }

    /// Zeros that are data here and a hole there are a lesser evil than other content: the first line says which.
    private static func describe(_ differences: [String]) -> String {
        let holes = differences.count { $0.contains(": data is ") }
        let title =
            holes == differences.count
            ? "ONLY HOLES differ, the contents do not: \(holes) files" : "MORE THAN HOLES differs"
        return ([title] + differences.prefix(20)).joined(separator: "\n")
    }
}
