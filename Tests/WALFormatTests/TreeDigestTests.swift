import Testing
import WALFormat
import WALTestKit

@Suite struct TreeDigestTests {
    private let metadata = Metadata(
        mode: 0o4755, uid: 0x0102_0304, gid: 0x0506_0708, mtime: Timestamp(seconds: -2, nanoseconds: 999_999_999))

    @Test func nameIsTagParentObjectBytes() {
        let part = TreeDigest.part(ofName: "file", in: 0x0102, to: 0x0304)
        var writer = ByteWriter()
        writer.raw([0x6E])
        writer.integer(UInt64(0x0102))
        writer.integer(UInt64(0x0304))
        writer.raw("file".utf8)
        #expect(part == Digest(of: writer.bytes))
    }

    @Test func longestNameIsCoveredToItsEnd() {
        var name = [UInt8](repeating: 0x61, count: Limits.maxNameBytes)
        let one = name.withUnsafeBytes { TreeDigest.part(ofName: $0, in: 1, to: 2) }
        name[name.count - 1] = 0x62
        let other = name.withUnsafeBytes { TreeDigest.part(ofName: $0, in: 1, to: 2) }
        #expect(one != other)
    }

    @Test func objectIsFiftySixBytes() {
        let content = Digest(high: 0x1122, low: 0x3344)
        let part = TreeDigest.part(ofObject: 9, kind: .file, metadata: metadata, size: 1 << 40, content: content)
        var writer = ByteWriter()
        writer.integer(UInt64(9))
        writer.integer(UInt64(1 << 40))
        writer.integer(Int64(-2))
        writer.integer(UInt32(999_999_999))
        writer.integer(UInt32(0x0102_0304))
        writer.integer(UInt32(0x0506_0708))
        writer.integer(UInt16(0o4755))
        writer.integer(UInt16(1))
        writer.digest(content)
        #expect(writer.count == 56)
        #expect(part == Digest(of: writer.bytes))
    }

    @Test func everyFieldCounts() {
        let content = Digest(of: [1])
        var parts: Set<Digest> = []
        func add(_ object: ObjectID, _ kind: Kind, _ size: UInt64, _ content: Digest, _ metadata: Metadata) {
            parts.insert(
                TreeDigest.part(ofObject: object, kind: kind, metadata: metadata, size: size, content: content))
        }
        add(9, .file, 5, content, metadata)
        add(10, .file, 5, content, metadata)
        add(9, .symlink, 5, content, metadata)
        add(9, .file, 6, content, metadata)
        add(9, .file, 5, .zero, metadata)
        for change: (inout Metadata) -> Void in [
            { $0.mode = 0o755 }, { $0.uid += 1 }, { $0.gid += 1 }, { $0.mtime.seconds += 1 },
            { $0.mtime.nanoseconds -= 1 },
        ] {
            var other = metadata
            change(&other)
            add(9, .file, 5, content, other)
        }
        parts.insert(TreeDigest.part(ofName: "a", in: 1, to: 9))
        parts.insert(TreeDigest.part(ofName: "b", in: 1, to: 9))
        parts.insert(TreeDigest.part(ofName: "a", in: 2, to: 9))
        parts.insert(TreeDigest.part(ofName: "a", in: 1, to: 8))
        #expect(parts.count == 14)
    }

    /// The header's digest is that of the tree which all entries up to there make.
    @Test func goldenSegmentsStateTheirTree() throws {
        var tree = TreeModel()
        for sample in GoodSegments.all {
            try tree.apply(sample.segment)
            // A baseline states a tree that no entries lead to.
            let follows = !sample.segment.header.flags.contains(.baseline)
            #expect((tree.digest == sample.segment.header.treeDigest) == follows, "\(sample)")
        }
        #expect(tree.objects.count == 9)
    }

    /// A filter without rules is no filter; of any other each byte counts, and it is no name and no object.
    @Test func filterIsTagAndText() throws {
        #expect(TreeDigest.part(ofFilter: .none) == .zero)
        let one = try Filter(text: Array("- a\n".utf8))
        #expect(TreeDigest.part(ofFilter: one) == Digest(of: [0x66] + Array("- a\n".utf8)))
        #expect(TreeDigest.part(ofFilter: one) != TreeDigest.part(ofFilter: try Filter(text: Array("+ a\n".utf8))))
    }

    /// A hole of more than a block's worth, copies of the file itself and a name that moves: twice is as good as once.
    @Test func applyingAgainChangesNothing() throws {
        var tree = TreeModel()
        for sample in GoodSegments.all where !sample.segment.header.flags.contains(.baseline) {
            try tree.apply(sample.segment)
            var again = tree
            try again.apply(sample.segment)
            #expect(again.digest == tree.digest, "\(sample.name)")
        }
    }
}

extension TreeDigest {
    fileprivate static func part(ofName name: StaticString, in parent: ObjectID, to object: ObjectID) -> Digest {
        Name(name).bytes.withUnsafeBytes { part(ofName: $0, in: parent, to: object) }
    }
}
