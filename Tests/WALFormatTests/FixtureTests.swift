import Foundation
import Testing
import WALFormat
import WALTestKit

@Suite struct FixtureTests {
    @Test func everyFixtureHasItsTest() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: Fixtures.segments.path)
        let names = GoodSegments.all.map(\.name) + BadSegments.all.map(\.name)
        #expect(folders.sorted() == names.sorted(), "\(Fixtures.advice)")
        #expect(Set(names).count == names.count)
    }

    /// Old logs stay readable: the bytes of an earlier program still say what they said.
    @Test(arguments: GoodSegments.all)
    func goodFixtureDecodes(sample: GoodSegments.Sample) throws {
        let segment = try Segment(verifying: try Fixtures.bytes(sample.name))
        let expected = try Fixtures.text(sample.name, "expected.json")
        #expect(try segment.described().text + "\n" == expected, "\(Fixtures.advice)")
    }

    /// And today's program still writes what it wrote. Another libz may compress otherwise, never to another meaning.
    @Test(arguments: GoodSegments.all)
    func goodFixtureIsWhatIsWritten(sample: GoodSegments.Sample) throws {
        let segment = try Segment(verifying: try Fixtures.bytes(sample.name))
        if sample.isCompressed {
            #expect(firstDifference(try segment.rawBody(), try sample.segment.rawBody()) == nil, "\(Fixtures.advice)")
        } else {
            // The chain before, and with it this one, depends on what libz made of `ok-zlib`.
            var header = segment.header
            header.previousChain = sample.segment.header.previousChain
            #expect(header == sample.segment.header, "\(Fixtures.advice)")
            let body = SegmentHeader.byteCount..<segment.bytes.count - SegmentTrailer.byteCount
            let (read, written) = (Array(segment.bytes[body]), Array(sample.segment.bytes[body]))
            #expect(firstDifference(read, written) == nil, "\(Fixtures.advice)")
        }
    }

    @Test func goodFixturesAreOneHistory() throws {
        var previous = Position.start
        for sample in GoodSegments.all {
            let segment = try Segment(verifying: try Fixtures.bytes(sample.name))
            #expect(segment.header.seq == previous.seq + 1, "\(sample)")
            #expect(segment.header.previousChain == previous.chain, "\(sample)")
            #expect(segment.header.epoch >= previous.epoch, "\(sample)")
            previous = segment.position
        }
    }

    @Test(arguments: BadSegments.all)
    func badFixtureFailsForItsDefect(sample: BadSegments.Sample) throws {
        let bytes = try Fixtures.bytes(sample.name)
        #expect(firstDifference(bytes, sample.bytes) == nil, "\(Fixtures.advice)")
        let found = error(of: bytes)
        #expect(found == sample.error)
        let expected = try Fixtures.text(sample.name, "error.txt")
        #expect((found?.description ?? "no error") + "\n" == expected, "\(Fixtures.advice)")
    }

    /// Without the defect the same bytes are a segment: nothing else is wrong with them.
    @Test func draftWithoutADefectIsGood() throws {
        for sample in GoodSegments.all {
            let sealed = try SegmentDraft(sample.segment).sealed()
            #expect(firstDifference(sealed, sample.segment.bytes) == nil, "\(sample)")
        }
    }

    private func error(of bytes: [UInt8]) -> FormatError? {
        do throws(FormatError) {
            _ = try Segment(verifying: bytes).changes()
            return nil
        } catch {
            return error
        }
    }
}
