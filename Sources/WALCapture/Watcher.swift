import WALCatalog
import WALFormat
import WALSystem

/// inotify watches by directory object: a rename of a directory, or of one above it, leaves them right.
final class Watcher {
    let inotify: Inotify
    private var objects: [Int32: ObjectID] = [:]
    private var watches: [ObjectID: Int32] = [:]
    private let buffer: UnsafeMutableRawBufferPointer
    /// Not every directory could be watched: what changes there is seen at the next scan only.
    private(set) var reachedLimit = false

    init() throws {
        inotify = try Inotify()
        buffer = .allocate(byteCount: 256 << 10, alignment: 8)
    }

    deinit {
        buffer.deallocate()
    }

    var count: Int { watches.count }

    func isWatching(_ object: ObjectID) -> Bool { watches[object] != nil }

    /// True when nobody watched it before.
    @discardableResult
    func watch(_ object: ObjectID, _ directory: Directory) throws(SystemError) -> Bool {
        guard watches[object] == nil else { return false }
        do throws(SystemError) {
            let watch = try inotify.add(directory)
            // The same inode under another number: the later number is the right one.
            if let old = objects[watch] { watches[old] = nil }
            objects[watch] = object
            watches[object] = watch
        } catch {
            guard error.isWatchLimit else { throw error }
            reachedLimit = true
        }
        return true
    }

    func unwatch(_ object: ObjectID) {
        guard let watch = watches.removeValue(forKey: object) else { return }
        objects[watch] = nil
        // The kernel has removed it already when the directory is gone.
        try? inotify.remove(watch)
    }

    struct Event {
        /// nil: the queue overflowed, or the watch is not ours any more.
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
            if isEmpty { return }
        }
    }
}
