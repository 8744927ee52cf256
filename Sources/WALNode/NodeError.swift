import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem
import WALWire

/// Why a node does not start or stops: one line that names the thing and the remedy, and the exit code that goes with it.
package struct NodeError: Error, Sendable, CustomStringConvertible {
    package enum Code: Int32, Sendable {
        case failed = 1
        /// Behind, timed out, not equal.
        case notMet = 2
        /// Diverged or corrupt.
        case diverged = 3
        /// No primary is known, now.
        case noPrimary = 4
        case usage = 64
    }

    package var code: Code
    package var description: String

    package init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }

    static let notForARole = NodeError(.usage, "this is asked of the process that keeps a tree, not of one mirror")

    /// The same for whatever another room throws: its words are kept.
    package init(_ error: any Error) {
        switch error {
        case let error as NodeError: self = error
        case let error as LogError: self.init(error.isCorruption ? .diverged : .failed, "\(error)")
        case let error as ApplyError:
            switch error {
            case .diverged, .mismatch: self.init(.diverged, "\(error)")
            case .lost, .interrupted: self.init(.failed, "\(error)")
            }
        case let error as Refusal:
            let isDivergence = error.code == .diverged || error.code == .unknownHistory
            self.init(isDivergence ? .diverged : .failed, error.text)
        default: self.init(.failed, "\(error)")
        }
    }
}
