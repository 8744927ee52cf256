import Logging
import Synchronization
import WALFormat
import WALLog
import WALSystem
import WALWire

/// What comes and goes with the connection to the primary.
extension ReplicaNode {
    /// False when there is one already.
    func attach(_ link: Link) -> Bool {
        state.withLock { state in
            guard state.link == nil, !state.isStopping, !state.isDraining else { return false }
            state.link = link
            state.isLinkWelcomed = false
            state.beats.removeAll()
            state.traffic.begin(link.connection.traffic)
            state.workedBytes = 0
            return true
        }
    }

    /// `done` when no sync of it is under way and all that came over it is in the log.
    func detach(_ link: Link, done: @escaping @Sendable () -> Void) {
        let barrier: @Sendable () -> Void = { [self] in
            update { state in
                if state.phase == .streaming || state.phase == .syncing { state.phase = .connecting }
                state.link = nil
                state.traffic.end(link.connection.traffic)
            }
            done()
        }
        let queueBarrier: @Sendable () -> Void = { [self] in
            if logWorker.withLock({ $0 })?.queue.put(.barrier(barrier)) != true { barrier() }
        }
        // A sync sees that its parts end, and ends. The log thread must not wait for it: the sync may wait for the log.
        let isSyncing = state.withLock { state in
            guard state.session != nil, !state.isStopping else { return false }
            state.afterSession = queueBarrier
            return true
        }
        if !isSyncing { queueBarrier() }
    }

    /// The connection of the sync that is under way has ended.
    var isSessionOver: Bool { state.withLock { $0.afterSession != nil } }

    var link: Link? { state.withLock { $0.link } }

    func dropLink(_ reason: String) {
        link?.connection.closeFromOutside(reason: reason)
    }

    /// False where nobody waits for the end of this role, or the apply thread has it already.
    func takeRetired() -> Bool {
        state.update { $0.retired.take() != nil }
    }

    /// Dials at once, where it waits before it dials again.
    func hurry() {
        dialer.withLock { $0 }?.hurry()
    }

    func heard(_ address: String?) {
        state.withLock { state in
            state.lastContact = Clock.monotonicNanoseconds()
            state.upstreamAddress = address
        }
    }

    func heartbeat(_ beat: Heartbeat) {
        state.withLock { state in
            state.primaryPosition = beat.position
            state.primaryCaptureTime = beat.captureTime
            state.note(beat)
        }
        self.state.signalAll()
    }

    func streaming(from address: String, _ sender: Hello) {
        logger.info("streaming from \(sender.node) at \(address)")
        update { state in
            state.wasWelcomed = true
            state.isLinkWelcomed = true
            if !state.isHalted {
                state.phase = state.connectedPhase
                state.problem = nil
            }
            state.primaryPosition = sender.position
            state.primaryEpoch = sender.promisedEpoch
        }
        // Until its answer nobody can say how fresh this replica is.
        link?.askForHeartbeat()
    }

    func begin(_ session: SyncSession, address: String) {
        logger.info("syncing from \(session.sender.node) at \(address)")
        update { state in
            state.session = session
            state.wasWelcomed = true
            state.isLinkWelcomed = true
            state.primaryEpoch = session.sender.promisedEpoch
            if !state.isHalted { state.phase = .syncing }
        }
    }

    func end(_ session: SyncSession) {
        let after: (@Sendable () -> Void)? = state.update { state in
            guard state.session === session else { return nil }
            state.session = nil
            // What a first sync had brought until it was cut off was looked at.
            if state.phase == .scanning { state.phase = .connecting }
            return state.afterSession.take()
        }
        after?()
        // The word that it is no longer syncing must not wait for the next heartbeat.
        sendAck()
    }

    /// Returns why, in words for a person, with the remedy.
    ///
    /// As the first answer to a replica that dials, that its history is another one ends it: the address or the directory
    /// was named wrongly, and to ask again for ever would hide that. Later something has happened to the primary, which an
    /// operator may put right. Who dials this replica can end nothing.
    func refused(_ refusal: Refusal) -> String {
        let isAnotherHistory = refusal.code == .diverged || refusal.code == .unknownHistory
        let text =
            switch refusal.code {
            // A fork of the same history: what only this one has may have been acknowledged.
            case .diverged:
                "\(refusal.text); walctl rejoin \(host.rootPath) sets aside what only this one has and makes it a replica "
                    + "of that primary"
            case .unknownHistory:
                "\(refusal.text); name the right primary, or, to discard what is here, remove \(folder.path) while "
                    + "nothing runs and start with --adopt"
            default: refusal.text
            }
        let isFirst = state.update { state in
            state.problem = text
            // That the other is fenced says nothing of this one.
            if isAnotherHistory { state.phase = .diverged }
            return !state.wasWelcomed
        }
        // Nobody waits by a script, either, for something that will not come.
        // A replica that has no history yet has nothing that could be another's. One that has diverged stays: whoever makes
        // it rejoin asks it.
        let isStranger = refusal.code == .unknownHistory && isFirst && !settings.from.isEmpty && nodeFile.history != nil
        if isAnotherHistory, settings.until != nil || isStranger {
            finished.finish(.failure(NodeError(.diverged, text)))
        }
        return text
    }
}
