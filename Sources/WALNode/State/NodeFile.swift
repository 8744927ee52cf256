import Foundation
import WALFormat
import WALSystem
import WALWire

/// `node.json`: who this node is and what it has promised. Written whole, by durable rename, and only when it changes.
package struct NodeFile: Codable, Hashable, Sendable {
    package static let name = Name("node.json")
    package static let currentFormat = 1

    package enum Role: String, Codable, Sendable {
        case primary
        case replica
        case fenced
    }

    package var format = NodeFile.currentFormat
    package var node: String
    package var role: Role
    /// 32 hexadecimal digits; nil for a replica that has not met its primary yet.
    package var history: String?
    package var epoch: UInt64
    package var promisedEpoch: UInt64
    /// The rules of a primary's filter, as ``Filter/lines``; nil where none was ever given. The catalog has them, too, but a
    /// catalog may be lost, and what it kept from being replicated must not be replicated then.
    package var filter: [String]?
    /// `HOST:PORT` of the primary as last heard; nil where none is known.
    package var leader: String?
    /// The primary before: it may not know yet that it is none any more.
    package var formerLeader: String?
    /// Of a fenced primary: whom it has given the lead to, until it hears who has it.
    package var successor: Member?
    /// The epoch since whose beginning nothing was promised but to its primary, for handing over.
    package var handoverEpoch: UInt64?
    /// `HOST:PORT` of the primary that a promotion told this replica to follow.
    package var upstream: String?
    /// The replicas of the group, as the primary last told them.
    package var members: [Member]?
    /// See ``Group/syncReplicas``.
    package var syncReplicas: UInt32?
    /// See ``Group/epochs``.
    package var epochs: [EpochStart]?
    /// Of a primary: whose acknowledgements count, and how many of them are needed, see ``Electorate``.
    package var voters: [String]?
    package var votersNeeded: UInt32?
    /// The role is one that the node was given while it ran, by a promotion or what followed from one: whichever daemon is
    /// started for the tree takes it up again.
    package var isAppointed: Bool?
    /// A rejoin was begun and is to be gone on with.
    package var isRejoining: Bool?
    /// Where in `quarantine/` that rejoin keeps what this node has alone: what an earlier one has kept stays.
    package var rejoinFolder: String?
    /// The site's program for this change of the role is still to be started.
    package var pendingHook: RoleHook.Event?

    package struct Member: Codable, Hashable, Sendable {
        package var name: String
        package var address: String

        package init(name: String, address: String) {
            self.name = name
            self.address = address
        }
    }

    private enum CodingKeys: String, CodingKey {
        case format, node, role, history, epoch, filter, leader, successor, upstream, members, epochs, voters
        case votersNeeded = "voters_needed"
        case promisedEpoch = "promised_epoch"
        case formerLeader = "former_leader"
        case syncReplicas = "sync_replicas"
        case isAppointed = "appointed"
        case isRejoining = "rejoining"
        case rejoinFolder = "rejoin_folder"
        case pendingHook = "pending_hook"
        case handoverEpoch = "handover_epoch"
    }

    package init(node: String, role: Role, history: HistoryID?, epoch: UInt64) {
        self.node = node
        self.role = role
        self.history = history?.description
        self.epoch = epoch
        promisedEpoch = epoch
    }

    package var historyID: HistoryID {
        get throws {
            guard let history else { return .none }
            return HistoryID(try Digest(text: history))
        }
    }

    package var filterValue: Filter? {
        get throws(FormatError) {
            guard let filter else { return nil }
            return try Filter(lines: filter)
        }
    }

    /// nil where there is no such file.
    package static func load(from folder: Directory, path: String) throws -> NodeFile? {
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try readWholeFile(in: folder, name, limit: 1 << 20)
        } catch {
            if error.isNotFound { return nil }
            throw error
        }
        return try NodeFile(json: bytes, path: path)
    }

    /// `path` is that of the state folder, for messages.
    package init(json bytes: [UInt8], path: String) throws {
        struct Format: Decodable { var format: Int }
        let decoder = JSONDecoder()
        guard let format = try? decoder.decode(Format.self, from: Data(bytes)) else {
            throw NodeError(.diverged, "\(path)/node.json is damaged; restore it, or remove \(path) to begin anew")
        }
        guard format.format <= Self.currentFormat else {
            throw NodeError(
                .failed,
                "\(path) has format \(format.format), this program knows \(Self.currentFormat); upgrade the program")
        }
        guard let file = try? decoder.decode(NodeFile.self, from: Data(bytes)), (try? file.historyID) != nil,
            file.filter == nil || (try? file.filterValue) != nil
        else {
            throw NodeError(.diverged, "\(path)/node.json is damaged; restore it, or remove \(path) to begin anew")
        }
        self = file
    }

    package func save(to folder: Directory) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try durableReplace(in: folder, Self.name, Array(try encoder.encode(self)) + [0x0A])
    }
}

extension NodeStatus.Group {
    /// As the node last heard; `address` is where others reach it.
    package init(_ file: NodeFile, address: String?) {
        self.address = address
        primary = file.leader
        formerPrimary = file.formerLeader
        successor = file.successor?.name
        promisedEpoch = file.promisedEpoch
        // What a primary was told is of its time as a replica; what it has acknowledged by is its own.
        syncReplicas = max(file.syncReplicas ?? 0, file.role == .replica ? 0 : file.votersNeeded ?? 0)
        members = (file.members ?? []).map {
            NodeStatus.Group.Member(name: $0.name, address: $0.address.isEmpty ? nil : $0.address)
        }
    }
}
