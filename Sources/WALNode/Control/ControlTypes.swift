import Foundation
import WALFormat

/// What a client asks of a node, as JSON in a request frame.
package struct ControlRequest: Codable, Sendable {
    package enum Verb: String, Codable, Sendable {
        case status, position, mark, resume, wait, verify, segment, holds, forget
        /// What changes roles, see ``TreeNode``.
        case promise, promote, follow, fence, rejoin, drain, undrain
        /// Whether it has what it takes to lead, asked before anything is changed for that.
        case fit
        /// Of clients, answered in the order in which they come.
        case put, commit, write, open, read, list, next, stat, close
    }

    package var verb: Verb
    /// `wait`, `holds`: the position, as typed.
    package var position: String?
    /// `wait`: how many replicas must have applied it; nil on a replica for the replica itself.
    package var replicas: Int?
    /// `wait`, `mark`: seconds after which the answer is that it was not met.
    package var timeoutSeconds: Double?
    /// `resume`: what is gone from the tree is meant to be.
    package var acceptDeletions: Bool?
    /// `verify`: read all content.
    package var deep: Bool?
    /// `verify`: put right what differs, from the primary.
    package var repair: Bool?
    /// `forget`: a replica's.
    package var name: String?
    /// `segment`: which.
    package var seq: UInt64?
    /// `promise`, `promote`, `follow`, `fence`: the epoch; with the history that it is one of.
    package var epoch: UInt64?
    package var history: String?
    /// `promise`: the epoch whose primary gives the lead away.
    package var handover: UInt64?
    /// `promote`: how many acknowledgements whoever led was to wait for, the most that anybody has heard of.
    package var syncReplicas: UInt32?
    /// `follow`, `fence`, `rejoin`: `HOST:PORT` of the primary.
    package var address: String?
    /// `forget`, `fence`, `promote`: whatever may be lost by it.
    package var force: Bool?
    /// `promise`: all who are known to belong to the group. `fence`: the one that is given the lead.
    package var members: [NodeStatus.Group.Member]?
    /// `put`, `write`: what to do; of a `put` before its content.
    package var write: WriteRequest?
    /// `open`, `list`, `stat`: what to look at, and how fresh it must be.
    package var look: ReadRequest?
    /// `read`, `next`, `close`: what `open` or `list` has answered.
    package var handle: Int?
    /// `read`: bytes from the beginning of the file, and how many.
    package var offset: UInt64?
    package var length: UInt64?

    package init(_ verb: Verb) {
        self.verb = verb
    }

    /// Whatever a peer writes there, it is a time that a clock can hold.
    var waitSeconds: Double { min(max(timeoutSeconds ?? 30, 0), 3_153_600_000) }
}

package struct ControlResponse: Codable, Sendable {
    package struct Failure: Codable, Sendable {
        package var code: Int32
        package var text: String
        /// `HOST:PORT` of the node that would answer.
        package var redirect: String?
        /// What was read changed while it was read.
        package var isChanged: Bool?
    }

    package var error: Failure?
    package var status: NodeStatus?
    package var position: PositionStatus?
    package var verify: VerifyReport?
    /// `segment`: the tree digest after it.
    package var treeDigest: String?
    /// `wait`: how many replicas have it.
    package var replicas: Int?
    /// `promise` and the like: who answers, and what it has promised by now.
    package var node: String?
    package var epoch: UInt64?
    /// `rejoin`: of the primary.
    package var address: String?
    /// `fence`: the group as it was then.
    package var members: [NodeStatus.Group.Member]?
    /// `promise`: it can lead. `holds`: the position lies on its log. `rejoin`: it is a replica already.
    package var isWhole: Bool?
    package var freshness: Freshness?
    /// `open`, `stat`, and `list` of what is no directory.
    package var entry: TreeEntry?
    /// `next`: some of a directory, in the order of their names.
    package var entries: [TreeEntry]?
    /// `next`: there are more.
    package var hasMore: Bool?
    package var handle: Int?

    package init() {}

    package init(error: any Error) {
        let error = NodeError(error)
        self.error = Failure(
            code: error.code.rawValue, text: error.description, redirect: error.redirect,
            isChanged: error.isChanged ? true : nil)
        position = error.position.flatMap { try? PositionStatus(text: $0) }
    }
}

package struct PositionStatus: Codable, Hashable, Sendable {
    package var epoch: UInt64
    package var seq: UInt64
    package var chain: String

    package init(_ position: Position) {
        epoch = position.epoch
        seq = position.seq
        chain = position.chain.description
    }

    package init(text: String) throws(FormatError) {
        let position = try PositionText(text)
        epoch = position.epoch
        seq = position.seq
        chain = (position.chain ?? .zero).description
    }

    package var text: String { "\(epoch):\(seq):\(chain)" }
}

package struct VerifyReport: Codable, Sendable {
    package struct Difference: Codable, Sendable {
        package var path: String
        package var kind: String
    }

    /// Nil on a replica that has not met a primary.
    package var history: String?
    package var position: PositionStatus
    package var treeDigest: String
    package var isDeep: Bool
    package var names: UInt64
    package var bytes: UInt64
    /// The first of them by path; an answer has room for so many only, see ``list(_:)``.
    package var differences: [Difference]
    package var totalDifferences: UInt64
    /// Not all of them are listed.
    package var isTruncated: Bool
    /// The digest kept from change to change is the one that all rows give now.
    package var isDigestRight: Bool
    /// A sync or content that is still to come stands between the tree and its position.
    package var isComplete: Bool
}

/// JSON as it goes over the wire and to people: names in snake case, keys in order.
package enum ControlJSON {
    package static func encode(_ value: some Encodable, pretty: Bool = false) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting =
            pretty ? [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes] : [.sortedKeys, .withoutEscapingSlashes]
        return SafeText.json(try encoder.encode(value))
    }

    package static func decode<T: Decodable>(_ type: T.Type, from bytes: [UInt8]) throws -> T {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: Data(bytes))
    }
}
