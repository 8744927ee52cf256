import Testing
import WALFormat
import WALTestKit

/// The bytes of every entry and extent, by hand: what walship-segment(5), "Entries", says.
@Suite struct ChangeWriterTests {
    private let metadata = Metadata(
        mode: 0o644, uid: 1000, gid: 100, mtime: Timestamp(seconds: -1, nanoseconds: 300))
    private let metadataBytes: [UInt8] = [0xA4, 0x03, 0xE8, 0x07, 0x64, 0x01, 0xAC, 0x02]
    private let digest = Digest(high: 0x0001_0203_0405_0607, low: 0x0809_0A0B_0C0D_0E0F)
    private let digestBytes = [UInt8](0...15)
    private let data: [UInt8] = [0xAA, 0xBB]

    @Test func entriesWithoutContent() {
        var writer = ChangeWriter()
        writer.directory(2, metadata)
        writer.symlink(3, metadata, target: [0x61, 0x62])
        writer.metadata(4, metadata)
        writer.bind(parent: 1, Name("ab"), 300)
        writer.unbind(parent: 1, Name("c"))
        writer.drop(200)
        let expected: [[UInt8]] = [
            [1, 2, 2] + metadataBytes, [1, 3, 3] + metadataBytes + [2, 0x61, 0x62], [2, 4] + metadataBytes,
            [3, 1, 2, 0x61, 0x62, 0xAC, 0x02], [4, 1, 1, 0x63], [5, 0xC8, 0x01],
        ]
        #expect(writer.body.bytes == Array(expected.joined()))
        #expect(writer.entryCount == 6)
    }

    @Test func file() {
        var writer = ChangeWriter()
        let source = ContentSource(object: 7, content: digest)
        writer.beginFile(2, metadata)
        data.withUnsafeBytes { writer.data($0) }
        writer.hole(256)
        writer.copy(from: source, offset: 5, length: 128)
        writer.copy(from: source, offset: 133, length: 1)
        writer.fetch(ContentBlock(length: 200, digest: digest))
        writer.endFile(size: 587, digest: digest)
        let expected: [[UInt8]] = [
            [1, 2, 1], metadataBytes, [1, 2, 0xAA, 0xBB], [2, 0x80, 0x02], [5, 7], digestBytes,
            [5, 0x80, 0x01], [3, 0, 0x85, 0x01, 1], [4, 0xC8, 0x01], digestBytes, [0, 0xCB, 0x04], digestBytes,
        ]
        #expect(writer.body.bytes == Array(expected.joined()))
        #expect(writer.entryCount == 1)
    }

    /// The numbers of sources are a file's own, also after one that was taken back.
    @Test func everyFileTellsItsSources() {
        let source = ContentSource(object: 7, content: digest)
        var writer = ChangeWriter()
        let mark = writer.mark
        writer.beginFile(2, metadata)
        writer.copy(from: source, offset: 0, length: 1)
        writer.rollback(to: mark)
        writer.beginFile(3, metadata)
        writer.copy(from: source, offset: 0, length: 1)
        writer.endFile(size: 1, digest: digest)
        let expected: [[UInt8]] = [[1, 3, 1], metadataBytes, [5, 7], digestBytes, [0, 1], [0, 1], digestBytes]
        #expect(writer.body.bytes == Array(expected.joined()))
    }

    @Test func rollbackTakesBackWholeEntries() {
        var writer = ChangeWriter()
        #expect(writer.isEmpty)
        writer.drop(1)
        let mark = writer.mark
        let before = writer.body.bytes
        writer.beginFile(2, metadata)
        data.withUnsafeBytes { writer.data($0) }
        writer.rollback(to: mark)
        #expect(writer.body.bytes == before)
        #expect(writer.entryCount == 1)
        writer.drop(2)
        #expect(writer.body.bytes == [5, 1, 5, 2])
        writer.removeAll()
        #expect(writer.isEmpty && writer.rawBytes == 0)
    }
}
