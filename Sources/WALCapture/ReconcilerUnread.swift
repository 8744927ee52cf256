import WALCatalog
import WALFormat
import WALSystem

/// What cannot be read, and is reported and tried again.
extension Reconciler {
    func report(_ place: Place, _ text: String) throws {
        progress.report(place, path: try path(of: place), text)
    }

    func report(_ directory: ObjectID, _ text: String) throws {
        progress.report(try problemPlace(of: directory), path: try path(of: directory), text)
    }

    func clearProblem(_ place: Place) {
        if !unread.isEmpty { unread[place] = nil }
        if progress.hasProblems { progress.clearProblem(place) }
    }

    func clearProblem(_ directory: ObjectID) throws {
        guard progress.hasProblems || !unread.isEmpty else { return }
        if !unsure.isEmpty, let identity = try catalog.identity(of: directory), unsure.contains(identity.ino) { return }
        clearProblem(try problemPlace(of: directory))
    }

    /// What cannot be read now may be readable in a moment: a disk or a line that fails once, another program's lease, no
    /// memory. So it is tried again as long as one that is written to would be, and who waits for all waits for that. Then it
    /// is reported, and tried again now and then.
    ///
    /// - Returns: whether it is to be looked at again at once.
    func isAgain(_ glance: Glance, after error: SystemError, _ unread: Unread) throws -> Bool {
        if !error.isDenied || beginsAnew {
            if !glance.isOverdue, self.unread[glance.place] == nil { return true }
            noteUnread(glance.place, unread)
        }
        try report(glance.place, "\(error)")
        return false
    }

    /// Nothing is known of the tree that replicas have: what is not found is deleted there.
    var beginsAnew: Bool { isBaseline && !sink.isEmpty }

    /// A directory that could not be opened or listed. Nobody watches it then, so whoever looks at it again lists it.
    func leave(_ directory: ObjectID, after error: SystemError) throws {
        handles.forget(directory)
        watcher.unwatch(directory)
        try lookAgain(at: directory, after: error)
    }

    /// Once, and then now and then.
    func lookAgain(at directory: ObjectID, after error: SystemError) throws {
        try report(directory, "\(error)")
        let place = try problemPlace(of: directory)
        guard !error.isDenied || beginsAnew, noteUnread(place, Unread()) else { return }
        if place == Self.nowhere {
            needsScan = true
        } else {
            retries.append(Glance(place: place, content: false, since: since, isOverdue: false))
        }
    }

    /// Of more than these only a scan tells.
    private static let maxUnread = 100_000

    @discardableResult
    private func noteUnread(_ place: Place, _ new: Unread) -> Bool {
        guard unread.count < Self.maxUnread else { return false }
        return unread.updateValue(new, forKey: place) == nil
    }

    private func problemPlace(of directory: ObjectID) throws -> Place {
        try catalog.places(of: directory, limit: 1).first ?? Self.nowhere
    }

    /// What has a problem may be found by another path now.
    func settleProblems() throws {
        guard progress.hasProblems else { return }
        for place in progress.problemPlaces {
            if place == Self.nowhere { continue }
            if try catalog.path(of: place.parent) == nil {
                progress.clearProblem(place)
            } else {
                progress.setProblemPath(place, try path(of: place))
            }
        }
    }
}
