import Foundation
import Testing
import WALFormat

/// Another reader, written from walship-segment(5) alone: where the two agree, the page is complete and the code says
/// what the page does.
@Suite(.serialized) struct DecoderTests {
    private static let decoder = Fixtures.package.appending(path: "Tests/CommandTests/Decoder/segment_decoder.py").path

    @Test(arguments: GoodSegments.all)
    func decodersAgree(sample: GoodSegments.Sample) throws {
        let file = Fixtures.segments.appending(path: "\(sample.name)/segment.wal").path
        let (status, output, complaint) = try DecoderTests.run(file)
        #expect(status == 0, "\(complaint)")
        #expect(output == (try Fixtures.text(sample.name, "expected.json")), "\(Fixtures.advice)")
        let segment = try Segment(verifying: try Fixtures.bytes(sample.name))
        #expect(output == (try segment.described().text) + "\n")
    }

    /// What takes a digest to see, the other reader takes; everything else it refuses too.
    @Test(arguments: BadSegments.all)
    func decodersRefuseTheSame(sample: BadSegments.Sample) throws {
        let file = Fixtures.segments.appending(path: "\(sample.name)/segment.wal").path
        let (status, _, complaint) = try DecoderTests.run(file)
        #expect(status == (sample.needsDigest ? 0 : 1), "\(complaint)")
        // A trace of calls is a fault of the reader and no refusal.
        #expect(complaint.isEmpty == sample.needsDigest)
        #expect(!complaint.contains("Traceback"), "\(complaint)")
    }

    private static func run(_ file: String) throws -> (status: Int32, output: String, complaint: String) {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", decoder, file]
        let output = Pipe()
        let complaint = Pipe()
        process.standardOutput = output
        process.standardError = complaint
        try process.run()
        // Errors are a line or a trace: they fit the pipe while the output is drained.
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        let errors = try complaint.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (
            process.terminationStatus, String(decoding: text, as: UTF8.self), String(decoding: errors, as: UTF8.self)
        )
    }
}
