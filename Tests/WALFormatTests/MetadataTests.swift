import Testing
import WALFormat

@Suite struct MetadataTests {
    @Test func kindsAreThoseOfTheFormat() {
        #expect(Kind(rawValue: 0) == nil)
        #expect(Kind.file.rawValue == 1)
        #expect(Kind.directory.rawValue == 2)
        #expect(Kind.symlink.rawValue == 3)
        #expect(Kind.fifo.rawValue == 4)
        #expect(Kind.characterDevice.rawValue == 5)
        #expect(Kind.blockDevice.rawValue == 6)
        #expect(Kind(rawValue: 7) == nil)
    }

    @Test func numbersOfDevicesAreEightBytes() {
        let number = DeviceNumber(major: 0x0102_0304, minor: .max)
        #expect(number.bytes == [4, 3, 2, 1, 255, 255, 255, 255])
        #expect(DeviceNumber(bytes: number.bytes) == number)
        #expect(DeviceNumber(bytes: []) == nil)
    }

    /// Whatever order they come in, equal attributes are equal bytes.
    @Test func attributesHaveOneForm() throws {
        let one = try Attributes([([0x62], [1, 2]), ([0x61], []), ([0x61, 0x61], [3])])
        #expect(one.bytes == [1, 0x61, 0, 2, 0x61, 0x61, 1, 3, 1, 0x62, 2, 1, 2])
        #expect(try Attributes([([0x61, 0x61], [3]), ([0x62], [1, 2]), ([0x61], [])]) == one)
        #expect(try Attributes(bytes: one.bytes).pairs.map(\.name) == [[0x61], [0x61, 0x61], [0x62]])
        #expect(Attributes.none.digest == .zero && one.digest != .zero)
        #expect(throws: FormatError.self) { try Attributes([([0x61], []), ([0x61], [1])]) }
        #expect(throws: FormatError.self) {
            try Attributes([([0x61], [UInt8](repeating: 0, count: Limits.maxAttributeBytes))])
        }
    }

    @Test func someAttributesNeedAPrivilege() throws {
        let names = [
            "user.a", "trusted.a", "security.capability", "security.selinux", "system.posix_acl_access", "system.other",
        ].map { Array($0.utf8) }
        #expect(names.map(Attributes.isReplicated) == [true, true, true, false, true, false])
        let all = try Attributes(names.map { ($0, [1]) })
        #expect(
            all.unprivileged.pairs.map { String(decoding: $0.name, as: UTF8.self) } == [
                "security.selinux", "system.other", "system.posix_acl_access", "user.a",
            ])
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
