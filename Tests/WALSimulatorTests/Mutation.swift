/// The code broken on purpose, one way at a time: what a simulator cannot see broken, it does not test.
enum Mutation: String, CaseIterable, Sendable {
    /// The disk says that it has synced and has not.
    case syncsNothing
    /// What a promotion changes in `node.json` is lost by a power cut.
    case promiseNotDurable
    /// A segment is acknowledged as durable when it is written, and synced after that.
    case acknowledgesBeforeSync
    /// A receiver's position is held where the log has its number, whatever the chain, and segments are appended
    /// likewise.
    case chainUnchecked
    /// A replica listens to a primary of any epoch, whatever it has promised.
    case epochUnchecked
    /// An epoch is promised to everybody who asks.
    case promisesTwice
    /// One promise makes a primary, however many replicas there are.
    case tooFewPromises
    /// Who leads on asks those that it knows itself, and not those that came since.
    case oldGroupLeadsOn
    /// All replicas that have come are told of at once.
    case addsManyAtOnce
    /// Whoever promises counts, be it a member or not.
    case everybodyPromises
    /// Who was never told of a group is all of it.
    case nobodyIsEverybody
    /// How many must promise is reckoned before they do, and not again.
    case groupLookedAtOnce
    /// Few promises are enough for a handover, though the primary that was drained cannot be fenced any more.
    case giverNotFenced
    /// A primary gives the lead away whether or not it has written since.
    case handsOverLate
    /// A primary gives the lead away while it is about to count one more replica.
    case handsOverUnsettled
    /// Who promises for a handover does not look whether something else was promised since that epoch began.
    case handsOverUnasked
    /// The first that has promised is promoted, and not the one that has most.
    case notTheFurthest
    /// A replica is promoted that has nothing of the epoch that began last.
    case startIgnored
    /// Whoever acknowledges counts, be it known to a promotion or not.
    case everybodyCounts
    /// A primary that was promoted writes no segment of its epoch before others write theirs.
    case epochBeginsSilently
    /// The log is pruned of what the tree does not have yet.
    case prunesUnapplied
    /// A rejoining node keeps what it had alone.
    case keepsTheFork
}

extension Mutation {
    /// Where it is soon caught; nil where that takes more runs than `swift test` has time for.
    var firstSeed: UInt64? {
        switch self {
        case .syncsNothing, .promiseNotDurable, .acknowledgesBeforeSync, .chainUnchecked, .epochUnchecked,
            .promisesTwice, .tooFewPromises, .notTheFurthest, .prunesUnapplied, .keepsTheFork:
            1
        case .epochBeginsSilently: 187
        case .everybodyCounts: 204
        case .giverNotFenced: 627
        case .groupLookedAtOnce: 1197
        case .handsOverLate: 2736
        case .startIgnored, .nobodyIsEverybody, .handsOverUnsettled, .handsOverUnasked, .addsManyAtOnce,
            .everybodyPromises, .oldGroupLeadsOn:
            nil
        }
    }
}
