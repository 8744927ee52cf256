import Logging
import NIOCore
import WALFormat
import WALLog
import WALSystem
import WALWire

/// The receiver's end of the connection to the primary. It hands whole segments to the log thread and parts of a sync to
/// the apply thread; it never touches a file.
///
/// All methods run on the connection's event loop.
final class ReceiverRole: PeerRole {
    private let node: ReplicaNode
    private let logger: Logger
    private var machine: ReceiverMachine?
    private var connection: Connection?
    private var link: Link?
    private var session: SyncSession?
    private let ended: (@Sendable (String) -> Void)?
    /// Why this side will not have the other, with the remedy.
    private var refusalText: String?

    /// More than this of a sender's data waiting to be worked on is a sender that ignores the window.
    private static let maxWaitingBytes = 64 << 20
    /// The window moves on at least every so many bytes.
    private static let acknowledgeBytes: UInt64 = 4 << 20
    private var acknowledgedBytes: UInt64 = 0

    init(node: ReplicaNode, ended: (@Sendable (String) -> Void)? = nil) {
        self.node = node
        self.ended = ended
        logger = node.logger
    }

    func opened(_ connection: Connection) {
        begin(connection)
    }

    func accepted(_ connection: Connection) {
        begin(connection)
    }

    private func begin(_ connection: Connection) {
        self.connection = connection
        node.peers.add(connection)
        let bound = NIOLoopBound(self, eventLoop: connection.eventLoop)
        let link = Link(connection: connection, epoch: node.promisedEpoch) {
            connection.eventLoop.execute { bound.value.acknowledge() }
        } askForHeartbeat: {
            connection.eventLoop.execute { bound.value.acknowledge(wantsHeartbeat: true) }
        }
        guard node.attach(link) else {
            connection.send(
                .refuse(Refusal(.busy, "the replica is connected to another primary")), epoch: node.promisedEpoch)
            connection.close(reason: "connected to another primary already")
            return
        }
        self.link = link
        let hello = node.replicaHello()
        machine = ReceiverMachine(own: hello, partial: node.partial, now: Clock.monotonicNanoseconds())
        connection.send(.hello(hello), epoch: node.promisedEpoch)
    }

    func received(_ message: Message, epoch: UInt64) {
        guard machine != nil else { return }
        node.heard(connection?.peerAddress)
        perform(machine!.received(message, epoch: epoch, now: Clock.monotonicNanoseconds()))
        // A segment may be larger than the window, so its pieces are acknowledged before it is whole.
        if consumedBytes > acknowledgedBytes + Self.acknowledgeBytes { acknowledge() }
    }

    func heard() {
        machine?.heard(now: Clock.monotonicNanoseconds())
    }

    func tick() {
        guard machine != nil else { return }
        // Made first: it asks the machine, which is being changed while it asks for this.
        let ack = ack()
        perform(machine!.tick(now: Clock.monotonicNanoseconds()) { ack })
    }

    /// What was taken off the connection, less what waits for the threads that work on it.
    private var consumedBytes: UInt64 {
        let waiting = node.waitingBytes + (session?.parts.cost ?? 0) + (link?.blocks.cost ?? 0)
        let taken = machine?.consumedBytes ?? 0
        return taken - min(taken, UInt64(waiting))
    }

    private func ack() -> Ack {
        var ack = node.ack()
        ack.consumedBytes = consumedBytes
        return ack
    }

    private func acknowledge(wantsHeartbeat: Bool = false) {
        guard machine?.isOpen == true, let connection else { return }
        var ack = ack()
        ack.wantsHeartbeat = wantsHeartbeat
        acknowledgedBytes = ack.consumedBytes
        connection.send(.ack(ack), epoch: node.promisedEpoch)
        machine?.sent(now: Clock.monotonicNanoseconds())
    }

    func closed(reason: String?) {
        let ended = ended
        if let connection { node.peers.remove(connection) }
        let text = reason ?? "the primary closed the connection"
        guard let link else {
            ended?(text)
            return
        }
        // What came after the last whole segment is not asked for again.
        node.partial = machine?.kept() ?? []
        link.blocks.cancel()
        session?.parts.cancel()
        // The next hello must tell where the log ends, so all that came over this connection is worked off first.
        node.detach(link) { ended?(text) }
        connection = nil
    }

    private func perform(_ actions: [ReceiverMachine.Action]) {
        for action in actions {
            switch action {
            case .send(let message):
                // Its own word counts as the primary's would: this replica does not belong here.
                if case .refuse(let refusal) = message, refusal.code == .unknownHistory {
                    refusalText = node.refused(refusal)
                }
                connection?.send(message, epoch: node.promisedEpoch)
            case .welcomed(let welcome, let sender): welcomed(welcome, sender)
            case .segment(let bytes):
                if node.waitingBytes > Self.maxWaitingBytes {
                    perform(machine!.fail(Refusal(.malformed, "more than the window was sent")))
                } else {
                    node.enqueue(bytes)
                }
            case .syncBegin(let begin): _ = session?.parts.put(.begin(begin))
            case .content(.syncEntries(let entries)):
                if session?.parts.cost ?? 0 > Self.maxWaitingBytes {
                    perform(machine!.fail(Refusal(.malformed, "more than the window was sent")))
                } else {
                    node.came(rawBytes: entries.rawBytes)
                    _ = session?.parts.put(.entries(entries), cost: entries.bytes.count)
                }
            case .content(.syncEnd): _ = session?.parts.put(.end)
            case .content(.block(let answer)):
                if link?.blocks.cost ?? 0 > Self.maxWaitingBytes {
                    perform(machine!.fail(Refusal(.malformed, "more than the window was sent")))
                } else {
                    if !answer.isGone { node.came(rawBytes: answer.rawBytes) }
                    _ = link?.blocks.put(answer, cost: answer.bytes.count)
                }
            case .content: break
            case .heartbeat(let beat): node.heartbeat(beat)
            case .group(let group):
                guard node.host.note(group) else { break }
                node.update { $0.groupTag = group.tag }
                acknowledge()
            case .refused(let refusal):
                node.upstream.redirected(to: refusal.address)
                connection?.close(reason: node.refused(refusal))
            case .close(let reason): connection?.close(reason: refusalText ?? reason)
            }
        }
    }

    private func welcomed(_ welcome: Welcome, _ sender: Hello) {
        guard let link, let connection else { return }
        if let epoch = machine?.epoch, epoch > node.nodeFile.epoch {
            do {
                try node.promise(atLeast: epoch)
            } catch {
                connection.close(reason: "\(error)")
                return
            }
        }
        node.upstream.welcomed()
        guard welcome.way != .stream else {
            node.streaming(from: connection.peerAddress, sender)
            let own = node.ack().received
            if let position = (try? node.logView.position(at: own)) ?? nil {
                logger.info(
                    "\(ReplicaNode.gap(node.nodeFile.node, position, sender.position, bytes: welcome.behindBytes))")
            }
            return
        }
        let bound = NIOLoopBound(self, eventLoop: connection.eventLoop)
        let session = SyncSession(way: welcome.way, link: link, sender: sender) { position in
            connection.eventLoop.execute {
                guard bound.value.machine != nil else { return }
                bound.value.perform(bound.value.machine!.syncDone(position))
                bound.value.node.streaming(from: connection.peerAddress, sender)
            }
        }
        self.session = session
        node.begin(session, address: connection.peerAddress)
    }
}
