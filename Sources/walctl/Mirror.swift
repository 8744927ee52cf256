import ArgumentParser
import Logging
import WALCommand
import WALNode
import WALSystem

struct Mirror: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Keep DST equal to SRC, with both daemons in this process.",
        discussion: """
            The same as walship SRC and walrecv DST on one host. With --once it ends when DST is equal to what SRC held, \
            reads all of DST again and prints the proof.
            """)

    @Argument(help: "The directory to mirror.")
    var src: String

    @Argument(help: "The mirror: an empty directory, or one that was a mirror before. Made if it is not there.")
    var dst: String

    @Flag(help: "Mirror what is there now, prove that it is equal, and exit.")
    var once = false

    @Flag(help: "Take over what is in DST.")
    var adopt = false

    @OptionGroup var filter: FilterOptions
    @OptionGroup var log: LogOptions

    func run() async throws {
        try await exitingOnError("walctl", format: log.format) {
            var logger = log.logger("walctl")
            // A person who mirrors once wants the proof; what happened on the way is for those who ask.
            if once, logger.logLevel == .info { logger.logLevel = .warning }
            let node = try makeNode(logger)
            let bar = Task { await ProgressBar { node.currentStatus() }.run() }
            defer { bar.cancel() }
            try await runServices([node], logger: logger)
            guard once else { return }
            guard let proof = node.proof else {
                throw NodeError(.notMet, "stopped before the mirror was equal; start again to go on")
            }
            try show(proof)
        }
    }

    private func show(_ proof: MirrorNode.Proof) throws {
        try printAnswer("position     \(proof.mirror.position.text)")
        try printAnswer("source tree  \(proof.source.treeDigest)  \(proof.source.objects) objects")
        try printAnswer(
            "mirror tree  \(proof.mirror.treeDigest)  \(proof.mirror.names) names, "
                + "\(Units.bytes(proof.mirror.bytes)) read again")
        try printAnswer("equal")
    }

    /// What is refused leaves no new directory behind.
    private func makeNode(_ logger: Logger) throws -> MirrorNode {
        try checkNesting()
        let isNew = try StateFolder.makeRoot(dst)
        do {
            return try MirrorNode(
                source: src, mirror: dst, adopts: adopt, isOnce: once, filter: try filter.filter(), logger: logger)
        } catch {
            if isNew { StateFolder.unmakeRoot(dst) }
            throw error
        }
    }

    private func checkNesting() throws {
        guard let from = try StateFolder.openRoot(src).currentPath, let to = try StateFolder.realPath(dst) else {
            return
        }
        func isWithin(_ inner: [UInt8], _ outer: [UInt8]) -> Bool {
            inner == outer || outer == [0x2F] || inner.starts(with: outer + [0x2F])
        }
        guard !isWithin(to, from), !isWithin(from, to) else {
            throw NodeError(.usage, "\(src) and \(dst) are one within the other; a mirror must stand apart")
        }
    }
}
