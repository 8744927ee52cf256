import WALFormat

/// One write that a client asks a primary for. Paths are components from the root.
package struct TreeWrite: Sendable {
    package struct Put: Sendable {
        /// Exactly; nil for that of what is replaced, else 0644.
        package var mode: UInt16?
        /// nil for now.
        package var mtime: Timestamp?
        /// Only where nothing is.
        package var isCreation: Bool
        /// Makes the directories above.
        package var makesParents: Bool

        package init(mode: UInt16? = nil, mtime: Timestamp? = nil, isCreation: Bool = false, makesParents: Bool = false)
        {
            self.mode = mode
            self.mtime = mtime
            self.isCreation = isCreation
            self.makesParents = makesParents
        }
    }

    package enum Operation: Sendable {
        /// The content is a file by the given name in the folder of uploads.
        case put(Put, upload: Name)
        case remove(isRecursive: Bool)
        case move(to: [Name], replaces: Bool)
        case makeDirectory(mode: UInt16, makesParents: Bool)
        case removeDirectory
        case setMode(UInt16)
        case makeSymlink(target: [UInt8])
    }

    package var path: [Name]
    package var operation: Operation
    package var request: RequestID

    package init(path: [Name], operation: Operation, request: RequestID) {
        self.path = path
        self.operation = operation
        self.request = request
    }
}

/// Why a write is not done. Nothing has changed.
package struct WriteRefusal: Error, Sendable, CustomStringConvertible {
    package enum Kind: Sendable {
        case failed
        /// What the client made a condition, or the operation itself, is not so: a name is taken, a directory not empty.
        case notMet
        /// Somebody is changing it in this moment: another look may find it quiet.
        case busy
    }

    package var kind: Kind
    package var description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }
}
