import Foundation
import WALFormat

/// What a client asks of a node, as JSON in a request frame.
package struct ControlRequest: Codable, Sendable {
    package enum Verb: String, Codable, Sendable {
        case status, position, mark, resume, wait, verify, segment, holds, forget
        /// What changes roles, see ``TreeNode``.
        case promise, promote, follow, fence, rejoin, drain, undrain
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
    /// `follow`, `fence`, `rejoin`: `HOST:PORT` of the primary.
    package var address: String?
    /// `promote`: also a fenced primary.
    package var force: Bool?
    /// `promise`: all who are known to belong to the group.
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
    /// `promise`: it can lead. `holds`: the position lies on its log.
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

/// `walctl status --json`: a contract that only grows. What is not known is null.
package struct NodeStatus: Codable, Sendable {
    package struct Log: Codable, Sendable {
        package var firstSeq: UInt64
        package var lastSeq: UInt64
        package var bytes: UInt64

        package init(
            firstSeq: UInt64,
            lastSeq: UInt64,
            bytes: UInt64
        ) {
            self.firstSeq = firstSeq
            self.lastSeq = lastSeq
            self.bytes = bytes
        }
    }

    package struct Replica: Codable, Sendable {
        package var name: String
        package var address: String
        package var state: String
        package var sentSeq: UInt64?
        package var receivedSeq: UInt64?
        package var durableSeq: UInt64?
        package var appliedSeq: UInt64?
        package var lagSegments: UInt64?
        package var lagBytes: UInt64?
        package var lagSeconds: Double?
        package var lastContactSeconds: Double?
        package var traffic: Traffic?

        package init(
            name: String,
            address: String,
            state: String,
            sentSeq: UInt64? = nil,
            receivedSeq: UInt64? = nil,
            durableSeq: UInt64? = nil,
            appliedSeq: UInt64? = nil,
            lagSegments: UInt64? = nil,
            lagBytes: UInt64? = nil,
            lagSeconds: Double? = nil,
            lastContactSeconds: Double? = nil
        ) {
            self.name = name
            self.address = address
            self.state = state
            self.sentSeq = sentSeq
            self.receivedSeq = receivedSeq
            self.durableSeq = durableSeq
            self.appliedSeq = appliedSeq
            self.lagSegments = lagSegments
            self.lagBytes = lagBytes
            self.lagSeconds = lagSeconds
            self.lastContactSeconds = lastContactSeconds
        }
    }

    package struct Upstream: Codable, Sendable {
        package var address: String
        package var state: String
        package var lastContactSeconds: Double?

        package init(
            address: String,
            state: String,
            lastContactSeconds: Double? = nil
        ) {
            self.address = address
            self.state = state
            self.lastContactSeconds = lastContactSeconds
        }
    }

    /// Who belongs together, as far as this node knows.
    package struct Group: Codable, Sendable {
        package struct Member: Codable, Sendable {
            package var name: String
            /// Nil where nobody reaches it.
            package var address: String?
        }

        /// Where others reach this node, and its primary.
        package var address: String?
        package var primary: String?
        /// The one before, where this node knows of one.
        package var formerPrimary: String?
        package var promisedEpoch: UInt64
        /// So many replicas must have a segment before it is answered as safe.
        package var syncReplicas: UInt32
        /// The replicas, this one among them.
        package var members: [Member]
    }

    /// What the first scan or sync has done so far.
    package struct Progress: Codable, Sendable {
        package var files: UInt64
        package var totalFiles: UInt64?
        package var bytes: UInt64
        package var totalBytes: UInt64?

        package init(
            files: UInt64,
            totalFiles: UInt64? = nil,
            bytes: UInt64,
            totalBytes: UInt64? = nil
        ) {
            self.files = files
            self.totalFiles = totalFiles
            self.bytes = bytes
            self.totalBytes = totalBytes
        }
    }

    /// Bytes since the node started, of all connections between a primary and its replicas.
    package struct Traffic: Codable, Sendable {
        /// By the node whose status it is, frames with all that they hold.
        package var sentBytes: UInt64
        package var receivedBytes: UInt64
        /// What the primary ships, before compression.
        package var rawBytes: UInt64
        /// Of these to all that the primary sends.
        package var ratio: Double?
        /// By replicas, since they started: file data written, copied from file to file, and written into their logs.
        package var writtenBytes: UInt64?
        package var copiedBytes: UInt64?
        package var loggedBytes: UInt64?

        package init(
            sentBytes: UInt64,
            receivedBytes: UInt64,
            rawBytes: UInt64,
            ratio: Double? = nil,
            writtenBytes: UInt64? = nil,
            copiedBytes: UInt64? = nil,
            loggedBytes: UInt64? = nil
        ) {
            self.sentBytes = sentBytes
            self.receivedBytes = receivedBytes
            self.rawBytes = rawBytes
            self.ratio = ratio
            self.writtenBytes = writtenBytes
            self.copiedBytes = copiedBytes
            self.loggedBytes = loggedBytes
        }
    }

    /// Directories of a primary by who tells of changes in them.
    package struct Watch: Codable, Sendable {
        package var inotify: Int
        package var fanotify: Int
        /// Scans only find what changes there.
        package var unwatched: Int

        /// What a person may want to do about it.
        var note: String? {
            let all = inotify + fanotify + unwatched
            let remedy = "raise fs.inotify.max_user_watches, which this tree needs \(all) of"
            if unwatched > 0 {
                return
                    "\(unwatched) of \(all) directories are not watched, so that scans find their changes: \(remedy), or "
                    + "run as root for fanotify"
            }
            if fanotify > 0 {
                return
                    "\(fanotify) of \(all) directories are watched by fanotify on the whole file system: \(remedy) to "
                    + "hear of this tree alone"
            }
            return nil
        }
    }

    package var role: String
    package var node: String
    package var history: String?
    package var epoch: UInt64
    package var position: PositionStatus
    package var state: String
    package var treeDigest: String
    package var log: Log
    package var replicas: [Replica]
    package var upstream: Upstream?
    package var appliedSeq: UInt64?
    package var durableSeq: UInt64?
    package var lagSegments: UInt64?
    package var lagSeconds: Double?
    /// See ``Freshness/staleSeconds``; nil on a primary.
    package var staleSeconds: Double?
    package var objects: UInt64
    package var contentBytes: UInt64
    package var progress: Progress?
    /// Nil where nothing is captured.
    package var watch: Watch?
    /// Of a primary the sum of its replicas; nil where nothing runs.
    package var traffic: Traffic?
    /// The rules of the filter, escaped; empty where all is replicated. Nil only in the answer of a program without.
    package var filter: [String]?
    /// What is known of the group; nil where nothing is.
    package var group: Group?
    /// Things a person should look at, each one line.
    package var notes: [String]
    package var pid: Int32?
    package var path: String

    package init(
        role: String,
        node: String,
        history: String? = nil,
        epoch: UInt64,
        position: PositionStatus,
        state: String,
        treeDigest: String,
        log: Log,
        replicas: [Replica],
        upstream: Upstream? = nil,
        appliedSeq: UInt64? = nil,
        durableSeq: UInt64? = nil,
        lagSegments: UInt64? = nil,
        lagSeconds: Double? = nil,
        objects: UInt64,
        contentBytes: UInt64,
        progress: Progress? = nil,
        notes: [String],
        pid: Int32? = nil,
        path: String
    ) {
        self.role = role
        self.node = node
        self.history = history
        self.epoch = epoch
        self.position = position
        self.state = state
        self.treeDigest = treeDigest
        self.log = log
        self.replicas = replicas
        self.upstream = upstream
        self.appliedSeq = appliedSeq
        self.durableSeq = durableSeq
        self.lagSegments = lagSegments
        self.lagSeconds = lagSeconds
        self.objects = objects
        self.contentBytes = contentBytes
        self.progress = progress
        self.notes = notes
        self.pid = pid
        self.path = path
    }
}

extension NodeStatus {
    enum CodingKeys: String, CodingKey {
        case role, node, history, epoch, position, state, treeDigest, log, replicas, upstream, appliedSeq, durableSeq
        case lagSegments, lagSeconds, staleSeconds, objects, contentBytes, progress, watch, traffic, filter, group
        case notes, pid, path
    }

    // `encode` and not `encodeIfPresent`, so that what is unknown is there as null.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(role, forKey: .role)
        try container.encode(node, forKey: .node)
        try container.encode(history, forKey: .history)
        try container.encode(epoch, forKey: .epoch)
        try container.encode(position, forKey: .position)
        try container.encode(state, forKey: .state)
        try container.encode(treeDigest, forKey: .treeDigest)
        try container.encode(log, forKey: .log)
        try container.encode(replicas, forKey: .replicas)
        try container.encode(upstream, forKey: .upstream)
        try container.encode(appliedSeq, forKey: .appliedSeq)
        try container.encode(durableSeq, forKey: .durableSeq)
        try container.encode(lagSegments, forKey: .lagSegments)
        try container.encode(lagSeconds, forKey: .lagSeconds)
        try container.encode(staleSeconds, forKey: .staleSeconds)
        try container.encode(objects, forKey: .objects)
        try container.encode(contentBytes, forKey: .contentBytes)
        try container.encode(progress, forKey: .progress)
        try container.encode(watch, forKey: .watch)
        try container.encode(traffic, forKey: .traffic)
        try container.encode(filter ?? [], forKey: .filter)
        try container.encode(group, forKey: .group)
        try container.encode(notes, forKey: .notes)
        try container.encode(pid, forKey: .pid)
        try container.encode(path, forKey: .path)
    }
}

extension NodeStatus.Replica {
    enum CodingKeys: String, CodingKey {
        case name, address, state, sentSeq, receivedSeq, durableSeq, appliedSeq, lagSegments, lagBytes, lagSeconds
        case lastContactSeconds, traffic
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(address, forKey: .address)
        try container.encode(state, forKey: .state)
        try container.encode(sentSeq, forKey: .sentSeq)
        try container.encode(receivedSeq, forKey: .receivedSeq)
        try container.encode(durableSeq, forKey: .durableSeq)
        try container.encode(appliedSeq, forKey: .appliedSeq)
        try container.encode(lagSegments, forKey: .lagSegments)
        try container.encode(lagBytes, forKey: .lagBytes)
        try container.encode(lagSeconds, forKey: .lagSeconds)
        try container.encode(lastContactSeconds, forKey: .lastContactSeconds)
        try container.encode(traffic, forKey: .traffic)
    }
}

extension NodeStatus.Group {
    enum CodingKeys: String, CodingKey {
        case address, primary, formerPrimary, promisedEpoch, syncReplicas, members
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(address, forKey: .address)
        try container.encode(primary, forKey: .primary)
        try container.encode(formerPrimary, forKey: .formerPrimary)
        try container.encode(promisedEpoch, forKey: .promisedEpoch)
        try container.encode(syncReplicas, forKey: .syncReplicas)
        try container.encode(members, forKey: .members)
    }
}

extension NodeStatus.Group.Member {
    enum CodingKeys: String, CodingKey {
        case name, address
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(address, forKey: .address)
    }
}

extension NodeStatus.Traffic {
    enum CodingKeys: String, CodingKey {
        case sentBytes, receivedBytes, rawBytes, ratio, writtenBytes, copiedBytes, loggedBytes
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(sentBytes, forKey: .sentBytes)
        try container.encode(receivedBytes, forKey: .receivedBytes)
        try container.encode(rawBytes, forKey: .rawBytes)
        try container.encode(ratio, forKey: .ratio)
        try container.encode(writtenBytes, forKey: .writtenBytes)
        try container.encode(copiedBytes, forKey: .copiedBytes)
        try container.encode(loggedBytes, forKey: .loggedBytes)
    }
}

extension NodeStatus.Progress {
    enum CodingKeys: String, CodingKey {
        case files, totalFiles, bytes, totalBytes
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(files, forKey: .files)
        try container.encode(totalFiles, forKey: .totalFiles)
        try container.encode(bytes, forKey: .bytes)
        try container.encode(totalBytes, forKey: .totalBytes)
    }
}

extension NodeStatus.Upstream {
    enum CodingKeys: String, CodingKey {
        case address, state, lastContactSeconds
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(address, forKey: .address)
        try container.encode(state, forKey: .state)
        try container.encode(lastContactSeconds, forKey: .lastContactSeconds)
    }
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
