/// Hands elements from threads to threads in order, and makes the givers wait while too much is under way: more than
/// `maxCount` elements, or more than `maxCost` of what the givers say that they cost (bytes, usually).
package final class BoundedQueue<Element: Sendable>: Sendable {
    private struct Item: Sendable {
        var element: Element
        var cost: Int
    }

    private struct State: Sendable {
        /// A queue of two stacks: taken from the end of `outgoing`, which is refilled from `incoming` reversed.
        var incoming: [Item] = []
        var outgoing: [Item] = []
        var cost = 0
        var isClosed = false

        var count: Int { incoming.count + outgoing.count }

        mutating func take() -> Element? {
            if outgoing.isEmpty {
                outgoing = incoming.reversed()
                incoming.removeAll(keepingCapacity: true)
            }
            guard let item = outgoing.popLast() else { return nil }
            cost -= item.cost
            return item.element
        }
    }

    private enum Taken {
        case element(Element)
        case ended
    }

    private let maxCount: Int
    private let maxCost: Int
    private let monitor = Monitor(State())

    package init(maxCount: Int, maxCost: Int = .max) {
        precondition(maxCount > 0 && maxCost > 0)
        self.maxCount = maxCount
        self.maxCost = maxCost
    }

    /// Waits for room, then adds. An element that costs more than `maxCost` is let in when the queue is empty: it would
    /// wait for ever otherwise.
    ///
    /// - Returns: false when the queue is closed, before or while waiting; the element is not in it then.
    @discardableResult
    package func put(_ element: Element, cost: Int = 0) -> Bool {
        precondition(cost >= 0)
        let added: Bool? = monitor.wait { state in
            if state.isClosed { return false }
            let fits = state.count < maxCount && cost <= maxCost - min(state.cost, maxCost)
            guard fits || state.count == 0 else { return nil }
            state.incoming.append(Item(element: element, cost: cost))
            state.cost += cost
            return true
        }
        if added == true { monitor.signalAll() }
        return added == true
    }

    /// Adds, for whoever must not wait, as an event loop.
    ///
    /// - Returns: false when there is no room or the queue is closed; the element is not in it then.
    package func putIfRoom(_ element: Element, cost: Int = 0) -> Bool {
        let added = monitor.withLock { state in
            guard !state.isClosed, state.count < maxCount, cost <= maxCost - min(state.cost, maxCost) else {
                return false
            }
            state.incoming.append(Item(element: element, cost: cost))
            state.cost += cost
            return true
        }
        if added { monitor.signalAll() }
        return added
    }

    /// Waits for the next element.
    ///
    /// - Parameter timeoutNanoseconds: nil waits for ever.
    /// - Returns: nil when the queue is closed and all was taken, or when the time is over; ``isFinished`` tells which.
    package func take(timeoutNanoseconds: UInt64? = nil) -> Element? {
        let taken: Taken? = monitor.wait(timeoutNanoseconds: timeoutNanoseconds) { state in
            if let element = state.take() { return .element(element) }
            return state.isClosed ? .ended : nil
        }
        guard case .element(let element) = taken else { return nil }
        monitor.signalAll()
        return element
    }

    /// The next element, or nil when there is none now.
    package func takeIfAny() -> Element? {
        monitor.update { $0.take() }
    }

    /// No more elements get in. What is in the queue can still be taken.
    package func close() {
        monitor.update { $0.isClosed = true }
    }

    /// ``close()``, and drops what is in the queue.
    package func cancel() {
        monitor.update { state in
            state = State()
            state.isClosed = true
        }
    }

    /// Closed, and nothing is left to take.
    package var isFinished: Bool { monitor.withLock { $0.isClosed && $0.count == 0 } }

    package var count: Int { monitor.withLock { $0.count } }

    /// The sum of what the elements in the queue cost.
    package var cost: Int { monitor.withLock { $0.cost } }
}
