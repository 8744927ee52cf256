import WALFormat

/// Everything that is said on a connection (walship-protocol(7), "Messages").
package enum Message: Hashable, Sendable {
    case hello(Hello)
    case welcome(Welcome)
    case refuse(Refusal)
    case segmentPart(SegmentPart)
    case ack(Ack)
    case heartbeat(Heartbeat)
    case group(Group)
    case syncBegin(SyncBegin)
    case syncEntries(SyncEntries)
    case syncEnd
    /// The receiver holds the tree as of this position and wants the log from there.
    case syncDone(Position)
    case want([BlockRequest])
    case block(BlockAnswer)
    /// JSON, from a client to a node and back.
    case request([UInt8])
    case response([UInt8])
    /// Bytes of a file, from a client to a node or back, as a request before it says.
    case content([UInt8])
}

/// The first frame of either side.
package struct Hello: Hashable, Sendable {
    package static let protocolVersion: UInt16 = 1

    package enum Role: UInt8, Sendable {
        case sender = 1
        case receiver = 2
        case control = 3
    }

    package struct Flags: OptionSet, Hashable, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        /// The receiver holds nothing: send everything with its content.
        package static let empty = Flags(rawValue: 1)
        /// The receiver cannot go on from its position and must reconcile.
        package static let needsSync = Flags(rawValue: 2)
        /// The receiver has been told of several that may be the primary: one that is not sends it on.
        package static let primaryOnly = Flags(rawValue: 4)
        package static let known: Flags = [.empty, .needsSync, .primaryOnly]
        /// What of them says that the log cannot be gone on from.
        package static let syncs: Flags = [.empty, .needsSync]
    }

    package var version: UInt16
    package var role: Role
    package var flags: Flags
    /// UTF-8 without control characters: it is shown in tables and logs.
    package var node: String
    /// `HistoryID.none` for a receiver that has none yet.
    package var history: HistoryID
    /// Of a sender its own epoch.
    package var promisedEpoch: UInt64
    /// Where the log of this side ends.
    package var position: Position
    /// Bytes that the receiver already holds of the segment after `position`: its header and whole blocks.
    package var partialBytes: UInt64
    /// `HOST:PORT` under which others reach this node; empty where nobody does.
    package var address: String

    package init(
        role: Role, flags: Flags = [], node: String, history: HistoryID, promisedEpoch: UInt64, position: Position,
        partialBytes: UInt64 = 0, address: String = ""
    ) {
        version = Hello.protocolVersion
        self.role = role
        self.flags = flags
        self.node = node
        self.history = history
        self.promisedEpoch = promisedEpoch
        self.position = position
        self.partialBytes = partialBytes
        self.address = address
    }
}

/// Who belongs together, as the primary knows it: what a replica must know when that is gone.
package struct Group: Hashable, Sendable {
    package struct Member: Hashable, Sendable {
        package var name: String
        /// `HOST:PORT`; empty where nobody reaches it.
        package var address: String

        package init(name: String, address: String) {
            self.name = name
            self.address = address
        }
    }

    /// `HOST:PORT` of the primary; empty where nobody reaches it.
    package var leader: String
    /// How many replicas must have a segment before the primary says that it is safe; 0 where it does not wait.
    package var syncReplicas: UInt32
    /// The replicas, connected or not.
    package var members: [Member]
    /// Where epochs have begun, ascending; the first of a history has no entry, nor have those that are too long ago.
    package var epochs: [EpochStart]

    package init(leader: String, syncReplicas: UInt32, members: [Member], epochs: [EpochStart] = []) {
        self.leader = leader
        self.syncReplicas = syncReplicas
        self.members = members
        self.epochs = epochs
    }
}

/// A promotion, as positions show it: segments from `seq` on are of `epoch`, or of a later one. What an earlier epoch has
/// there is of a past that was given up.
package struct EpochStart: Codable, Hashable, Sendable {
    package var epoch: UInt64
    package var seq: UInt64

    package init(epoch: UInt64, seq: UInt64) {
        self.epoch = epoch
        self.seq = seq
    }
}

/// The sender's answer to a receiver's hello.
package struct Welcome: Hashable, Sendable {
    package enum Way: UInt8, Sendable {
        /// The log goes on after the receiver's position.
        case stream = 1
        /// A reconcile comes first: every object with its digests, content on demand.
        case list = 2
        /// The same with all content, for a receiver that holds nothing.
        case everything = 3
    }

    package var way: Way
    package var history: HistoryID
    /// Bytes of the segment that the receiver holds in part: how many of them are kept.
    package var resumedBytes: UInt64
    /// Bytes of the log that a stream begins with, the kept ones among them.
    package var behindBytes: UInt64

    package init(way: Way, history: HistoryID, resumedBytes: UInt64, behindBytes: UInt64 = 0) {
        self.way = way
        self.history = history
        self.resumedBytes = resumedBytes
        self.behindBytes = behindBytes
    }
}

