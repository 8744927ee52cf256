import Foundation
import WALNode

/// A bar on a terminal for work that takes long: the first scan and a sync. Elsewhere nothing is drawn; the log says when
/// such work begins and ends.
package struct ProgressBar: Sendable {
    private let status: @Sendable () -> NodeStatus?

    package init(_ status: @escaping @Sendable () -> NodeStatus?) {
        self.status = status
    }

    /// Draws until the task is cancelled.
    package func run() async {
        guard Terminal.isInteractive else { return }
        var began: Date?
        defer { Terminal.draw("") }
        while !Task.isCancelled {
            if let status = status(), let progress = status.progress {
                let start = began ?? Date()
                began = start
                Terminal.draw(Self.text(status.state, progress, seconds: Date().timeIntervalSince(start)))
            } else {
                began = nil
                Terminal.draw("")
            }
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    /// `syncing  1,234/50,000 files  12.3/404.0 MB  98.1 MB/s  4 s left`
    package static func text(_ state: String, _ progress: NodeStatus.Progress, seconds: Double) -> String {
        let rate = seconds > 0 ? Double(progress.bytes) / seconds : 0
        var text = "\(state)  \(progress.files)"
        if let total = progress.totalFiles { text += "/\(total)" }
        text += " files  \(Units.bytes(progress.bytes))"
        if let total = progress.totalBytes { text += "/\(Units.bytes(total))" }
        text += "  \(Units.bytes(UInt64(rate)))/s"
        if let total = progress.totalBytes, rate > 0, total > progress.bytes {
            text += "  \(Int((Double(total - progress.bytes) / rate).rounded(.up))) s left"
        }
        return text
    }
}

package enum Units {
    /// Powers of 1,000, as disks and networks are sold.
    package static func bytes(_ bytes: UInt64) -> String {
        var value = Double(bytes)
        for unit in ["B", "kB", "MB", "GB"] {
            if value < 1000 { return unit == "B" ? "\(bytes) B" : String(format: "%.1f %@", value, unit) }
            value /= 1000
        }
        return String(format: "%.1f TB", value)
    }

    package static func seconds(_ seconds: Double?) -> String {
        guard let seconds else { return "unknown" }
        return seconds < 10 ? String(format: "%.1f s", seconds) : "\(Int(seconds)) s"
    }
}
