import WALCatalog
import WALFormat
import WALSystem

package enum ApplyError: Error, Sendable, CustomStringConvertible {
    /// The entries came to another tree than the primary's; nothing of the segment was applied.
    case diverged(seq: UInt64, expected: Digest, actual: Digest)
    /// An entry that does not fit what the replica holds.
    case mismatch(seq: UInt64, String)
    /// An object of the catalog that is nowhere on disk: somebody removed it from the replica.
    case lost(ObjectID, path: String)
    /// The connection that blocks were to come from is gone; the same is tried again with the next one.
    case interrupted
    /// A change of this node's own is in the log and not wholly in the tree yet.
    case unfinished(String, isNoSpace: Bool)

    package var description: String {
        switch self {
        case .diverged(let seq, let expected, let actual):
            "segment \(seq) gives tree digest \(actual) here and \(expected) on the primary: the trees have diverged"
        case .mismatch(let seq, let text): "segment \(seq) does not fit this replica: \(text)"
        case .lost(_, let path): "\(path) is missing from the replica"
        case .unfinished(let text, _): "what was logged is not in the tree yet: \(text)"
        case .interrupted: "the connection was lost while content was fetched"
        }
    }
}

/// Where content comes from that is not in the log.
package protocol BlockSource: AnyObject {
    /// Asks for all of `requests` of one file and hands over the answers, each block in the order in which it is first wanted:
    /// the bytes, checked against the digest, or nil when the sender has them no more. Throws ``ApplyError/interrupted`` when the connection is lost.
    func fetch(_ requests: [BlockRequest], deliver: (BlockRequest, UnsafeRawBufferPointer?) throws -> Void) throws

    /// Whether ``expect(_:)`` is of use now.
    var canExpect: Bool { get }
    /// These will be fetched next, in this order, or some of them: they can be on their way.
    func expect(_ requests: [BlockRequest])
    /// Nothing more of what was expected will be fetched.
    func forgetExpected() throws
}

extension BlockSource {
    package var canExpect: Bool { false }
    package func expect(_ requests: [BlockRequest]) {}
    package func forgetExpected() throws {}
}

/// What was set aside because it was not what the catalog knew.
package struct Drift: Sendable {
    package var path: String
    /// Its name in `quarantine/`; nil where there was nothing to keep.
    package var keptAs: String?
}

/// The changes of one step of a history: a segment, or what a reconcile found.
package struct ChangeSet {
    package var changes: [Change]
    /// What `Extent.data` ranges point into.
    package var body: [UInt8]
    /// The catalog's state after it, and the tree digest that it must come to.
    package var position: Position
    /// nil where only a later set comes to a tree that the primary had.
    package var treeDigest: Digest?
    package var lastObject: ObjectID

    package init(changes: [Change], body: [UInt8], position: Position, treeDigest: Digest?, lastObject: ObjectID) {
        self.changes = changes
        self.body = body
        self.position = position
        self.treeDigest = treeDigest
        self.lastObject = lastObject
    }

    package init(_ segment: Segment) throws(FormatError) {
        let body = try segment.rawBody()
        let count = segment.header.entryCount
        changes = try body.withBytes { bytes throws(FormatError) in
            var reader = ChangeReader(bytes, entryCount: count)
            var changes: [Change] = []
            while let change = try reader.next() { changes.append(change) }
            return changes
        }
        self.body = body
        position = segment.position
        treeDigest = segment.header.treeDigest
        lastObject = segment.header.lastObject
    }
}
