import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// How other threads speak to the capture thread.
package final class CaptureMailbox: Sendable {
    package typealias Answer = @Sendable (Result<Position, any Error>) -> Void

    enum Request: Sendable {
        case mark(Answer)
        /// Try again what is in doubt; a mark where nothing is.
        case resume(acceptsDeletions: Bool, Answer)
        /// A change of the node's own, between two batches.
        case perform(CaptureWork)
        case rescan
        case stop
    }

    private let requests = Mutex<[Request]>([])
    private let isClosed = Mutex<Bool>(false)
    let wake: EventFD

    package init() throws {
        wake = try EventFD()
    }

    /// Captures all that was written before the call and gives the position that holds it. `done` is called on the
    /// capture thread.
    package func mark(_ done: @escaping Answer) {
        post(.mark(done))
    }

    /// Goes on where the tree was doubted, if it is right by now or `acceptsDeletions`; then as ``mark(_:)``.
    package func resume(acceptsDeletions: Bool, _ done: @escaping Answer) {
        post(.resume(acceptsDeletions: acceptsDeletions, done))
    }

    /// Captures all that was written before the call, as ``mark(_:)``, and then has the work done on the capture thread.
    package func perform(_ work: CaptureWork) {
        post(.perform(work))
    }

    package func rescan() {
        post(.rescan)
    }

    package func stop() {
        post(.stop)
    }

    private func post(_ request: Request) {
        let refused = isClosed.withLock { closed in
            if !closed { requests.withLock { $0.append(request) } }
            return closed
        }
        if refused {
            request.fail(CaptureError.stopped)
            return
        }
        wake.signal()
    }

    func take() -> [Request] {
        requests.withLock { waiting in
            defer { waiting.removeAll() }
            return waiting
        }
    }

    /// After this nobody waits for an answer that never comes.
    package func close() {
        isClosed.withLock { $0 = true }
        for request in take() { request.fail(CaptureError.stopped) }
    }

    package enum Turn: Sendable {
        case retry(acceptsDeletions: Bool)
        case stop
    }

    /// While the capture cannot go on: answers marks with the reason, and returns when there is something to try. What
    /// asked for that is answered by the try.
    package func waitInDoubt(_ reason: CaptureError, nanoseconds: UInt64) throws -> Turn {
        let end = Clock.monotonicNanoseconds() + nanoseconds
        while true {
            let requests = take()
            if requests.contains(where: { if case .stop = $0 { true } else { false } }) {
                for request in requests { request.fail(CaptureError.stopped) }
                return .stop
            }
            var resumed: (acceptsDeletions: Bool, answers: [Answer])?
            for request in requests {
                switch request {
                case .stop, .rescan: break
                case .mark(let done): done(.failure(reason))
                case .perform(let work): work.failed(reason)
                case .resume(let accepts, let done):
                    resumed = (resumed?.acceptsDeletions ?? false || accepts, (resumed?.answers ?? []) + [done])
                }
            }
            if let resumed {
                for answer in resumed.answers { mark(answer) }
                return .retry(acceptsDeletions: resumed.acceptsDeletions)
            }
            let now = Clock.monotonicNanoseconds()
            guard now < end else { return .retry(acceptsDeletions: false) }
            let ready = try Poller.poll(
                descriptors: [wake.descriptor], timeoutMilliseconds: Int((end - now + 999_999) / 1_000_000))
            if !ready.isEmpty { wake.drain() }
        }
    }
}

extension CaptureMailbox.Request {
    func fail(_ error: any Error) {
        switch self {
        case .mark(let done), .resume(_, let done): done(.failure(error))
        case .perform(let work): work.failed(error)
        case .rescan, .stop: break
        }
    }
}

/// What is done on the capture thread while nothing is being captured.
package struct CaptureWork: Sendable {
    /// What it throws ends the capture: the catalog may be behind the log. Anything less it keeps to itself.
    let body: @Sendable (CaptureAccess) throws -> Void
    /// It will not be done.
    let failed: @Sendable (any Error) -> Void

    package init(
        _ body: @escaping @Sendable (CaptureAccess) throws -> Void, failed: @escaping @Sendable (any Error) -> Void
    ) {
        self.body = body
        self.failed = failed
    }
}

/// What such work may use, within the call only.
package struct CaptureAccess {
    package let catalog: Catalog
    package let sink: any CaptureSink
    /// Directories that are gone from the catalog.
    package let forget: ([ObjectID]) -> Void
}
