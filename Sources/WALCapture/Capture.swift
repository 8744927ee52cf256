import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// Keeps the catalog and the log of a primary's tree current. It runs on one thread from ``run()`` to its end: a request
/// to stop, a log or catalog that cannot be written, or a root that is not the root any more.
///
/// Events only mark things dirty. What happened is found by looking and comparing with the catalog, always by the same
/// code (``Reconciler``), be it for an event, the scan at the start, or a mark.
package final class Capture {
    private let rootPath: String
    private let root: Directory
    private let state: Directory
    private let catalog: Catalog
    private let sink: any CaptureSink
    private let settings: CaptureSettings
    private let mailbox: CaptureMailbox
    private let progress: CaptureProgress
    private let watcher: Watcher
    private let reconciler: Reconciler
    private var dirty: DirtySet
    private var isOverflowed = false
    private var lastScan: UInt64 = 0
    private let stateIdentity: FileIdentity

    /// `root` is the tree's root, `state` the folder beside or below it that is never captured.
    package init(
        rootPath: String, root: Directory, state: Directory, catalog: Catalog, sink: any CaptureSink,
        settings: CaptureSettings, mailbox: CaptureMailbox, progress: CaptureProgress
    ) throws {
        self.rootPath = rootPath
        self.root = root
        self.state = state
        self.catalog = catalog
        self.sink = sink
        self.settings = settings
        self.mailbox = mailbox
        self.progress = progress
        watcher = try Watcher()
        stateIdentity = try state.status().identity
        reconciler = Reconciler(
            root: root, rootStatus: try root.status(), stateIdentity: stateIdentity, watcher: watcher,
            settings: settings, progress: progress, sink: sink)
        dirty = DirtySet(settle: settings.settleNanoseconds, maxDelay: settings.maxDelayNanoseconds)
        reconciler.isContentDirty = { [unowned self] in dirty.isContentDirty(.name($0)) }
    }

    /// `ready` is called once, after the first scan.
    package func run(ready: () -> Void) throws {
        defer { progress.phase = .stopped }
        do {
            try runUntilStopped(ready)
        } catch CaptureError.stopped {
        }
    }

    private func runUntilStopped(_ ready: () -> Void) throws {
        try scan(phase: .scanning, since: Clock.monotonicNanoseconds())
        ready()
        while true {
            var marks: [@Sendable (Result<Position, any Error>) -> Void] = []
            var isStopping = false
            for request in mailbox.take() {
                switch request {
                case .stop: isStopping = true
                case .rescan: isOverflowed = true
                case .mark(let done): marks.append(done)
                }
            }
            if isStopping {
                for mark in marks { mark(.failure(CaptureError.stopped)) }
                return
            }
            try turn(marks: marks)
        }
    }

    private func turn(marks: [@Sendable (Result<Position, any Error>) -> Void]) throws {
        if !marks.isEmpty {
            do {
                let position = try captureEverything()
                for mark in marks { mark(.success(position)) }
            } catch {
                for mark in marks { mark(.failure(error)) }
                throw error
            }
            return
        }
        try drainEvents()
        if isOverflowed || isScanDue { try scan(phase: .rescan, since: Clock.monotonicNanoseconds()) }
        let now = Clock.monotonicNanoseconds()
        if let due = dirty.nextDue, due <= now { try captureDue(all: false, since: now) }
        progress.dirty.store(dirty.count, ordering: .relaxed)
        try waitForWork()
    }

    private var isScanDue: Bool {
        settings.scanIntervalNanoseconds > 0
            && Clock.monotonicNanoseconds() - lastScan >= settings.scanIntervalNanoseconds
    }

    private func waitForWork() throws {
        let now = Clock.monotonicNanoseconds()
        var wait: UInt64? = nil
        if let due = dirty.nextDue { wait = due > now ? due - now : 0 }
        if settings.scanIntervalNanoseconds > 0 {
            let scan = lastScan + settings.scanIntervalNanoseconds
            wait = min(wait ?? .max, scan > now ? scan - now : 0)
        }
        // Rounded up, or the last millisecond would be spent turning in circles.
        let milliseconds = wait.map { Int(min(($0 + 999_999) / 1_000_000, 86_400_000)) }
        let ready = try Poller.poll(
            descriptors: [watcher.inotify.descriptor, mailbox.wake.descriptor], timeoutMilliseconds: milliseconds)
        if ready.contains(mailbox.wake.descriptor) { mailbox.wake.drain() }
    }

    // MARK: Events

    private func drainEvents() throws {
        let now = Clock.monotonicNanoseconds()
        try watcher.drain { event in
            guard let directory = event.directory else {
                if event.mask.contains(.overflow) { isOverflowed = true }
                return
            }
            if event.name.isEmpty {
                if event.mask.contains(.unmount) { isOverflowed = true }
                dirty.mark(.directory(directory), content: false, now: now)
                return
            }
            let name = Name(trusted: event.name)
            if directory == .root, name == Reconciler.reservedName { return }
            let content = !event.mask.isDisjoint(with: [.modify, .closeWrite, .create])
            let arrival = !event.mask.isDisjoint(with: [.create, .movedTo])
            dirty.mark(
                .name(Place(parent: directory, name: name)), content: content, arrival: arrival, now: now)
            if !event.mask.isDisjoint(with: [.create, .delete, .movedFrom, .movedTo]) {
                dirty.mark(.directory(directory), content: false, now: now)
            }
        }
    }

    // MARK: Batches

    /// Everything that was written before the call: the cookie's event comes after the events of all of it.
    private func captureEverything() throws -> Position {
        let cookie = temporaryName()
        let cookies = Name("cookies")
        do throws(SystemError) {
            try state.makeDirectory(cookies)
        } catch {
            guard error.isExisting else { throw error }
        }
        let folder = try state.openDirectory(cookies)
        let watch = try watcher.inotify.add(folder)
        defer { try? watcher.inotify.remove(watch) }
        try folder.createFile(cookie).close()
        defer { try? folder.unlink(cookie) }
        // The kernel queues in order, so whatever was written before the cookie stands before it in the queue, and one
        // drain after the file was made takes both.
        try drainEvents()
        let start = Clock.monotonicNanoseconds()
        while true {
            if isOverflowed { try scan(phase: .rescan, since: start) }
            try captureDue(all: true, since: start)
            // Only what was being written stays behind, at most for the maximum delay.
            guard isOverflowed || dirty.hasDirt(since: start) else { break }
            let ready = try Poller.poll(descriptors: [mailbox.wake.descriptor], timeoutMilliseconds: 5)
            if !ready.isEmpty { mailbox.wake.drain() }
            try drainEvents()
        }
        return try catalog.state().position
    }

    private func captureDue(all: Bool, since: UInt64) throws {
        try checkRoot()
        try catalog.write { transaction in
            try reconciler.begin(transaction, since: since)
            var taken = 0
            while let (item, dirt) = dirty.take(now: Clock.monotonicNanoseconds(), all: all) {
                switch item {
                case .name(let place): try reconciler.name(glance(place, dirt))
                case .directory(let object): try reconciler.directory(object)
                }
                try reconciler.emitIfFull()
                taken += 1
                // The kernel's queue is finite; a long batch must not let it overflow.
                if taken % 128 == 0 { try drainEvents() }
                // What keeps coming goes into the next transaction, or this one would never end.
                if taken >= 20_000 { break }
            }
            try finish()
        }
        takeBack()
    }

    private func glance(_ place: Place, _ dirt: DirtySet.Dirt) -> Reconciler.Glance {
        let isOverdue = Clock.monotonicNanoseconds() >= dirt.first + settings.maxDelayNanoseconds
        return Reconciler.Glance(place: place, content: dirt.content, since: dirt.first, isOverdue: isOverdue)
    }

    private func finish() throws {
        try reconciler.finish {
            try drainEvents()
            return dirty.takeArrivals().map { glance($0, $1) }
        }
    }

    /// What is to be looked at again.
    private func takeBack() {
        let now = Clock.monotonicNanoseconds()
        for glance in reconciler.takeRetries() { dirty.markAgain(.name(glance.place), since: glance.since, now: now) }
        for place in reconciler.takeFuzzy() { dirty.mark(.name(place), content: true, now: now) }
        if reconciler.needsScan { isOverflowed = true }
    }

    /// Looks at the whole tree. Also the way to begin: of an empty catalog everything is new.
    private func scan(phase: CaptureProgress.Phase, since: UInt64) throws {
        try checkRoot()
        progress.phase = phase
        progress.namesSeen.store(0, ordering: .relaxed)
        progress.skippedSpecial.store(0, ordering: .relaxed)
        progress.immutable.store(0, ordering: .relaxed)
        isOverflowed = false
        // Whatever is dirty is looked at by the scan; what becomes dirty during it is looked at again.
        dirty.removeAll()
        try catalog.write { transaction in
            try reconciler.begin(transaction, since: since)
            do {
                try reconciler.scan { try drainEvents() }
                try finish()
            } catch CaptureError.stopped {
                guard reconciler.abandon() else { throw CaptureError.stopped }
            }
        }
        try progress.checkCancelled()
        takeBack()
        progress.watches.store(watcher.count, ordering: .relaxed)
        progress.watchLimitReached.store(watcher.reachedLimit, ordering: .relaxed)
        lastScan = Clock.monotonicNanoseconds()
        progress.phase = .watching
    }

    private func checkRoot() throws {
        guard try root.status().identity == currentRootIdentity() else {
            throw CaptureError.rootChanged(
                "\(rootPath) is not the directory that it was at the start; nothing was taken for deleted. Put it back "
                    + "and start again")
        }
    }

    private func currentRootIdentity() throws -> FileIdentity? {
        do throws(SystemError) {
            return try Directory.open(path: rootPath).status().identity
        } catch {
            if error.isNotFound { return nil }
            throw error
        }
    }
}
