import Synchronization
import WALCatalog
import WALFormat
import WALSystem

/// Keeps the catalog and the log of a primary's tree current. It runs on one thread from ``run()`` to its end: a request
/// to stop, a log or catalog that cannot be written, or a doubt about the tree (``CaptureError/isDoubt``). After the last
/// two a new one may go on with what is on disk: what this one knew beside that is gone with it.
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
    private let mounts: MountWatch
    private let reconciler: Reconciler
    private var dirty: DirtySet
    private var isOverflowed = false
    private var lastScan: UInt64 = 0
    private var scanCost: UInt64 = 0
    /// When to look again at what could not be read; nil where all could.
    private var nextReread: UInt64?
    private let rootStatus: FileStatus
    private let stateIdentity: FileIdentity
    private let catalogIdentity: FileIdentity?

    /// `root` is the tree's root, `state` the folder beside or below it that is never captured; the catalog is in there.
    package init(
        rootPath: String, root: Directory, state: Directory, catalog: Catalog, sink: any CaptureSink,
        settings: CaptureSettings, deletions: DeletionGuard, mailbox: CaptureMailbox, progress: CaptureProgress
    ) throws {
        self.rootPath = rootPath
        self.root = root
        self.state = state
        self.catalog = catalog
        self.sink = sink
        self.settings = settings
        self.mailbox = mailbox
        self.progress = progress
        watcher = try Watcher(maxWatches: settings.maxWatches ?? .max)
        mounts = MountWatch(root: root)
        rootStatus = try root.status()
        stateIdentity = try state.status().identity
        catalogIdentity = Self.identity(of: Self.catalogName, in: state)
        reconciler = Reconciler(
            root: root, rootStatus: rootStatus, stateIdentity: stateIdentity, watcher: watcher, settings: settings,
            deletions: deletions, progress: progress, sink: sink)
        dirty = DirtySet(settle: settings.settleNanoseconds, maxDelay: settings.maxDelayNanoseconds)
        reconciler.isContentDirty = { [unowned self] in dirty.isContentDirty(.name($0)) }
        reconciler.contentMarks = { [unowned self] in dirty.contentMarks }
    }

    /// `ready` is called once, after the first scan.
    package func run(ready: () -> Void) throws {
        do {
            try runUntilStopped(ready)
        } catch CaptureError.stopped {
        } catch let error as CaptureError where error.isDoubt {
            // Who goes on with it says first why it has ended.
            throw error
        } catch {
            progress.phase = .stopped
            throw error
        }
        progress.phase = .stopped
    }

    private func runUntilStopped(_ ready: () -> Void) throws {
        try scan(phase: .scanning, since: Clock.monotonicNanoseconds())
        ready()
        while true {
            var marks: [CaptureMailbox.Answer] = []
            var works: [CaptureWork] = []
            var isStopping = false
            for request in mailbox.take() {
                switch request {
                case .stop: isStopping = true
                case .rescan: isOverflowed = true
                case .mark(let done), .resume(_, let done): marks.append(done)
                case .perform(let work): works.append(work)
                }
            }
            if isStopping {
                for mark in marks { mark(.failure(CaptureError.stopped)) }
                for work in works { work.failed(CaptureError.stopped) }
                return
            }
            try turn(marks: marks, works)
        }
    }

    private func turn(marks: [CaptureMailbox.Answer], _ works: [CaptureWork]) throws {
        if !marks.isEmpty || !works.isEmpty {
            do {
                let position = try captureEverything()
                for mark in marks { mark(.success(position)) }
            } catch {
                for mark in marks { mark(.failure(error)) }
                for work in works { work.failed(error) }
                throw error
            }
            try perform(works)
            return
        }
        try drainEvents()
        if try mounts.takeChange() { isOverflowed = true }
        if isOverflowed || isScanDue { try scan(phase: .rescan, since: Clock.monotonicNanoseconds()) }
        let now = Clock.monotonicNanoseconds()
        if let due = nextReread, due <= now { markUnread(now) }
        if let due = dirty.nextDue, due <= now { try captureDue(all: false, since: now) }
        progress.dirty.store(dirty.count, ordering: .relaxed)
        try waitForWork()
    }

    private func perform(_ works: [CaptureWork]) throws {
        let access = CaptureAccess(catalog: catalog, sink: sink) { [reconciler] in reconciler.forget(directories: $0) }
        var waiting = works[...]
        while let work = waiting.popFirst() {
            do {
                try work.body(access)
            } catch {
                for work in waiting { work.failed(error) }
                throw error
            }
        }
    }

    /// When to look at the whole tree for what raised no event. Where directories are not watched that is the only way to
    /// see their changes, so it is as often as a twentieth of the time allows.
    private var nextScan: UInt64? {
        var interval = settings.scanIntervalNanoseconds > 0 ? settings.scanIntervalNanoseconds : nil
        if watcher.isPartial { interval = min(interval ?? .max, max(1_000_000_000, scanCost * 20)) }
        return interval.map { lastScan + $0 }
    }

    private var isScanDue: Bool { nextScan.map { $0 <= Clock.monotonicNanoseconds() } ?? false }

    private func waitForWork() throws {
        let now = Clock.monotonicNanoseconds()
        // No event tells that the root was replaced or unmounted.
        var wait = Self.rootCheckNanoseconds
        for time in [dirty.nextDue, nextScan, nextReread].compactMap({ $0 }) {
            wait = min(wait, time > now ? time - now : 0)
        }
        // Rounded up, or the last millisecond would be spent turning in circles.
        let milliseconds = Int((wait + 999_999) / 1_000_000)
        let ready = try Poller.poll(
            descriptors: watcher.descriptors + [mailbox.wake.descriptor], urgent: mounts.descriptors,
            timeoutMilliseconds: milliseconds)
        mounts.note(ready: ready)
        if ready.contains(mailbox.wake.descriptor) { mailbox.wake.drain() }
        if ready.isEmpty { try checkRoot() }
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

    /// Everything that was written before the call: a write has queued its events when it returns, so they are there to be
    /// drained; where nobody watches, all is looked at.
    private func captureEverything() throws -> Position {
        try drainEvents()
        if try mounts.takeChange() || watcher.isPartial { isOverflowed = true }
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
                case .name(let place): try reconciler.name(glance(place, dirt, all: all))
                case .directory(let object): try reconciler.directory(object)
                }
                try reconciler.emitIfFull()
                taken += 1
                // The kernel's queue is finite; a long batch must not let it overflow.
                if taken % 128 == 0 { try drainEvents() }
                // What keeps coming goes into the next transaction, or this one would never end.
                if taken >= 20_000 { break }
            }
            try finish(all: all)
        }
        takeBack()
    }

    /// Who waits for all waits no longer than the maximum delay.
    private func glance(_ place: Place, _ dirt: DirtySet.Dirt, all: Bool) -> Reconciler.Glance {
        let patience = all ? settings.maxDelayNanoseconds : dirty.patience(dirt)
        let isOverdue = Clock.monotonicNanoseconds() >= dirt.first + patience
        return Reconciler.Glance(place: place, content: dirt.content, since: dirt.first, isOverdue: isOverdue)
    }

    private func finish(all: Bool) throws {
        try reconciler.finish {
            try drainEvents()
            return dirty.takeArrivals().map { glance($0, $1, all: all) }
        }
    }

    /// What is to be looked at again.
    private func takeBack() {
        let now = Clock.monotonicNanoseconds()
        let costs = reconciler.takeReadCosts()
        for glance in reconciler.takeRetries() {
            dirty.markAgain(
                .name(glance.place), content: glance.content, since: glance.since, cost: costs[glance.place] ?? 0,
                now: now)
        }
        for place in reconciler.takeFuzzy() {
            dirty.markAgain(.name(place), since: now, cost: costs[place] ?? 0, now: now)
        }
        if reconciler.needsScan { isOverflowed = true }
        if reconciler.unread.isEmpty {
            nextReread = nil
        } else if nextReread == nil {
            // Reading in vain may take a twentieth of the time. For the root all is looked at.
            let cost = reconciler.unread.reduce(0) { $0 + ($1.key == Reconciler.nowhere ? scanCost : $1.value.cost) }
            nextReread = now + max(settings.rereadIntervalNanoseconds, cost * 20)
        }
        progress.watches.store(watcher.count, ordering: .relaxed)
        progress.filesystemWatches.store(watcher.filesystemCount, ordering: .relaxed)
        progress.unwatched.store(watcher.unwatchedCount, ordering: .relaxed)
    }

    private func markUnread(_ now: UInt64) {
        for (place, unread) in reconciler.unread {
            // The root has no name.
            if place == Reconciler.nowhere {
                isOverflowed = true
            } else {
                dirty.mark(.name(place), content: unread.content, now: now)
            }
        }
        nextReread = nil
    }

    /// Looks at the whole tree. Also the way to begin: of an empty catalog everything is new.
    private func scan(phase: CaptureProgress.Phase, since: UInt64) throws {
        try checkRoot()
        progress.phase = phase
        let begin = Clock.monotonicNanoseconds()
        progress.namesSeen.store(0, ordering: .relaxed)
        progress.skippedSpecial.store(0, ordering: .relaxed)
        progress.immutable.store(0, ordering: .relaxed)
        progress.overloaded.store(0, ordering: .relaxed)
        progress.clearProblems()
        isOverflowed = false
        // Whatever is dirty is looked at by the scan; what becomes dirty during it is looked at again.
        dirty.removeAll()
        var end: CaptureError?
        try catalog.write { transaction in
            try reconciler.begin(transaction, since: since)
            do {
                try reconciler.scan { try drainEvents() }
                try finish(all: true)
            } catch let error as CaptureError {
                guard error.endsScan, reconciler.abandon() else { throw error }
                end = error
            }
        }
        if let end { throw end }
        try progress.checkCancelled()
        takeBack()
        reconciler.acceptsDeletions = false
        lastScan = Clock.monotonicNanoseconds()
        scanCost = lastScan - begin
        progress.phase = .watching
        progress.doubt = nil
    }

    private static let rootCheckNanoseconds: UInt64 = 5_000_000_000
    private static let catalogName = Name("catalog.sqlite")

    /// Before anything may be taken for deleted. Who empties the tree with all that is in it takes the state away, too, and
    /// what is written to files without a name is lost.
    private func checkRoot() throws {
        let now: FileStatus?
        do throws(SystemError) {
            now = try Directory.open(path: rootPath).status()
        } catch {
            if error.isDenied { throw CaptureError.rootDenied(rootPath) }
            now = nil
        }
        guard let now, now.identity == rootStatus.identity, now.dev == rootStatus.dev else {
            throw CaptureError.rootReplaced(rootPath)
        }
        guard try state.status().linkCount > 0, Self.identity(of: Self.catalogName, in: state) == catalogIdentity else {
            throw CaptureError.stateGone(state.currentPath.map { PathText.escaped($0) } ?? "")
        }
    }

    private static func identity(of name: Name, in directory: Directory) -> FileIdentity? {
        try? directory.status(of: name).identity
    }
}
