import Testing
import WALCapture

/// What is believed to be deleted, and when.
@Suite struct DeletionGuardTests {
    private static let second: UInt64 = 1_000_000_000
    private static let start: UInt64 = 1_000_000_000_000

    @Test(arguments: [
        (DeletionLimit.share(50), UInt64(999), UInt64?.none), (.share(50), 1000, 500), (.share(50), 1001, 500),
        (.share(0), 5000, 0), (.share(100), 5000, nil), (.share(1), .max, UInt64.max / 100), (.count(7), 3, 7),
        (.count(0), 3, 0),
    ])
    func limit(limit: DeletionLimit, objects: UInt64, allowed: UInt64?) {
        #expect(limit.allowed(of: objects) == allowed)
    }

    /// `rm -r` takes longer than a segment is open: its parts add up.
    @Test func partsOfOneRemovalAddUp() {
        let guarding = DeletionGuard(.share(50))
        guarding.note(objects: 10_000, now: Self.start)
        #expect(guarding.allowance(objects: 10_000, now: Self.start) == 5000)
        guarding.note(objects: 7000, now: Self.start + Self.second)
        #expect(guarding.allowance(objects: 7000, now: Self.start + 2 * Self.second) == 2000)
        guarding.note(objects: 5000, now: Self.start + 3 * Self.second)
        #expect(guarding.allowance(objects: 5000, now: Self.start + 4 * Self.second) == 0)
    }

    @Test func whatWentLongAgoIsForgotten() {
        let guarding = DeletionGuard(.share(50))
        guarding.note(objects: 10_000, now: Self.start)
        guarding.note(objects: 6000, now: Self.start + 30 * Self.second)
        #expect(guarding.allowance(objects: 6000, now: Self.start + 59 * Self.second) == 1000)
        #expect(guarding.allowance(objects: 6000, now: Self.start + 61 * Self.second) == 3000)
    }

    /// Files that came and went within the minute are no loss.
    @Test func aTreeThatGrewAndShrankIsNotDoubted() {
        let guarding = DeletionGuard(.share(50))
        guarding.note(objects: 2000, now: Self.start)
        guarding.note(objects: 20_000, now: Self.start + 2 * Self.second)
        #expect(guarding.allowance(objects: 2500, now: Self.start + 4 * Self.second) == 1250)
    }

    @Test func doubtDoesNotFadeButIsTakenBack() {
        let guarding = DeletionGuard(.share(50))
        guarding.note(objects: 10_000, now: Self.start)
        #expect(guarding.doubt(objects: 6000) == 10_000)
        let later = Self.start + 3600 * Self.second
        #expect(guarding.allowance(objects: 6000, now: later) == 1000)
        #expect(guarding.doubt(objects: 6000) == 10_000)
        guarding.note(objects: 6000, now: later)
        #expect(guarding.allowance(objects: 6000, now: later) == 3000)

        #expect(guarding.doubt(objects: 6000) == 6000)
        guarding.accept()
        #expect(guarding.allowance(objects: 100, now: later) == nil)
    }
}
