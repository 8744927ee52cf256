import Testing
import WALFormat
import WALTestKit
import WALWire

/// Segments from pieces of every size, also where a connection goes on from what another left.
@Suite struct ReassemblyTests {
    /// Segment 2: three blocks, compressed to some kilobytes.
    private let segment = SmallLog.segments[1]

    private func streaming(after seq: UInt64 = 1, partial: [UInt8] = [], resumed: UInt64? = nil) -> ReceiverMachine {
        var own = Samples.receiver
        own.position.seq = seq
        own.partialBytes = UInt64(partial.count)
        var machine = ReceiverMachine(own: own, partial: partial, now: 0)
        _ = machine.received(.hello(Samples.sender), epoch: 3, now: 0)
        let welcome = Welcome(
            way: .stream, history: Samples.history, resumedBytes: resumed ?? UInt64(partial.count))
        _ = machine.received(.welcome(welcome), epoch: 3, now: 0)
        return machine
    }

    private func take(
        _ machine: inout ReceiverMachine, _ bytes: ArraySlice<UInt8>, seq: UInt64 = 2, total: Int? = nil
    ) -> [ReceiverMachine.Action] {
        let part = SegmentPart(
            seq: seq, offset: UInt64(bytes.startIndex), total: UInt64(total ?? segment.bytes.count),
            bytes: Array(bytes))
        return machine.received(.segmentPart(part), epoch: 3, now: 0)
    }

    private func isRefused(_ actions: [ReceiverMachine.Action], _ code: Refusal.Code = .malformed) -> Bool {
        guard actions.count == 2, case .send(.refuse(let refusal)) = actions[0] else { return false }
        return refusal.code == code && actions[1] == .close(refusal.text)
    }

    @Test func piecesOfEverySize() {
        let whole = segment.bytes
        for size in 1...whole.count {
            var machine = streaming()
            var segments: [[UInt8]] = []
            for offset in stride(from: 0, to: whole.count, by: size) {
                for action in take(&machine, whole[offset..<min(offset + size, whole.count)]) {
                    guard case .segment(let bytes) = action else {
                        Issue.record("pieces of \(size): \(action)")
                        return
                    }
                    segments.append(bytes)
                }
            }
            #expect(segments == [whole], "pieces of \(size)")
            #expect(machine.partial.isEmpty)
            #expect(machine.consumedBytes == UInt64(whole.count))
        }
    }

