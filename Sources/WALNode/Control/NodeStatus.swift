import Foundation
import WALFormat

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
        /// Of a fenced primary: the name of the one that it has given the lead to, until it hears who has it.
        package var successor: String?
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
        case address, primary, formerPrimary, successor, promisedEpoch, syncReplicas, members
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(address, forKey: .address)
        try container.encode(primary, forKey: .primary)
        try container.encode(formerPrimary, forKey: .formerPrimary)
        try container.encode(successor, forKey: .successor)
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
