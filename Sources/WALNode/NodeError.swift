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
        /// No primary is known that could take the write.
        case noPrimary = 4
        /// Disk full, or beyond a quota.
        case noSpace = 5
        /// Connection refused, timed out or lost; no route; unknown host.
        case unreachable = 6
        case unauthorized = 7
        case usage = 64
    }

    package var code: Code
    package var description: String
    /// `HOST:PORT` of the node that would answer.
    package var redirect: String?
    /// What was done all the same: a write that is logged, and not yet where it was to be.
    package var position: String?
    /// What was read changed meanwhile; read from the beginning it may be right.
    package var isChanged = false

    package init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }

    /// What is asked of a node that ends: the same whether its answer or the end of the connection comes first.
    static let stopping = NodeError(.unreachable, "the node is stopping, or becomes something else")

    static let notForARole = NodeError(.usage, "this is asked of the process that keeps a tree, not of one mirror")

    /// The same for whatever another room throws: its words are kept.
    package init(_ error: any Error) {
        switch error {
        case let error as NodeError: self = error
        case let error as SystemError where error.isNoSpace: self.init(.noSpace, "\(error)")
        case CatalogError.full: self.init(.noSpace, "\(error)")
        case LogError.noSpace: self.init(.noSpace, "\(error)")
        case let error as LogError: self.init(error.isCorruption ? .diverged : .failed, "\(error)")
        case let error as ApplyError:
            switch error {
            case .diverged, .mismatch: self.init(.diverged, "\(error)")
            case .lost, .interrupted: self.init(.failed, "\(error)")
            case .unfinished(_, let isNoSpace): self.init(isNoSpace ? .noSpace : .failed, "\(error)")
            }
        case let error as Refusal:
            let isDivergence = error.code == .diverged || error.code == .unknownHistory
            self.init(
                isDivergence ? .diverged : error.code == .unauthorized ? .unauthorized : .failed, error.text)
        default: self.init(.failed, "\(error)")
        }
    }
}
