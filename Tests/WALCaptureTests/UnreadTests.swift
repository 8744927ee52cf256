import Glibc
import Synchronization
import Testing
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// What cannot be read now and can be later, which no event tells of: a file that another program has a lease on,
/// fcntl(2).
@Suite(.hangLimit) struct UnreadTests {
    private let primary: PrimaryTree
    private var path: String { primary.path + "/leased" }

    init() throws {
        primary = try PrimaryTree()
    }

    private var isKnown: Bool {
        get throws { try primary.catalog.read { try $0.lookup(Place(parent: .root, name: Name("leased"))) } != nil }
    }

    private func expectRight(_ location: SourceLocation = #_sourceLocation) throws {
        #expect(try primary.check().map(\.path) == [], sourceLocation: location)
        #expect(primary.progress.problems == [:], sourceLocation: location)
    }

    /// The settle time never comes in the test: only the mark itself looks again.
    @Test func aMarkWaitsForIt() throws {
        try Files.write(path, "content")
        let lease = try Lease(path)
        try primary.start()
        #expect(try !isKnown)
        let answer = Monitor<Result<Position, any Error>?>(nil)
        primary.mailbox!.mark { result in answer.update { $0 = result } }
        #expect(answer.wait(timeoutNanoseconds: 100_000_000) { $0 } == nil)
        try lease.end()
        _ = try #require(answer.wait(timeoutNanoseconds: 30_000_000_000) { $0 }).get()
        #expect(try isKnown)
        try expectRight()
    }

    @Test func aMarkDoesNotWaitForEver() throws {
        primary.settings.maxDelayNanoseconds = 50_000_000
        primary.settings.rereadIntervalNanoseconds = 600_000_000_000
        try Files.write(path, "content")
        let lease = try Lease(path)
        try primary.start()
        try primary.mark()
        #expect(primary.progress.problems.keys.sorted() == ["leased"])
        try Files.write(primary.path + "/other", "content")
        try primary.mark()
        #expect(try !isKnown)
        #expect(primary.progress.problems.keys.sorted() == ["leased"])
        try lease.end()
    }

    @Test func itIsLookedAtAgainByItself() throws {
        primary.captureEagerly()
        primary.settings.maxDelayNanoseconds = 20_000_000
        primary.settings.rereadIntervalNanoseconds = 50_000_000
        try Files.write(path, "content")
        let lease = try Lease(path)
        try primary.start()
        #expect(eventually { !primary.progress.problems.isEmpty })
        try lease.end()
        #expect(eventually { (try? primary.check().isEmpty) ?? false })
        try expectRight()
    }

    /// Where nothing is known of it any more, a tree without it would be one in which it was deleted.
    @Test func aCatalogThatIsMadeAnewDoesNotForgetIt() throws {
        primary.settings.maxDelayNanoseconds = 50_000_000
        try Files.write(path, "content")
        try primary.start()
        try primary.mark()
        primary.stop()
        try primary.catalog.write { try $0.removeEverything() }
        let lease = try Lease(path)
        #expect(throws: CaptureError.self) { try primary.start() }
        #expect(primary.sink.segments.count == 1)
        // What else was found is not read again.
        #expect(try primary.catalog.state().objectCount > 0)
        try lease.end()
        try primary.start()
        try expectRight()
        primary.stop()

        try primary.catalog.write { try $0.removeEverything() }
        let lost = try Lease(path)
        primary.settings.acceptsDeletions = true
        try primary.start()
        try primary.mark()
        #expect(try !isKnown)
        try lost.end()
    }
}

/// Nobody else can open the file without waiting.
private struct Lease {
    /// `F_SETSIG` and `F_SETLEASE`, which Swift does not see.
    private static let setSignal: Int32 = 10
    private static let setLease: Int32 = 1024
    private let descriptor: Int32

    init(_ path: String) throws {
        // Open for reading, so that its end is no event of a write.
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        // A signal that nobody minds, in place of the one that ends a process.
        try #require(fcntl(descriptor, Self.setSignal, SIGURG) == 0)
        try #require(fcntl(descriptor, Self.setLease, F_WRLCK) == 0)
    }

    func end() throws {
        try #require(close(descriptor) == 0)
    }
}
