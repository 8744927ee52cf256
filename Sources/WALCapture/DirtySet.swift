import WALCatalog
import WALFormat

/// What may have changed since it was last looked at, with the time at which it may be looked at.
///
/// An item is due when it has been quiet for the settle time, or has been restless for the maximum delay. Each item has
/// its own times: under a steady stream of changes every one of them still settles by itself. One that was read and had
/// changed meanwhile has times of the order of what that took, or a large file that is written to would be read all the
/// time, and its replicas would copy it as often.
struct DirtySet {
    enum Item: Hashable {
        case name(Place)
        /// The directory's own metadata: its time changes with every entry that comes or goes.
        case directory(ObjectID)
    }

    struct Dirt {
        var first: UInt64
        var last: UInt64
        /// Content may have changed, so size and times are not enough to say that it has not.
        var content: Bool
        /// Something may have come to the name.
        var arrival = false
        /// What it took to read it the last time, while it was written, in nanoseconds.
        var cost: UInt64 = 0
    }

    let settle: UInt64
    let maxDelay: UInt64
    private var items: [Item: Dirt] = [:]
    /// One entry for each item, roughly in the order of being due; an item that was touched again goes to the back when
    /// its turn comes.
    private var queue: [(due: UInt64, item: Item)] = []
    private var head = 0
    /// How often content was marked so far: what was found clean stays so while this does not move.
    private(set) var contentMarks: UInt64 = 0

    /// Times are monotonic nanoseconds.
    init(settle: UInt64, maxDelay: UInt64) {
        self.settle = settle
        self.maxDelay = maxDelay
    }

    var isEmpty: Bool { items.isEmpty }
    var count: Int { items.count }

    mutating func mark(_ item: Item, content: Bool, arrival: Bool = false, now: UInt64) {
        if content { contentMarks += 1 }
        if var dirt = items[item] {
            dirt.last = now
            dirt.content = dirt.content || content
            dirt.arrival = dirt.arrival || arrival
            items[item] = dirt
        } else {
            items[item] = Dirt(first: now, last: now, content: content, arrival: arrival)
            queue.append((now + settle, item))
        }
    }

    /// Puts back what could not be read stably, with the time at which its restlessness began.
    mutating func markAgain(_ item: Item, content: Bool = true, since first: UInt64, cost: UInt64, now: UInt64) {
        if content { contentMarks += 1 }
        guard items[item] == nil else {
            items[item]!.first = min(items[item]!.first, first)
            items[item]!.content = items[item]!.content || content
            items[item]!.cost = max(items[item]!.cost, cost)
            return
        }
        let dirt = Dirt(first: first, last: now, content: content, cost: cost)
        items[item] = dirt
        queue.append((due(dirt), item))
    }

    /// Whether a write to the item waits to be looked at.
    func isContentDirty(_ item: Item) -> Bool { items[item]?.content ?? false }

    /// Takes out every name that something may have come to, due or not.
    mutating func takeArrivals() -> [(Place, Dirt)] {
        var found: [(Place, Dirt)] = []
        for (item, dirt) in items where dirt.arrival {
            if case .name(let place) = item { found.append((place, dirt)) }
        }
        for (place, _) in found { items[.name(place)] = nil }
        return found
    }

    private func due(_ dirt: Dirt) -> UInt64 {
        min(dirt.last + max(settle, dirt.cost), dirt.first + patience(dirt))
    }

    /// How long a restless item is left alone: reading it may take a fifth of the time.
    func patience(_ dirt: Dirt) -> UInt64 { max(maxDelay, 4 * dirt.cost) }

    /// True when something became dirty at or before `time` and was not captured since.
    func hasDirt(since time: UInt64) -> Bool {
        items.contains { $0.value.first <= time }
    }

    /// When the next item may be due; nil when there is none.
    var nextDue: UInt64? {
        head < queue.count ? queue[head].due : nil
    }

    /// Takes out one item that is due, or any when `all`.
    mutating func take(now: UInt64, all: Bool) -> (Item, Dirt)? {
        while head < queue.count, all || queue[head].due <= now {
            let item = queue[head].item
            head += 1
            if head > 4096, head * 2 > queue.count {
                queue.removeFirst(head)
                head = 0
            }
            guard let dirt = items[item] else { continue }
            let due = due(dirt)
            if !all, due > now {
                queue.append((due, item))
                continue
            }
            items[item] = nil
            return (item, dirt)
        }
        return nil
    }

    mutating func removeAll() {
        items.removeAll()
        queue.removeAll()
        head = 0
    }
}
