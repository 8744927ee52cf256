import Testing
import WALFormat
import WALNode

@Suite struct AddressTests {
    @Test(arguments: [
        ("127.0.0.1:7421", "127.0.0.1", 7421), ("db.example", "db.example", 7420), ("[::1]:80", "::1", 80),
        ("[fe80::1]", "fe80::1", 7420), ("localhost:0", "localhost", 0),
    ])
    func reads(text: String, host: String, port: Int) throws {
        let address = try Address(text)
        #expect(address.host == host)
        #expect(address.port == port)
    }

    @Test(arguments: [
        "", ":7420", "host:", "host:port", "host:65536", "host:-1", "host:+1", "a:b:c", "[::1", "[]:1", "a/b:1", "a b",
    ])
    func refuses(text: String) {
        #expect(throws: FormatError.self) { try Address(text) }
    }

    @Test func knowsLoopback() throws {
        for text in ["127.0.0.1", "127.9.9.9:1", "localhost", "[::1]:1"] { #expect(try Address(text).isLoopback) }
        for text in ["0.0.0.0", "[::]:1", "10.0.0.1", "example.org"] { #expect(try !Address(text).isLoopback) }
    }

    @Test func showsWhatItReads() throws {
        for text in ["127.0.0.1:7421", "[::1]:80"] { #expect("\(try Address(text))" == text) }
    }
}
