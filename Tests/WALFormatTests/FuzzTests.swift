import Testing
import WALFormat
import WALTestKit

/// Hostile bytes: any of them may be refused, none may trap, and what is taken must mean what it says.
@Suite struct FuzzTests {
    /// Bytes as a broken disk or line delivers them.
    @Test func mutatedSegmentFailsOrIsTheSame() throws {
        var random = SeededRandom()
        random.announce()
        let samples = GoodSegments.all.map(\.segment)
        for _ in 0..<20_000 {
            let sample = samples.randomElement(using: &random)!
            var bytes = sample.bytes
            for _ in 0..<random.int(in: 1...3) { mutate(&bytes, &random) }
            if let segment = try? Segment(verifying: bytes) {
                try #require(firstDifference(segment.bytes, sample.bytes) == nil, "\(random.reproduce)")
            }
            let kept = bytes.withUnsafeBytes { Segment.wholePrefix($0) }
            try #require(kept <= bytes.count, "\(random.reproduce)")
        }
    }

    /// Bytes as an enemy writes them: every checksum is right. What passes must be the only form of what it says.
    @Test func mutatedEntriesFailOrAreCanonical() throws {
        var random = SeededRandom()
        random.announce()
        var taken = 0
        for round in 0..<20_000 {
            let written = RandomEntries(random.int(in: 1...6), &random)
            var body = written.writer.body.bytes
            for _ in 0..<random.int(in: 1...3) { mutate(&body, &random) }
            let count = random.once(in: 10) ? UInt32(random.int(in: 0...9)) : written.writer.entryCount
            guard let changes = try? entries(of: body, count: count) else { continue }
            taken += 1
            var again = ChangeWriter()
            for change in changes { again.append(change, body: body) }
            try #require(firstDifference(again.body.bytes, body) == nil, "round \(round), \(random.reproduce)")
        }
        // Names, metadata and digests take most mutations.
        #expect(taken > 1000, "\(random.reproduce)")
    }

    /// Headers, block headers and compressed bytes of an enemy.
    @Test func resealedSegmentFailsOrDecodes() throws {
        var random = SeededRandom()
        random.announce()
        let samples = try GoodSegments.all.filter { $0.name != "ok-zlib" }.map { try SegmentDraft($0.segment) }
        let small = try compressed()
        for _ in 0..<20_000 {
            var draft = random.once(in: 3) ? small : samples.randomElement(using: &random)!
            for _ in 0..<random.int(in: 1...3) { mutate(&draft, &random) }
            if random.once(in: 2) { draft.fit() }
            let bytes = draft.sealed()
            let kept = bytes.withUnsafeBytes { Segment.wholePrefix($0) }
            try #require(kept <= bytes.count, "\(random.reproduce)")
            guard let segment = try? Segment(verifying: bytes), let body = try? segment.rawBody() else { continue }
            try #require(UInt64(body.count) == segment.header.rawBytes, "\(random.reproduce)")
            _ = try? segment.changes()
        }
    }

    private func compressed() throws -> SegmentDraft {
        var writer = ChangeWriter()
        for object in 1...200 {
            writer.bind(parent: .root, Name(trusted: Array("name \(object)".utf8)), UInt64(object))
        }
        let context = SegmentContext(
            history: .none, epoch: 1, previous: .start, captureTime: 0, treeDigest: .zero, lastObject: 200, flags: [])
        let segment = Segment(writer, context: context, compression: .standard)
        return try SegmentDraft(segment)
    }

    private func mutate(_ draft: inout SegmentDraft, _ random: inout SeededRandom) {
        switch random.int(in: 0..<4) {
        case 0:
            let offsets = [8, 10, 12, 32, 40, 88, 96, 104, 108, 112, 120]
            let offset = offsets.randomElement(using: &random)!
            if random.once(in: 2) {
                draft.set(UInt32(truncatingIfNeeded: random.anyUInt64()), at: offset)
            } else {
                draft.set(random.once(in: 3) ? UInt64.max : random.anyUInt64(), at: min(offset, 112))
            }
        case 1 where !draft.blocks.isEmpty:
            let block = random.int(in: 0..<draft.blocks.count)
            let offset = random.int(in: 0..<12)
            draft.blocks[block].start[offset] =
                random.once(in: 3) ? 0xFF : UInt8(truncatingIfNeeded: random.anyUInt64())
        case 2 where !draft.blocks.isEmpty:
            let block = random.int(in: 0..<draft.blocks.count)
            draft.blocks[block] = draft.blocks.randomElement(using: &random)!
            draft.blocks.append(draft.blocks[block])
        default:
            guard !draft.blocks.isEmpty else { return }
            let block = random.int(in: 0..<draft.blocks.count)
            mutate(&draft.blocks[block].stored, &random)
            if random.once(in: 2) {
                draft.blocks[block] = SegmentDraft.Block(
                    codec: draft.blocks[block].start[0], rawBytes: Int(draft.blocks[block].rawBytes),
                    stored: draft.blocks[block].stored)
            }
        }
    }

    private func mutate(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        guard !bytes.isEmpty else {
            bytes = random.bytes(3)
            return
        }
        let place = random.int(in: 0..<bytes.count)
        switch random.int(in: 0..<7) {
        case 0: bytes[place] ^= 1 << UInt8(random.int(in: 0..<8))
        case 1: bytes[place] = [0x00, 0x01, 0x7F, 0x80, 0xFF].randomElement(using: &random)!
        case 2: bytes[place] = UInt8(truncatingIfNeeded: random.next())
        case 3: bytes.removeSubrange(place..<min(place + random.int(in: 1...20), bytes.count))
        case 4: bytes.insert(contentsOf: random.bytes(random.int(in: 1...20)), at: place)
        case 5: bytes.removeLast(bytes.count - place)
        default:
            let length = min(random.int(in: 1...40), bytes.count - place)
            let from = random.int(in: 0...bytes.count - length)
            bytes.replaceSubrange(place..<place + length, with: Array(bytes[from..<from + length]))
        }
    }
}
