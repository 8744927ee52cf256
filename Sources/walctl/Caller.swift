import ArgumentParser
import WALCommand
import WALFormat
import WALNode
import WALSystem

/// Finds the node that answers: follows redirects, waits while nobody leads, leaves out the dead.
struct Caller {
    private let targets: [String]
    private let state: String?
    private let followsRedirects: Bool
    private let deadline: UInt64

    static let maxHops = 5
    private static let maxPauseSeconds = 2.0

    init(_ options: ReachOptions) {
        targets = options.target.target.split(separator: ",").map(String.init)
        state = options.target.state
        followsRedirects = !options.noRedirect
        deadline = Clock.monotonicNanoseconds() + options.timeout.nanoseconds
    }

    private var secondsLeft: Double {
        let now = Clock.monotonicNanoseconds()
        return deadline > now ? Double(deadline - now) / 1e9 : 0
    }

    /// A node may wait for so long itself before it answers.
    private var silence: Double { secondsLeft + 1 }

    typealias Body<Answer> = (ControlClient, _ seconds: Double) async throws -> Answer

    private func connect(_ target: String) async throws -> ControlClient {
        guard case .node(let client) = try await Target.reach(target, state: state, silence: silence) else {
            throw NodeError(.unreachable, "nothing runs for \(target)")
        }
        return client
    }

    private func with<Answer>(_ client: ControlClient, _ body: Body<Answer>) async throws -> Answer {
        do {
            let answer = try await body(client, secondsLeft)
            await client.close()
            return answer
        } catch {
            await client.close()
            throw error
        }
    }

    // MARK: The primary

    /// A write is safe to send again: it has a number.
    func callPrimary<Answer>(_ body: Body<Answer>) async throws -> Answer {
        var pause = 0.05
        var wasReached = false
        var told: String?
        while true {
            do {
                return try await follow(&told, &wasReached, body)
            } catch let error as NodeError {
                let mayPass = error.code == .noPrimary || (error.code == .unreachable && wasReached)
                guard mayPass, error.position == nil, secondsLeft > pause else { throw error }
                try await Task.sleep(for: .seconds(pause * Double.random(in: 0.5...1)))
                pause = min(pause * 2, Self.maxPauseSeconds)
            }
        }
    }

    private func follow<Answer>(
        _ told: inout String?, _ wasReached: inout Bool, _ body: Body<Answer>
    ) async throws -> Answer {
        var client = try await connectFirst()
        var hops: [String] = []
        while true {
            wasReached = true
            do {
                return try await with(client, body)
            } catch let error as NodeError {
                guard let address = error.redirect else { throw error }
                try checkHop(address, &hops)
                if told != address { tell("redirected to \(address)") }
                told = address
                client = try await ControlClient(try Address(address), silence: silence)
            }
        }
    }

    /// Of several targets the primary of the highest epoch, as far as they answer.
    private func connectFirst() async throws -> ControlClient {
        var failure = NodeError(.usage, "no target given")
        for target in try await inOrder() {
            do { return try await connect(target) } catch { failure = NodeError(error) }
        }
        throw failure
    }

    private func checkHop(_ address: String, _ hops: inout [String]) throws {
        guard followsRedirects else {
            try printAnswer(address)
            throw ExitCode(NodeError.Code.notMet.rawValue)
        }
        let path = (targets.prefix(1) + hops + [address]).joined(separator: " -> ")
        guard !hops.contains(address) else {
            throw NodeError(.noPrimary, "redirected in a circle: \(path); no node of these is the primary")
        }
        hops.append(address)
        guard hops.count <= Self.maxHops else {
            throw NodeError(.noPrimary, "redirected more than \(Self.maxHops) times: \(path)")
        }
    }

    private func tell(_ text: String) { WALCommand.tell("walctl", text) }

    // MARK: The freshest

    /// Of several targets the freshest that answers; where none does what was asked, whom they name.
    func callFreshest<Answer>(_ body: Body<Answer>) async throws -> Answer {
        var failure: NodeError?
        for target in try await inOrder() {
            do {
                return try await with(try await connect(target), body)
            } catch let error as NodeError {
                if error.code == .unreachable, targets.count > 1 { tell("\(error); left out") }
                // Why one that answers refuses tells more than that another one is dead.
                if failure == nil || failure?.code == .unreachable || error.redirect != nil { failure = error }
                let others: [NodeError.Code] = [.notMet, .unreachable, .noPrimary, .noSpace]
                guard others.contains(error.code) else { throw error }
            }
        }
        var error = failure ?? NodeError(.usage, "no target given")
        var hops: [String] = []
        while let address = error.redirect {
            try checkHop(address, &hops)
            tell("redirected to \(address)")
            do {
                return try await with(try await ControlClient(try Address(address), silence: silence), body)
            } catch let next as NodeError {
                // Where the primary is dead, too, the refusal is the answer.
                if next.code == .unreachable { throw NodeError(error.code, "\(error); \(next)") }
                error = next
            }
        }
        throw error
    }

    private struct Known: Sendable {
        var target: String
        var status: NodeStatus?
        var failure: String?

        /// Primaries first, then by what they hold, then by when they knew that this was all.
        func isFresher(than other: Known) -> Bool {
            guard let mine = status else { return false }
            guard let theirs = other.status else { return true }
            if (mine.role == "primary") != (theirs.role == "primary") { return mine.role == "primary" }
            if mine.role == "primary", mine.epoch != theirs.epoch { return mine.epoch > theirs.epoch }
            if mine.position.epoch != theirs.position.epoch { return mine.position.epoch > theirs.position.epoch }
            if mine.position.seq != theirs.position.seq { return mine.position.seq > theirs.position.seq }
            return mine.staleSeconds ?? .infinity < theirs.staleSeconds ?? .infinity
        }
    }

    /// A node that does not say so within this time is tried last.
    private static let statusSeconds = 2.0

    private func inOrder() async throws -> [String] {
        guard targets.count > 1 else { return targets }
        let state = state
        var known = await withTaskGroup(of: (Int, Known).self) { group in
            for (index, target) in targets.enumerated() {
                group.addTask {
                    // Not within the tuple, see GroupClient.
                    let known = await Self.know(target, state)
                    return (index, known)
                }
            }
            var all: [(Int, Known)] = []
            for await one in group { all.append(one) }
            return all.sorted { $0.0 < $1.0 }.map(\.1)
        }
        let dead = known.filter { $0.failure != nil }
        if dead.count < known.count {
            for one in dead { tell("\(one.failure ?? ""); left out") }
            known.removeAll { $0.failure != nil }
        }
        // Stable, so that of equals the first is asked.
        return known.enumerated()
            .sorted { left, right in
                left.element.isFresher(than: right.element)
                    || (!right.element.isFresher(than: left.element) && left.offset < right.offset)
            }
            .map(\.element.target)
    }

    private static func know(_ target: String, _ state: String?) async -> Known {
        do {
            let response = try await Target.ask(target, state: state, ControlRequest(.status), silence: statusSeconds)
            return Known(target: target, status: response.status)
        } catch {
            return Known(target: target, failure: "\(NodeError(error))")
        }
    }
}
