import Testing
import WALFormat

/// What people read: every case names the thing, what was found and what is allowed.
@Suite struct FormatErrorTests {
    @Test(
        arguments: [
            (.magic(what: "thing"), "thing: not the magic bytes"),
            (
                .version(what: "thing", found: 7, supported: 1),
                "thing: format version 7 is newer than 1, the last that this program reads; upgrade it"
            ),
            (.checksum(what: "thing"), "thing: checksum does not match"),
            (.truncated(what: "thing", needed: 9, available: 4), "thing: 9 bytes needed, 4 there"),
            (.limit("things", value: .max, limit: 4), "things: 18446744073709551615 is beyond the limit of 4"),
            (.value(what: "thing", 12), "thing: 12 is not a value of the format"),
            (.name([0x61, 0x2F, 0x0A]), "name 'a/\\x0a' is not one component of a path"),
            (.trailing(what: "thing", bytes: 3), "thing: 3 bytes too many"),
            (.codec(what: "thing", code: -3), "thing: zlib error -3"),
            (.text(what: "thing", "x:y"), "'x:y' is not a thing"),
        ] as [(FormatError, String)])
    func description(error: FormatError, text: String) {
        #expect(error.description == text)
    }

    /// A hostile name does not flood the log.
    @Test func longNameIsCut() {
        let text = FormatError.name([UInt8](repeating: 0, count: 100_000)).description
        #expect(text.utf8.count < 1300)
    }
}
