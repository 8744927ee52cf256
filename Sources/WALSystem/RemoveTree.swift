import WALFormat

extension Directory {
    /// Removes an object and, when it is a directory, everything beneath it. What is not there is no error. Symlinks
    /// are removed, never followed. A mount inside is refused with `EBUSY` and nothing in it is touched; what was
    /// removed before that, stays removed.
    package func removeTree(_ name: Name) throws(SystemError) {
        if try unlinkUnlessDirectory(name) { return }
        do {
            try openDirectory(name).requireNoMount().removeContents()
            try removeDirectory(name)
        } catch let error where error.code == Errno.noEntry {
        }
    }

    /// Removes everything in this directory, and leaves it empty.
    package func removeContents() throws(SystemError) {
        while try removePass() {}
    }

    /// Levels that are open at once. A deeper directory is moved up to the top and removed in the next pass, so that a
    /// tree of any depth needs neither as many descriptors nor as much stack.
    private static let maxOpenLevels = 64

    private struct Level {
        let directory: Directory
        /// In its parent; the top has none.
        let name: Name?
        var rest: [DirectoryEntry]
    }

    /// True when something was moved up, so that another pass is needed.
    private func removePass() throws(SystemError) -> Bool {
        var movedUp = false
        var levels = [Level(directory: self, name: nil, rest: try entries())]
        while let level = levels.last {
            guard let entry = levels[levels.count - 1].rest.popLast() else {
                levels.removeLast()
                if let name = level.name, let parent = levels.last?.directory {
                    try ignoringAbsence { () throws(SystemError) in try parent.removeDirectory(name) }
                }
                continue
            }
            if entry.type != DirectoryEntry.directoryType, try level.directory.unlinkUnlessDirectory(entry.name) {
                continue
            }
            try ignoringAbsence { () throws(SystemError) in
                if levels.count == Directory.maxOpenLevels {
                    try level.directory.rename(entry.name, to: self, temporaryName(), noReplace: true)
                    movedUp = true
                } else {
                    let child = try level.directory.openDirectory(entry.name).requireNoMount()
                    levels.append(Level(directory: child, name: entry.name, rest: try child.entries()))
                }
            }
        }
        return movedUp
    }

    /// False when it is a directory, which unlinkat(2) answers with `EISDIR` on Linux.
    private func unlinkUnlessDirectory(_ name: Name) throws(SystemError) -> Bool {
        do {
            try unlink(name)
        } catch let error where error.code == Errno.isDirectory {
            return false
        } catch let error where error.code == Errno.noEntry {
        }
        return true
    }

    private func requireNoMount() throws(SystemError) -> Directory {
        guard try !status().isMountRoot else {
            throw SystemError(code: Errno.busy, call: "unlinkat", path: describe(descriptor))
        }
        return self
    }
}

/// Somebody else may remove what we are removing.
private func ignoringAbsence(_ body: () throws(SystemError) -> Void) throws(SystemError) {
    do {
        try body()
    } catch let error where error.code == Errno.noEntry {
    }
}
