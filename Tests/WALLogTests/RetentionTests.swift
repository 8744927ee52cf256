import Testing
import WALFormat
import WALLog

@Suite struct RetentionTests {
    private static let second: Int64 = 1_000_000_000

    /// Four files of ten segments and 100 bytes each, captured at 100, 200, 300 and 400 seconds.
    private let files = (0..<4).map { number in
        LogFileInfo(
            firstSeq: UInt64(number) * 10 + 1, lastSeq: UInt64(number) * 10 + 10, bytes: 100,
            lastCaptureTime: Int64(number + 1) * 100 * RetentionTests.second)
    }

    struct Row: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var budget: UInt64 = 1000
        var keep: UInt64 = 0
        var slots: [UInt64] = []
        var now: Int64 = 1000
        var adding: UInt64 = 0
        var durable: UInt64 = .max
        var through: UInt64?
        var lost: [UInt64] = []
    }

    static let rows = [
        Row(testDescription: "nobody needs anything: all but the newest", through: 30),
        Row(testDescription: "all have all: all but the newest", slots: [40, 40], through: 30),
        Row(testDescription: "the slowest holds its file", slots: [40, 25], through: 20),
        Row(testDescription: "at a file's end", slots: [20], through: 20),
        Row(testDescription: "one before a file's end", slots: [19], through: 10),
        Row(testDescription: "nothing yet", slots: [0]),
        Row(testDescription: "too young", keep: 901),
        Row(testDescription: "just old enough", keep: 900, through: 10),
        Row(testDescription: "age and slots both", keep: 700, slots: [10], through: 10),
        Row(testDescription: "old enough for more than the slots allow", keep: 100, slots: [10], through: 10),
        Row(testDescription: "capture times in the future are not old", keep: 1, now: 50),
        Row(testDescription: "kept for ever", keep: .max),
        Row(testDescription: "clock before 1970", keep: 1, now: .min / 1_000_000_000),
        Row(testDescription: "at the budget", budget: 400, keep: .max, slots: [0]),
        Row(testDescription: "a byte over the budget", budget: 399, keep: .max, slots: [0], through: 10, lost: [0]),
        Row(testDescription: "the budget outweighs age", budget: 200, keep: .max, through: 20),
        Row(
            testDescription: "only those who needed it are lost", budget: 250, keep: .max, slots: [5, 40, 20, 19, 25],
            through: 20, lost: [5, 19]),
        Row(testDescription: "the newest stays over any budget", budget: 1, slots: [35, 2], through: 30, lost: [2]),
        Row(testDescription: "room for what is to come", budget: 400, keep: .max, adding: 1, through: 10),
        Row(testDescription: "room for much", budget: 400, keep: .max, adding: 201, through: 30),
        Row(
            testDescription: "budget, then nobody needs the next one", budget: 399, keep: 0, slots: [0, 20],
            through: 10, lost: [0]),
        Row(testDescription: "repaired from the third", durable: 29, through: 20),
        Row(testDescription: "repaired from any, over the budget", budget: 1, slots: [5], durable: 9),
        Row(testDescription: "over the budget, as far as it may go", budget: 1, durable: 10, through: 10),
    ]

    @Test(arguments: rows)
    func verdict(row: Row) {
        let verdict = Retention.prunableThrough(
            files: files, slots: row.slots, now: row.now * RetentionTests.second,
            policy: Retention(budgetBytes: row.budget, keepSeconds: row.keep), adding: row.adding,
            keeping: row.durable)
        #expect(verdict == Retention.Verdict(through: row.through, lostSlots: row.lost))
    }

    @Test func whoIsLostAlreadyHoldsNothingBack() {
        let rest = Array(files[2...])
        let policy = Retention(budgetBytes: 1000, keepSeconds: 0)
        let now = 1000 * RetentionTests.second
        // 20 is the last that the log can serve: its next segment is the oldest there is.
        for (slots, through) in [([19], 30), ([0, 40], 30), ([20], nil), ([19, 20], nil)] as [([UInt64], UInt64?)] {
            let verdict = Retention.prunableThrough(files: rest, slots: slots, now: now, policy: policy)
            #expect(verdict == Retention.Verdict(through: through, lostSlots: []), "\(slots)")
        }
    }

    @Test func nothingToDrop() {
        let policy = Retention(budgetBytes: 0, keepSeconds: 0)
        let none = Retention.Verdict(through: nil, lostSlots: [])
        #expect(Retention.prunableThrough(files: [], slots: [1], now: 0, policy: policy) == none)
        #expect(Retention.prunableThrough(files: [files[0]], slots: [1], now: .max, policy: policy) == none)
    }

    @Test func clocksAtTheirEndsDoNotOverflow() {
        var old = files
        old[0].lastCaptureTime = .min
        let policy = Retention(budgetBytes: 1000, keepSeconds: .max)
        #expect(Retention.prunableThrough(files: old, slots: [], now: .max, policy: policy).through == 10)
        old[0].lastCaptureTime = .max
        #expect(Retention.prunableThrough(files: old, slots: [], now: .min, policy: policy).through == nil)
    }

    @Test func aFileIsAtMostAQuarterOfTheBudget() {
        for budget in [4, 5, 1 << 20, 255 << 20, 256 << 20, 1 << 40] as [UInt64] {
            let roll = Retention(budgetBytes: budget, keepSeconds: 0).rollBytes
            #expect(roll <= budget / 4 && roll <= Limits.logFileBytes && roll > 0)
        }
        #expect(Retention(budgetBytes: 1 << 40, keepSeconds: 0).rollBytes == Limits.logFileBytes)
        #expect(Retention(budgetBytes: 0, keepSeconds: 0).rollBytes == 1)
    }
}
