import Dispatch
import Glibc
import Testing
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit

/// The digest and the counts that are kept are those of the rows, after whatever was done to them.
@Suite(.hangLimit) struct CatalogTests {
    private let folder: CatalogFolder
    private let catalog: Catalog

    init() throws {
        folder = try CatalogFolder()
        catalog = try Catalog(path: folder.path + "/catalog.sqlite")
    }

    private static let metadata = Metadata(mode: 0o644, uid: 1, gid: 2, mtime: Timestamp(seconds: -1, nanoseconds: 5))

    private static func file(_ id: ObjectID, size: Int = 10, seed: UInt64 = 0) -> ObjectRow {
        var table = BlockTable()
        var left = size
        while left > 0 {
            let length = min(left, Limits.maxChunkBytes)
            table.append(ContentBlock(length: UInt32(length), digest: Digest(high: seed, low: UInt64(left))))
            left -= length
        }
        return ObjectRow(
            id: id, kind: .file, metadata: metadata, size: UInt64(size), content: table.digest, blocks: table,
            identity: FileIdentity(ino: id, birthNanos: Int64(id)), stamp: 77)
    }

    private static func directory(_ id: ObjectID) -> ObjectRow {
        ObjectRow(id: id, kind: .directory, metadata: metadata, identity: FileIdentity(ino: id, birthNanos: -1))
    }

    private func expectRight(_ transaction: CatalogTransaction, _ comment: Comment? = nil) throws {
        var objects: UInt64 = 0
        var bytes: UInt64 = 0
        try transaction.forEachObject {
            objects += 1
            if $0.kind == .file { bytes += $0.size }
        }
        #expect(try transaction.state.treeDigest == transaction.recomputedDigest(), comment)
        #expect(transaction.state.objectCount == objects, comment)
        #expect(transaction.state.contentBytes == bytes, comment)
    }

