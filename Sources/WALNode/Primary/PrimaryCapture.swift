import Logging
import Synchronization
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALLog
import WALSystem

/// The capture of a primary, and what it waits for: room, and an operator's word on a tree that is doubted.
extension PrimaryNode {
    func startCapture() throws {
        finished.captureBegins()
        _ = try WorkerThread.start(name: "capture", stackBytes: 8 << 20) { [self] in
            do {
                guard let writer = writer.withLock({ $0.take() }) else { return }
                let sink = LogSink(
                    writer: writer, catalog: catalog, history: history, epoch: epoch, compression: settings.compression,
                    retention: settings.retention, replicas: replicas, signal: signal, logger: logger)
                try capture(into: sink, with: writer)
                mailbox.close()
                finished.captureEnded(nil)
            } catch {
                // First the reason: who waits for a mark hears only that none comes any more.
                finished.finish(.failure(NodeError(error)))
                mailbox.close()
                finished.captureEnded(nil)
            }
        }
    }

    /// Captures until it is stopped, over everything that time or an operator puts right.
    private func capture(into sink: LogSink, with writer: LogWriter) throws {
        let deletions = DeletionGuard(settings.maxDelete)
        var acceptsDeletions = settings.capture.acceptsDeletions
        while true {
            switch try capture(into: sink, deletions, &acceptsDeletions) {
            case .stopped: return
            case .full(let text): if waitForRoom(text) { return }
            case .inDoubt(let doubt, let scanNanoseconds):
                try report(doubt)
                // Looking again costs what the last look did; a twentieth of the time may go into that.
                switch try mailbox.waitInDoubt(doubt, nanoseconds: max(1_000_000_000, scanNanoseconds * 20)) {
                case .stop: return
                case .retry(let accepts): acceptsDeletions = accepts
                }
            }
            // The log may be ahead of the catalog now, as after a crash, and is repaired in the same way, before anything
            // is captured.
            while let text = try stillBehind(writer) {
                if waitForRoom(text) { return }
            }
            signal.stalled = nil
        }
    }

    /// True when the node stops.
    private func waitForRoom(_ text: String) -> Bool {
        if signal.stalls(text) { logger.error("\(text); waiting for room") }
        return signal.stopped.wait(timeoutNanoseconds: 1_000_000_000) { $0 ? true : nil } ?? false
    }

    /// Why the catalog, or what a client wrote, is still behind the log; nil when it is not.
    private func stillBehind(_ writer: LogWriter) throws -> String? {
        do {
            try Self.catchUp(catalog, with: writer, folder, logger)
            return nil
        } catch let error as CatalogError {
            guard case .full = error else { throw error }
            return "\(error)"
        } catch let error as SystemError where error.isNoSpace || error.isDenied || error.isBusy {
            return "\(error); what a client wrote is not in the tree yet"
        }
    }

    private func report(_ doubt: CaptureError) throws {
        if settings.endsInDoubt {
            let accept = "start again with --accept-deletions"
            throw NodeError(.failed, "\(doubt): \(doubt.remedy(accept: accept, stateInRoot: stateInRoot))")
        }
        let state = folder.isInRoot ? "" : " --state \(folder.path)"
        let remedy = doubt.remedy(
            accept: "walctl resume \(host.rootPath)\(state) --accept-deletions", stateInRoot: stateInRoot)
        let text = "\(doubt): \(remedy)"
        // Its numbers may be others at each look while somebody goes on removing; that is one event.
        if progress.doubt?.hasSuffix(remedy) != true { logger.error("\(text)") }
        progress.doubt = text
    }

    private var stateInRoot: String? { folder.isInRoot ? StateFolder.defaultName : nil }

    private enum CaptureEnd {
        case stopped
        /// No room for the catalog, or for what a client wrote.
        case full(String)
        /// With what the first scan has cost, where that met the doubt.
        case inDoubt(CaptureError, scanNanoseconds: UInt64)
    }

    /// `acceptsDeletions` is a word for one scan, and is taken back when that is done.
    private func capture(
        into sink: LogSink, _ deletions: DeletionGuard, _ acceptsDeletions: inout Bool
    ) throws -> CaptureEnd {
        let began = Clock.monotonicNanoseconds()
        var isReady = false
        do {
            var settings = settings.capture
            settings.acceptsDeletions = acceptsDeletions
            settings.filter = try file.filterValue
            let capture = try Capture(
                rootPath: host.rootPath, root: root, state: folder.directory, catalog: catalog, sink: sink,
                settings: settings, deletions: deletions, mailbox: mailbox, progress: progress)
            try capture.run {
                isReady = true
                acceptsDeletions = false
                signal.ready.update { $0 = true }
                let state = try? catalog.state()
                logger.info(
                    "capturing",
                    metadata: ["position": "\(state?.position.short ?? "")", "objects": "\(state?.objectCount ?? 0)"])
            }
            return .stopped
        } catch let error as CatalogError {
            guard case .full = error else { throw error }
            return .full("\(error)")
        } catch let error as ApplyError {
            guard case .unfinished = error else { throw error }
            return .full("\(error)")
        } catch let error as CaptureError {
            guard error.isDoubt else { throw error }
            // What was read is known the next time.
            let limit: UInt64 = if case .unread = error { 3_000_000_000 } else { .max }
            return .inDoubt(
                error, scanNanoseconds: isReady ? 0 : min(Clock.monotonicNanoseconds() - began, limit))
        }
    }
}
