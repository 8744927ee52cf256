import Testing
import WALFormat
import WALNode

/// Who must promise. That it is enough is what the simulator tries; this is what a promotion makes of what it sees.
@Suite struct AssemblyTests {
    /// What a node of that epoch says, which knows of these replicas.
    private static func seen(
        _ name: String, _ role: NodeFile.Role = .replica, epoch: UInt64 = 1, members: [String], needed: UInt32 = 0
    ) throws -> GroupClient.Seen {
        var file = NodeFile(node: name, role: role, history: nil, epoch: epoch)
        file.members = members.map { NodeFile.Member(name: $0, address: "\($0):7420") }
        file.syncReplicas = needed
        var status = NodeStatus(
            role: role.rawValue, node: name, history: nil, epoch: epoch,
            position: PositionStatus(Position(epoch: 1, seq: 5, chain: .zero)), state: "streaming", treeDigest: "",
            log: NodeStatus.Log(firstSeq: 1, lastSeq: 5, bytes: 1), replicas: [], objects: 1, contentBytes: 1,
            notes: [], path: "/\(name)")
        status.group = NodeStatus.Group(file, address: "\(name):7420")
        return GroupClient.Seen(address: try Address("\(name):7420"), status: status)
    }

    @Test func whoIsNoMemberCountsForNothing() throws {
        let members = ["a", "b", "c"]
        let nodes = try [
            Self.seen("a", members: members), Self.seen("b", members: members), Self.seen("leaf", members: members),
            Self.seen("old", .fenced, members: []),
        ]
        let assembly = Assembly(try Self.seen("leaf", members: members).status, nodes)
        // It is asked, so that it hears of no lower epoch.
        #expect(assembly.voters.count == 3)
        let needed = assembly.needed(isPlanned: false)
        #expect(needed.promises == 3)
        #expect(needed.count(assembly.voters) == 2)
    }

    /// The primary of an epoch that is over does not know who has come since.
    @Test func membersOfALaterEpochCount() throws {
        let old = try Self.seen("p", .fenced, members: ["a", "b", "e"], needed: 2)
        let nodes = try ["b", "e"].map {
            try Self.seen($0, epoch: 2, members: ["b", "c", "e", "f"], needed: 2)
        }
        let needed = Assembly(old.status, nodes).needed(isPlanned: false)
        #expect(needed.names == ["b", "c", "e", "f"])
        #expect(needed.promises == 3 && needed.count(nodes) == 2)
    }

    /// Not fewer than were needed by what was known before, whatever is heard later.
    @Test func whatIsHeardLaterAddsToIt() throws {
        let nodes = try ["a", "b"].map { try Self.seen($0, members: ["a", "b"], needed: 1) }
        let needed = Assembly(nodes[0].status, nodes).needed(isPlanned: false)
        #expect(needed.promises == 2)
        let more = needed.hearing([try Self.seen("a", epoch: 1, members: ["a", "b", "c"], needed: 1).status])
        #expect(more.promises == 3 && more.names.count == 3)
        let fewer = needed.hearing([try Self.seen("a", epoch: 1, members: ["a"], needed: 3).status])
        #expect(fewer.promises == 2 && fewer.names.count == 2)
    }

    @Test func whereNobodyHasToldOfAGroupNobodyCounts() throws {
        let nodes = try ["a", "b", "c"].map { try Self.seen($0, members: []) }
        let assembly = Assembly(nodes[0].status, nodes)
        let needed = assembly.needed(isPlanned: false)
        #expect(assembly.members.isEmpty && assembly.voters.count == 3)
        #expect(needed.promises > needed.count(nodes))
    }

    /// One that was away when it became more must not lead with less. What was heard in an epoch that is over says nothing.
    @Test func theHighestNumberOfTheLastEpochGoesOn() throws {
        let nodes = try [("a", 1, 2), ("b", 2, 1), ("c", 2, 3)].map { name, epoch, needed in
            try Self.seen(name, epoch: epoch, members: ["a", "b", "c"], needed: needed).status
        }
        #expect(Assembly.syncReplicas(nodes) == 3)
        #expect(Assembly.syncReplicas(Array(nodes[..<2])) == 1)
        #expect(Assembly.syncReplicas([]) == nil)
    }

    /// Else nobody could be promoted: what it has not begun no replica can have.
    @Test func anEpochThatWaitsForRoomHasNotBegun() throws {
        let members = ["y", "z"]
        var waiting = try Self.seen("y", .primary, epoch: 2, members: ["z"])
        let replica = try Self.seen("z", members: members)
        #expect(Assembly(replica.status, [waiting, replica]).begun == 2)
        waiting.status.state = "waiting"
        #expect(Assembly(replica.status, [waiting, replica]).begun == 1)
    }
}