    /// What was committed on the way stays, whatever becomes of the rest.
    @Test func aCommitOnTheWayHolds() throws {
        struct Stop: Error {}
        #expect(throws: Stop.self) {
            try catalog.write { transaction in
                try transaction.insert(Self.directory(.root))
                transaction.state.position = Position(epoch: 1, seq: 5, chain: .zero)
                try transaction.commitDurably()
                #expect(catalog.durableSeq == 5)
                try transaction.insert(Self.file(7))
                transaction.state.position.seq = 6
                throw Stop()
            }
        }
        try catalog.read { transaction in
            #expect(transaction.state.position.seq == 5)
            #expect(try transaction.identity(of: .root) != nil)
            #expect(try transaction.identity(of: 7) == nil)
            try expectRight(transaction)
        }
        try catalog.write { $0.state.position.seq = 8 }
        #expect(catalog.durableSeq == 5)
        try catalog.write(durably: true) { _ in }
        #expect(catalog.durableSeq == 8)
    }

    /// As at a promotion, when requests for the role that ends still come in.
    @Test func whoReadsWhileItClosesIsRefused() throws {
        for _ in 0..<50 {
            let closing = try Catalog(path: folder.path + "/closing.sqlite")
            DispatchQueue.concurrentPerform(iterations: 5) { number in
                guard number > 0 else {
                    #expect(throws: Never.self) { try closing.close() }
                    return
                }
                do {
                    while true { _ = try closing.state() }
                } catch {
                    #expect("\(error)".hasSuffix("closing.sqlite is closed"), "\(error)")
                }
            }
        }
    }

    @Test func randomChangesKeepTheDigestRight() throws {
        var random = SeededRandom()
        random.announce()
        for round in 0..<20 {
            try catalog.write { transaction in
                for _ in 0..<100 {
                    let id = ObjectID(random.int(in: 1...30))
                    let place = Place(
                        parent: ObjectID(random.int(in: 1...5)),
                        name: Name(trusted: Array("n\(random.int(in: 0..<10))".utf8)))
                    switch random.int(in: 0..<6) {
                    case 0: try transaction.put(Self.file(id, size: random.int(in: 0...600_000), seed: random.next()))
                    case 1: try transaction.put(Self.directory(id))
                    case 2: try transaction.put(.symlink(id: id, metadata: Self.metadata, target: random.bytes(5)))
                    case 3: try transaction.drop(id)
                    case 4: try transaction.bind(place, to: id)
                    default: try transaction.unbind(place)
                    }
                }
            }
            try catalog.read { try expectRight($0, "round \(round); \(random.reproduce)") }
        }
        // Equal trees have equal digests, however they came about.
        let other = try Catalog(path: folder.path + "/other.sqlite")
        try catalog.read { old in
            try other.write { new in
                try old.forEachName { try new.bind($0, to: $1) }
                try old.forEachObject { try new.insert($0) }
            }
        }
        #expect(try other.state().treeDigest == catalog.state().treeDigest)
    }

    @Test func rowsComeBackAsTheyWerePut() throws {
        var odd = Self.file(7, size: 600_000, seed: 3)
        odd.metadata = Metadata(
            mode: 0o7777, uid: .max, gid: .max, mtime: Timestamp(seconds: .min, nanoseconds: 999_999_999))
        odd.identity = FileIdentity(ino: .max, birthNanos: .min)
        odd.stamp = .min
        let rows = [
            Self.directory(.root), odd, Self.file(8, size: 0),
            .symlink(id: 9, metadata: Self.metadata, target: [0xFF, 0x2F, 0x01]),
        ]
        try catalog.write { transaction in for row in rows { try transaction.put(row) } }
        try catalog.read { transaction throws in
            for row in rows { #expect(try transaction.object(row.id) == row) }
            #expect(try transaction.object(10) == nil)
            #expect(try transaction.find(odd.identity) == 7)
            #expect(try transaction.find(content: odd.content) == 7)
            #expect(try transaction.find(content: rows[2].content) == nil)
            #expect(try transaction.identity(of: 7) == odd.identity)
        }
        try catalog.write { try $0.setLocal(7, identity: .unknown, stamp: ObjectRow.toBeRead) }
        try catalog.read { transaction throws in
            #expect(try transaction.find(odd.identity) == nil)
            #expect(try transaction.object(7)?.stamp == ObjectRow.toBeRead)
            try expectRight(transaction)
        }
    }

    @Test func namesAndPaths() throws {
        let a = Name("a")
        let odd = Name(trusted: [0xFF, 0x0A])
        try catalog.write { transaction in
            for id in [ObjectID.root, 2, 3] { try transaction.put(Self.directory(id)) }
            try transaction.put(Self.file(4))
            try transaction.bind(Place(parent: .root, name: a), to: 2)
            try transaction.bind(Place(parent: 2, name: odd), to: 3)
            try transaction.bind(Place(parent: 3, name: a), to: 4)
            try transaction.bind(Place(parent: .root, name: odd), to: 4)
        }
        try catalog.read { transaction throws in
            #expect(try transaction.resolve([]) == .root)
            #expect(try transaction.resolve([a, odd]) == 3)
            #expect(try transaction.resolve([a, odd, a]) == 4)
            #expect(try transaction.resolve([a, a]) == nil)
            #expect(try transaction.path(of: .root) == [])
            #expect(try transaction.path(of: 3) == [a, odd])
            #expect(try transaction.path(of: 5) == nil)
            #expect(try transaction.places(of: 4) == [Place(parent: .root, name: odd), Place(parent: 3, name: a)])
            #expect(try transaction.children(of: .root).map(\.name) == [a, odd])
            #expect(try transaction.linkedObjects() == [4])
            #expect(try transaction.nameCount() == 4)
            #expect(try transaction.namelessObjects() == [])
        }
        try catalog.write { transaction in
            // Over another one, the same again, and one that is not there.
            try transaction.bind(Place(parent: .root, name: odd), to: 3)
            try transaction.bind(Place(parent: .root, name: odd), to: 3)
            try transaction.unbind(Place(parent: 2, name: a))
            try transaction.unbind(Place(parent: .root, name: a))
            #expect(try transaction.namelessObjects() == [2])
            #expect(try transaction.path(of: 2) == nil)
            try expectRight(transaction)
            try transaction.dropUnnamed(2)
            #expect(try transaction.object(2) == nil)
            #expect(try transaction.places(of: 3) == [Place(parent: .root, name: odd)])
            try expectRight(transaction)
        }
    }

    /// No path ends in a circle, and none of it traps.
    @Test func loopHasNoPath() throws {
        try catalog.write { transaction in
            for id in [ObjectID.root, 2, 3] { try transaction.put(Self.directory(id)) }
            try transaction.bind(Place(parent: 2, name: Name("x")), to: 3)
            try transaction.bind(Place(parent: 3, name: Name("y")), to: 2)
            #expect(try transaction.path(of: 2) == nil)
            let root = try Directory.open(path: folder.path)
            #expect(try TreeHandles(root: root).directory(2, transaction) == nil)
        }
    }

    @Test func whatThrowsHasNeverBeen() throws {
        struct Stop: Error {}
        try catalog.write { try $0.put(Self.directory(.root)) }
        let state = try catalog.state()
        #expect(throws: Stop.self) {
            try catalog.write { transaction in
                try transaction.put(Self.file(2))
                transaction.state.position = Position(epoch: 1, seq: 5, chain: .zero)
                throw Stop()
            }
        }
        #expect(try catalog.state() == state)
        #expect(try catalog.read { try $0.object(2) } == nil)
    }

    @Test func stateAndRowsOutliveAClose() throws {
        var state = try catalog.write(durably: true) { transaction in
            try transaction.put(Self.directory(.root))
            transaction.state.position = Position(epoch: 2, seq: 9, chain: Digest(high: 1, low: 2))
            transaction.state.lastObject = 44
            transaction.state.isComplete = true
            try transaction.setJournal([1, 2, 3])
            return transaction.state
        }
        // Nothing is missing there, so that is where it was whole last; and it stays that while something is.
        state.whole = state.position
        #expect(try catalog.state() == state)
        try catalog.write { transaction in
            transaction.state.position.seq = 10
            transaction.state.isComplete = false
        }
        state.position.seq = 10
        state.isComplete = false
        try catalog.close()
        let again = try Catalog(path: folder.path + "/catalog.sqlite")
        #expect(try again.state() == state)
        #expect(try again.read { try $0.journal() } == [1, 2, 3])
        try again.write { try $0.removeEverything() }
        #expect(try again.state() == .empty)
        #expect(try again.read { try $0.recomputedDigest() } == .zero)
    }

    /// A reader sees one moment, however much is written while it reads.
    @Test func snapshotStaysAsItWas() throws {
        try catalog.write { transaction in for id in 1...50 { try transaction.put(Self.file(ObjectID(id))) } }
        let digest = try catalog.state().treeDigest
        let begun = Monitor(false)
        let written = Monitor(false)
        let outcome = Monitor<(Digest, Digest, Int)?>(nil)
        let reader = try WorkerThread.start(name: "reader") { [catalog] in
            try? catalog.read { transaction in
                begun.update { $0 = true }
                _ = written.wait(timeoutNanoseconds: 10_000_000_000) { $0 ? true : nil }
                var count = 0
                try transaction.forEachObject { _ in count += 1 }
                let result = (transaction.state.treeDigest, try transaction.recomputedDigest(), count)
                outcome.update { $0 = result }
            }
        }
        _ = begun.wait(timeoutNanoseconds: 10_000_000_000) { $0 ? true : nil }
        for round in 0..<20 {
            try catalog.write { transaction in
                for id in 30...80 { try transaction.put(Self.file(ObjectID(id), size: round + 1)) }
                try transaction.drop(ObjectID(round + 1))
            }
        }
        written.update { $0 = true }
        reader.join()
        let (kept, computed, count) = try #require(outcome.withLock { $0 })
        #expect(kept == digest && computed == digest && count == 50)
        #expect(try catalog.state().treeDigest != digest)
    }

    @Test func missingBlocks() throws {
        let blocks = (0..<5).map {
            MissingBlock(
                object: 4, offset: UInt64($0) * 100_000,
                block: ContentBlock(length: 100_000, digest: Digest(high: 9, low: UInt64($0))))
        }
        try catalog.write { transaction in
            try transaction.put(Self.file(4))
            try transaction.setMissing(blocks.reversed(), of: 4)
            #expect(try transaction.missingBlocks(of: 4) == blocks)
            #expect(try transaction.isPending(4) && !transaction.isPending(5))
            #expect(try transaction.pendingObjects() == [4])
            try transaction.setMissing([blocks[2]], of: 4)
            #expect(try transaction.missingBlocks(of: 4) == [blocks[2]])
            try transaction.setMissing([], of: 4)
            #expect(try transaction.pendingObjects() == [])
        }
    }

    @Test func staleNames() throws {
        let place = Place(parent: 3, name: Name(trusted: [0xFF]))
        let occupant = Occupant(
            object: 8, kind: .file, identity: FileIdentity(ino: .max, birthNanos: .min),
            mtime: Timestamp(seconds: -9, nanoseconds: 1), size: .max)
        try catalog.write { transaction in
            #expect(try !transaction.hasStale())
            try transaction.setStale(occupant, at: place)
            #expect(try transaction.stale(at: place) == occupant)
            #expect(try transaction.hasStale())
            try transaction.setStale(nil, at: place)
            #expect(try transaction.stale(at: place) == nil)
            #expect(try !transaction.hasStale())
        }
    }

    @Test func damageIsNamed() throws {
        try catalog.write { try $0.put(Self.file(2)) }
        try catalog.close()
        // A page in the middle of the file, with the header left whole.
        let path = folder.path + "/catalog.sqlite"
        let descriptor = open(path, O_WRONLY)
        var noise = SeededRandom(seed: 1).bytesOfNoise(3 * 4096)
        #expect(pwrite(descriptor, &noise, noise.count, 4096) == noise.count)
        close(descriptor)
        #expect(throws: (any Error).self) {
            let again = try Catalog(path: path)
            _ = try again.read { try $0.object(2) }
            _ = try again.read { try $0.recomputedDigest() }
        }
    }
}

extension SeededRandom {
    func bytesOfNoise(_ count: Int) -> [UInt8] {
        var copy = self
        return copy.bytes(count)
    }
}
