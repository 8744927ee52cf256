import WALFormat

/// How much log is kept, and for whom. A slot is a replica that is known by name, as the last seq that it has durable.
package struct Retention: Hashable, Sendable {
    /// Hard limit on the log's bytes; a replica that is behind it must resync.
    package var budgetBytes: UInt64
    /// What every replica has is kept for so long all the same, by the primary's clock.
    package var keepSeconds: UInt64

    package init(budgetBytes: UInt64, keepSeconds: UInt64) {
        self.budgetBytes = budgetBytes
        self.keepSeconds = keepSeconds
    }

    /// Size at which a log file is closed. Only whole files are dropped and the newest never is, so a file must be a
    /// small part of the budget. A segment larger than this has a file of its own: a budget below four times the largest
    /// segment can be overrun by it.
    package var rollBytes: UInt64 {
        max(1, min(Limits.logFileBytes, budgetBytes / 4))
    }

    package struct Verdict: Hashable, Sendable {
        /// For ``LogWriter/prune(through:)``; nil when nothing can be dropped.
        package var through: UInt64?
        /// Those of `slots` that needed what is dropped, in their order.
        package var lostSlots: [UInt64]

        package init(through: UInt64?, lostSlots: [UInt64]) {
            self.through = through
            self.lostSlots = lostSlots
        }
    }

    /// What may be dropped: whole files, oldest first, never the newest. A file goes when every slot has it and it is
    /// older than ``keepSeconds``, and also while the log exceeds the budget.
    ///
    /// - Parameters:
    ///   - files: ascending and contiguous.
    ///   - slots: durable seqs. One that the log is already too short for holds nothing back and is not lost again.
    ///   - now: nanoseconds since 1970.
    ///   - adding: bytes about to be appended, for which there must be room in the budget too.
    ///   - durable: no file with a segment after this one goes, whatever the budget is: something would be repaired from it.
    package static func prunableThrough(
        files: [LogFileInfo], slots: [UInt64], now: Int64, policy: Retention, adding: UInt64 = 0,
        keeping durable: UInt64 = .max
    ) -> Verdict {
        guard let oldest = files.first else { return Verdict(through: nil, lostSlots: []) }
        let served = slots.filter { $0 >= oldest.firstSeq - 1 }
        let everyoneHas = served.min() ?? .max
        var total = files.reduce(adding) { $0 + $1.bytes }
        var through: UInt64?
        for file in files.dropLast() {
            let isUnneeded = file.lastSeq <= everyoneHas && policy.isOld(file, now: now)
            guard file.lastSeq <= durable, isUnneeded || total > policy.budgetBytes else { break }
            through = file.lastSeq
            total -= file.bytes
        }
        guard let through else { return Verdict(through: nil, lostSlots: []) }
        return Verdict(through: through, lostSlots: served.filter { $0 < through })
    }

    private func isOld(_ file: LogFileInfo, now: Int64) -> Bool {
        // Clocks are what somebody set them to: neither difference nor product may overflow.
        let (age, overflow) = now.subtractingReportingOverflow(file.lastCaptureTime)
        if overflow { return now > file.lastCaptureTime }
        guard age >= 0 else { return false }
        return UInt64(age) / 1_000_000_000 >= keepSeconds
    }
}
