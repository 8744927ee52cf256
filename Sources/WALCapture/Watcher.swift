import WALCatalog
import WALFormat
import WALSystem

/// Watches by directory object: a rename of a directory, or of one above it, leaves them right.
///
/// A directory has an inotify watch while there are any. The others, where this process may, are told of by fanotify on
/// the whole file system; else they are unwatched, and only a scan sees what changes there.
final class Watcher {
    private let inotify: Inotify
    private let maxWatches: Int
    private var objects: [Int32: ObjectID] = [:]
    private var watches: [ObjectID: Int32] = [:]
    private var fanotify: Fanotify?
    private var mayUseFanotify = true
    private var handled: [FileHandleKey: ObjectID] = [:]
    private var handles: [ObjectID: FileHandleKey] = [:]
    private var unwatched: Set<ObjectID> = []
    private let buffer: UnsafeMutableRawBufferPointer

    init(maxWatches: Int) throws {
        self.maxWatches = maxWatches
        inotify = try Inotify()
        buffer = .allocate(byteCount: 256 << 10, alignment: 8)
    }

    deinit {
        buffer.deallocate()
    }

    /// To wait for, with ``Poller``.
    var descriptors: [Int32] { [inotify.descriptor] + (fanotify.map { [$0.descriptor] } ?? []) }

    var count: Int { watches.count }
    var filesystemCount: Int { handles.count }
    var unwatchedCount: Int { unwatched.count }
    /// What changes in some directories is seen at the next scan only.
    var isPartial: Bool { !unwatched.isEmpty }

    func isWatching(_ object: ObjectID) -> Bool { watches[object] != nil || handles[object] != nil }

    /// Whether somebody has seen that it is to be watched, be it in vain.
    func isKnown(_ object: ObjectID) -> Bool { isWatching(object) || unwatched.contains(object) }

    /// True when nobody watched it before.
    @discardableResult
    func watch(_ object: ObjectID, _ directory: Directory) throws(SystemError) -> Bool {
        guard !isWatching(object) else { return false }
        if try !addWatch(object, directory), !addHandle(object, directory) { unwatched.insert(object) }
        return true
    }

    /// False at the limit.
    private func addWatch(_ object: ObjectID, _ directory: Directory) throws(SystemError) -> Bool {
        guard watches.count < maxWatches else { return false }
        do throws(SystemError) {
            let watch = try inotify.add(directory)
            // The same inode under another number: the later number is the right one.
            if let old = objects[watch] { watches[old] = nil }
            objects[watch] = object
            watches[object] = watch
            return true
        } catch {
            guard error.isWatchLimit else { throw error }
            return false
        }
    }

    /// False where fanotify is not to be had.
    private func addHandle(_ object: ObjectID, _ directory: Directory) -> Bool {
        guard mayUseFanotify else { return false }
        do throws(SystemError) {
            if fanotify == nil {
                let made = try Fanotify()
                try made.watchFilesystem(of: directory)
                fanotify = made
            }
            let handle = try FileHandleKey(of: directory)
            if let old = handled[handle] { handles[old] = nil }
            handled[handle] = object
            handles[object] = handle
            return true
        } catch {
            // No privilege, an old kernel, a file system without handles: none of that changes while this runs.
            mayUseFanotify = false
            return false
        }
    }

    func unwatch(_ object: ObjectID) {
        unwatched.remove(object)
        if let handle = handles.removeValue(forKey: object) { handled[handle] = nil }
        guard let watch = watches.removeValue(forKey: object) else { return }
        objects[watch] = nil
        // The kernel has removed it already when the directory is gone.
        try? inotify.remove(watch)
    }

    /// A scan visits all directories, and adds those again that still cannot be watched.
    func forgetUnwatched() {
        unwatched.removeAll(keepingCapacity: true)
    }

    struct Event {
        /// nil: the queue overflowed, or the directory is not ours, or not any more.
        var directory: ObjectID?
        var mask: InotifyMask
        var name: [UInt8]
    }

    /// All events that wait, in order.
    func drain(_ body: (Event) -> Void) throws {
        while true {
            var isEmpty = true
            for event in try inotify.read(into: buffer) {
                isEmpty = false
                let directory = event.wd < 0 ? nil : objects[event.wd]
                if event.mask.contains(.ignored), let directory {
                    objects[event.wd] = nil
                    watches[directory] = nil
                }
                body(Event(directory: directory, mask: event.mask, name: event.name))
            }
            if isEmpty { break }
        }
        guard let fanotify else { return }
        while true {
            var isEmpty = true
            for event in try fanotify.read(into: buffer) {
                isEmpty = false
                // Most are of other directories of the file system, this program's own state among them.
                let directory = event.directory.flatMap { handled[$0] }
                guard directory != nil || event.mask.contains(.overflow) else { continue }
                body(Event(directory: directory, mask: event.mask, name: event.name))
            }
            if isEmpty { return }
        }
    }
}
