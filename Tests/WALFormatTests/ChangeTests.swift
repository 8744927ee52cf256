import Testing
import WALFormat

@Suite struct ChangeTests {
    @Test func tagsAreThoseOfTheFormat() {
        #expect(
            (0...255).compactMap { EntryTag(rawValue: $0) }
                == [.put, .metadata, .bind, .unbind, .drop, .filter, .request])
        #expect(
            [EntryTag.put, .metadata, .bind, .unbind, .drop, .filter, .request].map(\.rawValue)
                == [1, 2, 3, 4, 5, 6, 7])
        #expect((0...255).compactMap { ExtentTag(rawValue: $0) } == [.end, .data, .hole, .copy, .fetch, .copyFirst])
        #expect([ExtentTag.end, .data, .hole, .copy, .fetch, .copyFirst].map(\.rawValue) == [0, 1, 2, 3, 4, 5])
    }

    @Test func bodyHasItsKind() {
        #expect(Body.directory.kind == .directory)
        #expect(Body.symlink(target: [1]).kind == .symlink)
        #expect(Body.file(FileContent(size: 0, digest: .zero, sources: [], extents: [])).kind == .file)
    }
}