/// Why a handshake ends, or a connection at any later point.
package struct Refusal: Hashable, Sendable, Error {
    package static let maxTextBytes = 4096

    package enum Code: UInt8, Sendable {
        case redirect = 1
        case fenced = 2
        case diverged = 3
        case unknownHistory = 4
        case version = 5
        case busy = 6
        case unauthorized = 7
        case malformed = 8
        case damaged = 9
    }

    package var code: Code
    package var text: String
    /// `HOST:PORT` of whom to ask instead, as far as that is known; else empty.
    package var address: String

    package init(_ code: Code, _ text: String, address: String = "") {
        self.code = code
        self.text = text
        self.address = address
    }
}

/// A piece of a segment as it stands in the log.
package struct SegmentPart: Hashable, Sendable {
    /// What stands before the bytes in a frame.
    static let fieldBytes = 24

    package var seq: UInt64
    /// Where the piece begins in the segment, and how long the whole is, in bytes.
    package var offset: UInt64
    package var total: UInt64
    package var bytes: [UInt8]

    package init(seq: UInt64, offset: UInt64, total: UInt64, bytes: [UInt8]) {
        self.seq = seq
        self.offset = offset
        self.total = total
        self.bytes = bytes
    }
}

package struct Ack: Hashable, Sendable {
    package var received: UInt64
    package var durable: UInt64
    package var applied: UInt64
    /// Bytes of segments, entries and blocks, as in ``ReceiverMachine/consumedBytes``, that the receiver has taken off
    /// the connection since it began and has room for again.
    package var consumedBytes: UInt64
    package var isSyncing: Bool
    /// The next heartbeat is wanted now.
    package var wantsHeartbeat: Bool
    /// Nanoseconds on the receiver's monotonic clock, which it alone can read: a heartbeat gives it back.
    package var clock: Int64
    /// Since the receiver started: file data written into its tree and its staging folder, copied from file to file of
    /// it, and segments written into its log.
    package var writtenBytes: UInt64
    package var copiedBytes: UInt64
    package var loggedBytes: UInt64
    /// ``Group/tag`` of the group that the receiver has noted last, durably; 0 for none.
    package var groupTag: UInt64

    package init(
        received: UInt64, durable: UInt64, applied: UInt64, consumedBytes: UInt64, isSyncing: Bool,
        wantsHeartbeat: Bool = false,
        clock: Int64,
        writtenBytes: UInt64 = 0, copiedBytes: UInt64 = 0, loggedBytes: UInt64 = 0, groupTag: UInt64 = 0
    ) {
        self.received = received
        self.durable = durable
        self.applied = applied
        self.consumedBytes = consumedBytes
        self.isSyncing = isSyncing
        self.wantsHeartbeat = wantsHeartbeat
        self.clock = clock
        self.writtenBytes = writtenBytes
        self.copiedBytes = copiedBytes
        self.loggedBytes = loggedBytes
        self.groupTag = groupTag
    }
}

package struct Heartbeat: Hashable, Sendable {
    /// The end of the sender's log, and when it was captured.
    package var position: Position
    package var captureTime: Int64
    package var clock: Int64
    /// Clock of the last ack that the sender had read before it looked where its log ends; 0 before the first. Whoever
    /// has applied that position was current at that time, however long both were on their way.
    package var echo: Int64

    package init(position: Position, captureTime: Int64, clock: Int64, echo: Int64 = 0) {
        self.position = position
        self.captureTime = captureTime
        self.clock = clock
        self.echo = echo
    }
}

package struct SyncBegin: Hashable, Sendable {
    package var position: Position
    package var treeDigest: Digest
    package var lastObject: ObjectID
    package var objectCount: UInt64
    package var contentBytes: UInt64

    package init(
        position: Position, treeDigest: Digest, lastObject: ObjectID, objectCount: UInt64, contentBytes: UInt64
    ) {
        self.position = position
        self.treeDigest = treeDigest
        self.lastObject = lastObject
        self.objectCount = objectCount
        self.contentBytes = contentBytes
    }
}

/// Entries as in a segment's body, parents before what is in them. About 1 MiB of them, or a single one that is longer.
package struct SyncEntries: Hashable, Sendable {
    package var count: UInt32
    package var codec: Codec
    package var rawBytes: UInt32
    package var bytes: [UInt8]

    package init(count: UInt32, codec: Codec, rawBytes: UInt32, bytes: [UInt8]) {
        self.count = count
        self.codec = codec
        self.rawBytes = rawBytes
        self.bytes = bytes
    }
}

package struct BlockAnswer: Hashable, Sendable {
    package var object: ObjectID
    package var offset: UInt64
    package var rawBytes: UInt32
    package var codec: Codec
    /// The sender's file holds other bytes by now.
    package var isGone: Bool
    package var bytes: [UInt8]

    package init(
        object: ObjectID, offset: UInt64, rawBytes: UInt32, codec: Codec, isGone: Bool, bytes: [UInt8]
    ) {
        self.object = object
        self.offset = offset
        self.rawBytes = rawBytes
        self.codec = codec
        self.isGone = isGone
        self.bytes = bytes
    }
}