    /// Cut anywhere, a connection leaves header and whole blocks, and the next one needs only the rest.
    @Test func resumesBehindTheLastWholeBlock() throws {
        let whole = segment.bytes
        let ends = try SmallLog.blockEnds(segment)
        #expect(ends.count == 4)
        for cut in 0..<whole.count {
            var first = streaming()
            if cut > 0 { #expect(take(&first, whole[..<cut]) == []) }
            let kept = first.kept()
            #expect(kept.count == ends.last { $0 <= cut } ?? 0, "cut at \(cut)")
            #expect(kept == Array(whole.prefix(kept.count)))
            var second = streaming(partial: kept)
            #expect(take(&second, whole[kept.count...]) == [.segment(whole)], "cut at \(cut)")
            #expect(second.consumedBytes == UInt64(whole.count - kept.count))
        }
    }

    @Test func damagedPartIsNotKept() throws {
        let ends = try SmallLog.blockEnds(segment)
        var damaged = Array(segment.bytes[..<ends[3]])
        damaged[ends[1] + 20] ^= 1
        var machine = streaming()
        #expect(take(&machine, damaged[...]) == [])
        #expect(machine.kept().count == ends[1])
    }

    @Test func keptOutlivesARefusal() throws {
        let ends = try SmallLog.blockEnds(segment)
        var machine = streaming()
        _ = take(&machine, segment.bytes[..<(ends[2] + 1)])
        _ = machine.received(.syncEnd, epoch: 3, now: 0)
        #expect(machine.kept().count == ends[2])
    }

    @Test func segmentsFollowOneAnother() {
        var machine = streaming(after: 0)
        for segment in SmallLog.segments {
            let count = segment.bytes.count
            let seq = segment.header.seq
            #expect(take(&machine, segment.bytes[..<7], seq: seq, total: count) == [])
            #expect(take(&machine, segment.bytes[7...], seq: seq, total: count) == [.segment(segment.bytes)])
        }
    }

    @Test(arguments: [0, 1, 3, UInt64(Int64.max), .max] as [UInt64]) func otherSegmentThanTheNext(seq: UInt64) {
        var machine = streaming()
        #expect(isRefused(take(&machine, segment.bytes[...], seq: seq)))
    }

    @Test func lastNumberOfAll() {
        var machine = streaming(after: UInt64(Int64.max) - 1)
        #expect(isRefused(take(&machine, segment.bytes[...], seq: UInt64(Int64.max))))
    }

    @Test func pieceThatDoesNotFollow() {
        for offset in [0, 9, 11, 200] {
            var machine = streaming()
            _ = take(&machine, segment.bytes[..<10])
            #expect(isRefused(take(&machine, segment.bytes[offset..<offset + 5])), "at \(offset)")
            // It is not known whose fault it was: the next connection begins the segment anew.
            #expect(machine.kept().isEmpty)
        }
    }

    @Test func pieceBeyondTheEnd() {
        var machine = streaming()
        #expect(isRefused(take(&machine, segment.bytes[...], total: segment.bytes.count - 1)))
        var second = streaming()
        _ = take(&second, segment.bytes[..<10])
        #expect(isRefused(take(&second, segment.bytes[10...] + [0])))
    }

    @Test func emptyPiece() {
        var machine = streaming()
        #expect(isRefused(take(&machine, [])))
        var second = streaming()
        #expect(isRefused(take(&second, [], total: 0)))
    }

    @Test func totalBeyondTheLimit() {
        let largest = Int(ReceiverMachine.maxSegmentBytes)
        #expect(largest == 128 + (48 << 20) + 48 * 16 + 40)
        var machine = streaming()
        #expect(take(&machine, segment.bytes[..<10], total: largest) == [])
        for total in [largest + 1, Int.max] {
            var machine = streaming()
            #expect(isRefused(take(&machine, segment.bytes[..<10], total: total)), "\(total)")
        }
        var last = streaming()
        let part = SegmentPart(seq: 2, offset: 0, total: .max, bytes: [1])
        #expect(isRefused(last.received(.segmentPart(part), epoch: 3, now: 0)))
    }

    @Test func totalThatChanges() {
        for total in [segment.bytes.count - 1, segment.bytes.count + 1] {
            var machine = streaming()
            _ = take(&machine, segment.bytes[..<10])
            #expect(isRefused(take(&machine, segment.bytes[10..<20], total: total)))
        }
    }

    // MARK: What another connection left

    @Test func partOfAnotherLengthIsGivenUp() throws {
        let kept = Array(segment.bytes[..<(try SmallLog.blockEnds(segment))[1]])
        var machine = streaming(partial: kept)
        let part = SegmentPart(seq: 2, offset: UInt64(kept.count), total: 1_000_000, bytes: [1])
        #expect(isRefused(machine.received(.segmentPart(part), epoch: 3, now: 0)))
        #expect(machine.kept().isEmpty)
    }

    /// What was begun is the start of a later segment: the ones before it were lost after they came.
    @Test func partOfAnotherNumberIsGivenUp() throws {
        let kept = Array(segment.bytes[..<(try SmallLog.blockEnds(segment))[1]])
        var machine = streaming(after: 0, partial: kept)
        #expect(isRefused(take(&machine, segment.bytes[kept.count...], seq: 1)))
        #expect(machine.kept().isEmpty)
    }

    /// The sender ships another segment of this number than the one that was begun.
    @Test func senderMayBeginAnew() throws {
        let kept = Array(segment.bytes[..<(try SmallLog.blockEnds(segment))[1]])
        let other = SmallLog.segments[3].bytes
        var machine = streaming(partial: kept)
        #expect(take(&machine, other[..<50], total: other.count) == [])
        #expect(machine.partial == Array(other[..<50]))
        #expect(take(&machine, other[50...], total: other.count) == [.segment(other)])
    }

    @Test func senderThatKeepsOtherwise() throws {
        let kept = Array(segment.bytes[..<(try SmallLog.blockEnds(segment))[2]])
        // Nothing: it begins anew.
        var machine = streaming(partial: kept, resumed: 0)
        #expect(machine.partial.isEmpty)
        #expect(take(&machine, segment.bytes[...]) == [.segment(segment.bytes)])
        // Another part than there is: then there is nothing to go on from.
        var second = streaming(partial: kept, resumed: 128)
        #expect(isRefused(take(&second, segment.bytes[128...])))
        #expect(second.kept().isEmpty)
    }

    @Test func reconcileGivesUpThePart() {
        var own = Samples.receiver
        own.partialBytes = 3
        var machine = ReceiverMachine(own: own, partial: [1, 2, 3], now: 0)
        _ = machine.received(.hello(Samples.sender), epoch: 3, now: 0)
        let list = Welcome(way: .list, history: Samples.history, resumedBytes: 3)
        _ = machine.received(.welcome(list), epoch: 3, now: 0)
        #expect(machine.partial.isEmpty)
    }

    @Test func lostHandshakeKeepsThePart() throws {
        let kept = Array(segment.bytes[..<(try SmallLog.blockEnds(segment))[2]])
        var own = Samples.receiver
        own.position.seq = 1
        own.partialBytes = UInt64(kept.count)
        var machine = ReceiverMachine(own: own, partial: kept, now: 0)
        #expect(machine.kept() == kept)
        _ = machine.received(.hello(Samples.sender), epoch: 3, now: 0)
        #expect(machine.kept() == kept)
        _ = machine.received(.refuse(Refusal(.busy, "later")), epoch: 3, now: 0)
        #expect(machine.kept() == kept)
    }
}
