import Foundation
import Testing
import WALFormat

/// Another reader, written from walship-segment(5) alone: where the two agree, the page is complete and the code says
/// what the page does.
@Suite(.serialized) struct DecoderTests {
    private static let decoder = Fixtures.package.appending(path: "Tests/CommandTests/Decoder/segment_decoder.py").path

    @Test(arguments: GoodSegments.all)
    func decodersAgree(sample: GoodSegments.Sample) throws {
        let (status, output, complaints) = try DecoderTests.run([DecoderTests.file(sample.name)])
        #expect(status == 0, "\(complaints)")
        #expect(output == (try Fixtures.text(sample.name, "expected.json")), "\(Fixtures.advice)")
        let segment = try Segment(verifying: try Fixtures.bytes(sample.name))
        #expect(output == (try segment.described().text) + "\n")
    }

    /// What takes a digest to see, the other reader takes; everything else it refuses too, each with one line.
    @Test func decodersRefuseTheSame() throws {
        let refused = BadSegments.all.filter { !$0.needsDigest }
        let (status, output, complaints) = try DecoderTests.run(refused.map { DecoderTests.file($0.name) })
        #expect(status == 1)
        #expect(output == "")
        let lines = complaints.split(separator: "\n")
        #expect(lines.count == refused.count, "\(complaints)")
        for (sample, line) in zip(refused, lines) {
            #expect(line.hasPrefix(DecoderTests.file(sample.name) + ": "), "\(line)")
        }

        let taken = BadSegments.all.filter(\.needsDigest)
        #expect(taken.map(\.name) == ["body-digest", "chain"])
        #expect(try DecoderTests.run(taken.map { DecoderTests.file($0.name) }).status == 0)
    }

    private static func file(_ name: String) -> String {
        Fixtures.segments.appending(path: "\(name)/segment.wal").path
    }

    private static func run(_ files: [String]) throws -> (status: Int32, output: String, complaints: String) {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", decoder] + files
        let output = Pipe()
        let complaints = Pipe()
        process.standardOutput = output
        process.standardError = complaints
        try process.run()
        // Complaints, a line for each file, fit the pipe while the output is drained.
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        let lines = try complaints.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (
            process.terminationStatus, String(decoding: text, as: UTF8.self), String(decoding: lines, as: UTF8.self)
        )
    }
}
