import Testing
import WALFormat
import WALNode
import WALWire

/// What a node promises, and what becomes of it.
@Suite struct EpochRulesTests {
    private func file(_ role: NodeFile.Role, epoch: UInt64, promised: UInt64) -> NodeFile {
        var file = NodeFile(node: "a", role: role, history: HistoryID(Digest(high: 1, low: 2)), epoch: epoch)
        file.promisedEpoch = promised
        return file
    }

    @Test func anEpochIsPromisedOnce() throws {
        var file = file(.replica, epoch: 1, promised: 1)
        file.leader = "p:1"
        try file.promise(3, members: [NodeFile.Member(name: "b", address: "b:1")])
        #expect(file.promisedEpoch == 3 && file.epoch == 1)
        #expect(file.leader == nil && file.formerLeader == "p:1")
        #expect(file.members?.map(\.name) == ["b"])
        for epoch in [2, 3] as [UInt64] {
            #expect(throws: NodeError.self) {
                var file = file
                try file.promise(epoch, members: [])
            }
        }
        #expect(throws: NodeError.self) {
            var file = file
            try file.follow("q:1", epoch: 2)
        }
        try file.follow("q:1", epoch: 3)
        #expect(file.upstream == "q:1" && file.promisedEpoch == 3)
    }

    @Test func aWelcomeRaisesWhatIsPromised() {
        var file = file(.replica, epoch: 1, promised: 3)
        file.promise(atLeast: 2)
        #expect(file.promisedEpoch == 3 && file.epoch == 1)
        file.promise(atLeast: 3)
        #expect(file.promisedEpoch == 3 && file.epoch == 3)
    }

    @Test func onlyAHigherEpochFences() {
        var primary = file(.primary, epoch: 3, promised: 3)
        var replica = file(.replica, epoch: 1, promised: 1)
        let outcomes = [
            primary.fence(3, leader: "q:1"), primary.fence(4, leader: nil), primary.fence(3, leader: "q:1"),
            replica.fence(9, leader: "q:1"),
        ]
        #expect(outcomes == [false, true, false, false])
        #expect(primary.role == .fenced && primary.promisedEpoch == 4 && primary.epoch == 3)
        #expect(replica.role == .replica)
    }

    /// It was told of epoch 3, whose segments it never got, and leads epoch 4 from before that: peers take no list in
    /// which an epoch begins before an earlier one.
    @Test func epochsThatNeverCameAreGivenUp() throws {
        var file = file(.replica, epoch: 3, promised: 4)
        file.note(
            Group(
                leader: "p:1", syncReplicas: 1, members: [],
                epochs: [EpochStart(epoch: 2, seq: 5), EpochStart(epoch: 3, seq: 9)]))
        file.lead(4, at: "a:1")
        file.noteStart(after: Position(epoch: 2, seq: 7, chain: .zero))
        #expect(file.epochs == [EpochStart(epoch: 2, seq: 5), EpochStart(epoch: 4, seq: 8)])
        // Once more, after a crash.
        file.noteStart(after: Position(epoch: 2, seq: 7, chain: .zero))
        #expect(file.epochs == [EpochStart(epoch: 2, seq: 5), EpochStart(epoch: 4, seq: 8)])
        let told = Group(leader: "a:1", syncReplicas: 1, members: [], epochs: file.epochs ?? [])
        let frame = Message.group(told).frame(epoch: 4)
        #expect(throws: Never.self) {
            try frame.withUnsafeBytes { all in
                try Message(.group, payload: UnsafeRawBufferPointer(rebasing: all[FrameHeader.byteCount...]))
            }
        }
    }

    /// Nobody acknowledges less because somebody was away; a number that nobody can have is held to the greatest group.
    @Test func whoLeadsWaitsForAsManyAsAnybodyHasHeardOf() {
        for (known, heard, wanted) in [(1, 2, 2), (2, 1, 2), (0, 0, 0), (0, .max, UInt32(Limits.maxGroupMembers))]
            as [(UInt32, UInt32, UInt32)]
        {
            var file = file(.replica, epoch: 1, promised: 2)
            file.syncReplicas = known
            file.lead(2, at: nil, syncReplicas: heard)
            #expect(file.syncReplicas == wanted && file.votersNeeded == wanted)
        }
    }
}
