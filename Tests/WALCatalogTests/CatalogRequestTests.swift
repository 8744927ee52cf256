import Testing
import WALCatalog
import WALFormat

@Suite struct CatalogRequestTests {
    private let folder: CatalogFolder
    private let catalog: Catalog

    init() throws {
        folder = try CatalogFolder()
        catalog = try Catalog(path: folder.path + "/catalog.sqlite")
    }

    private func id(_ number: UInt64) -> RequestID { RequestID(Digest(high: number, low: ~number)) }
    private func position(_ seq: UInt64) -> Position {
        Position(epoch: 1, seq: seq, chain: Digest(high: 0, low: seq))
    }

    @Test func isKnownWithItsPositionAndNoPartOfTheDigest() throws {
        try catalog.write { try $0.note(id(1), at: position(7)) }
        #expect(try catalog.read { try $0.position(of: id(1)) } == position(7))
        #expect(try catalog.read { try $0.position(of: id(2)) } == nil)
        #expect(try catalog.state().treeDigest == .zero)
        try catalog.write { try $0.removeEverything() }
        #expect(try catalog.read { try $0.position(of: id(1)) } == nil)
    }

    @Test func theLastTenThousandAreKept() throws {
        let count = CatalogTransaction.maxRequests + 1000
        try catalog.write { transaction in
            for seq in 1...count { try transaction.note(id(seq), at: position(seq)) }
        }
        let known = try catalog.read { catalog in try (1...count).map { try catalog.position(of: id($0)) } }
        let kept = Int(count - CatalogTransaction.maxRequests)
        for seq in kept + 1...Int(count) { #expect(known[seq - 1] == position(UInt64(seq))) }
        // Pruned now and then, so a few more may be there.
        #expect(known[0] == nil && known[700] == nil)
    }
}
