import Testing
import WALFormat

@Suite struct MetadataTests {
    @Test func kindsAreThoseOfTheFormat() {
        #expect(Kind(rawValue: 0) == nil)
        #expect(Kind.file.rawValue == 1)
        #expect(Kind.directory.rawValue == 2)
        #expect(Kind.symlink.rawValue == 3)
        #expect(Kind(rawValue: 4) == nil)
    }

    @Test(
        arguments: [
            (Timestamp.zero, 0),
            (Timestamp(seconds: 1, nanoseconds: 5), 1_000_000_005),
            (Timestamp(seconds: -1, nanoseconds: 999_999_999), -1),
            (Timestamp(seconds: 9_223_372_036, nanoseconds: 854_775_807), Int64.max),
            (Timestamp(seconds: 9_223_372_036, nanoseconds: 854_775_808), Int64.max),
            (Timestamp(seconds: .max, nanoseconds: 999_999_999), Int64.max),
            (Timestamp(seconds: -9_223_372_036, nanoseconds: 0), -9_223_372_036_000_000_000),
            (Timestamp(seconds: .min, nanoseconds: 999_999_999), Int64.min),
        ] as [(Timestamp, Int64)])
    func nanosecondsAreHeldAtTheEnds(time: Timestamp, nanoseconds: Int64) {
        #expect(time.clampedNanoseconds == nanoseconds)
    }

    @Test func localNumbersLieBeyondThoseOfAHistory() {
        #expect(ObjectID.root == 1)
        #expect(ObjectID.firstLocal > UInt64(Limits.maxSegmentEntries))
        // The catalog keeps numbers in 64 bits with a sign.
        #expect(ObjectID.firstLocal < UInt64(Int64.max))
    }
}
