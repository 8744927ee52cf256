import Foundation
import Logging
import WALFormat
import WALSystem

/// A site's own program, run when a node has changed its role: to stop applications, to move an address, to remount.
///
/// No shell is between: the words are the program and its arguments, and what is told of the node comes by the environment
/// and can be taken for nothing else.
package enum RoleHook {
    package enum Event: String, Codable, Sendable {
        case promote, fence
    }

    /// What is due is started, once; twice only where this process ends just then.
    static func runPending(_ settings: NodeSettings, _ host: NodeHost) {
        guard let event = host.identity.value.pendingHook else { return }
        run(event == .promote ? settings.onPromote : settings.onFence, event, host)
        do { try host.identity.update { $0.pendingHook = nil } } catch {
            host.logger.warning("on-\(event) is run again at the next start: \(error)")
        }
    }

    /// Starts it and goes on; how it ends is logged.
    private static func run(_ command: [String], _ event: Event, _ host: NodeHost) {
        guard let program = command.first else { return }
        let file = host.identity.value
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = Array(command.dropFirst())
        var environment = ProcessInfo.processInfo.environment
        environment["WALSHIP_EVENT"] = event.rawValue
        environment["WALSHIP_TREE"] = host.rootPath
        environment["WALSHIP_NODE"] = file.node
        environment["WALSHIP_EPOCH"] = "\(file.promisedEpoch)"
        environment["WALSHIP_PRIMARY"] = file.leader ?? file.successor?.address ?? ""
        process.environment = environment
        process.standardInput = FileHandle.nullDevice
        let logger = host.logger
        process.terminationHandler = { ended in
            if ended.terminationReason == .exit, ended.terminationStatus == 0 {
                logger.info("on-\(event): \(program) has ended")
            } else {
                let how = ended.terminationReason == .exit ? "exit" : "signal"
                logger.error("on-\(event): \(program) ended with \(how) \(ended.terminationStatus)")
            }
        }
        do {
            try process.run()
            logger.notice("on-\(event): started \(program)")
        } catch {
            logger.error("on-\(event): \(program) cannot be started: \(error.localizedDescription)")
        }
    }
}
