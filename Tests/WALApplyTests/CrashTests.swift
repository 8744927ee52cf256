import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTestKit
import WALTreeKit

/// The applier is stopped before any of its steps, as by a crash of the process: all that was written stays, nothing
/// more follows. (What a power cut takes back is for tests with a file system of their own.)
@Suite(.hangLimit) struct CrashTests {
    struct Crash: Error {}

    /// A tree before and after, and the segments that lead from nothing to the one and from there to the other.
    private struct Story {
        let primary: PrimaryTree
        let before: TreeSnapshot
        let after: TreeSnapshot
        let first: [Segment]
        let second: [Segment]

        init(seed: UInt64) throws {
            primary = try PrimaryTree()
            primary.captureEagerly()
            try primary.start()
            var tree = RandomTree(
                primary.path, outside: primary.outside, random: SeededRandom(seed: seed), makesLinks: true)
            for _ in 0..<150 { tree.step() }
            // A rescan sees writes through links that are gone.
            primary.mailbox!.rescan()
            try primary.mark()
            before = try TreeSnapshot(primary.path)
            first = Array(primary.sink.segments.dropFirst())
            for _ in 0..<50 { tree.step() }
            primary.mailbox!.rescan()
            try primary.mark()
            after = try TreeSnapshot(primary.path)
            second = Array(primary.sink.segments.dropFirst(1 + first.count))
            primary.stop()
        }

        func replica() throws -> ReplicaTree {
            let replica = try ReplicaTree(of: primary)
            try replica.apply(first)
            return replica
        }

        /// Paths that show neither the one version nor the other.
        func mixed(_ now: TreeSnapshot) -> [String] {
            var wrong: [String] = []
            for (path, old) in before.entries {
                guard let new = after.entries[path], isFixed(path) else { continue }
                guard old.mode & 0o170000 == new.mode & 0o170000 else { continue }
                // What is patched in place is moved first, so that its old content is seen at the new name, too.
                let isPatched = new.size >= 4 << 20 && wasThere(path)
                guard let entry = now.entries[path] else {
                    if old.mode & 0o170000 != 0o040000 || isFixed(path + "/") { wrong.append("\(path) is not there") }
                    continue
                }
                if !isPatched, entry.content != old.content, entry.content != new.content {
                    wrong.append("\(path) is \(entry), was \(old), becomes \(new)")
                }
            }
            return wrong
        }

        /// What `path` is in the end was somewhere before, perhaps under another name.
        private func wasThere(_ path: String) -> Bool {
            guard let inode = after.inodes[path] else { return false }
            return before.inodes.values.contains(inode)
        }

        /// All directories above are the same before and after; for a path that ends with a slash, it is itself too.
        private func isFixed(_ path: String) -> Bool {
            var path = path[...]
            while let slash = path.lastIndex(of: "/") {
                path = path[..<slash]
                if before.inodes[String(path)] != after.inodes[String(path)] { return false }
            }
            return true
        }
    }

    private func crash(_ replica: ReplicaTree, before step: Int, _ body: () throws -> Void) throws -> Bool {
        var left = step
        replica.applier.fault = {
            left -= 1
            if left <= 0 { throw Crash() }
        }
        defer { replica.applier.fault = nil }
        do {
            try body()
            return false
        } catch is Crash {
            return true
        }
    }

    @Test(arguments: 0..<3) func recoverFinishesWhateverWasBegun(round: Int) throws {
        var random = SeededRandom()
        random.announce()
        random = SeededRandom(seed: random.seed &+ UInt64(round))
        let story = try Story(seed: random.next())
        var steps = 0
        let whole = try story.replica()
        whole.applier.fault = { steps += 1 }
        try whole.apply(story.second)
        whole.applier.fault = nil
        #expect(try story.after.differences(from: TreeSnapshot(whole.path)).isEmpty, "\(random.reproduce)")
        #expect(steps > 20, "the story is too short to be worth a crash")

        var points = Array(1...steps)
        points.shuffle(using: &random)
        var crashes = 0
        for step in points.prefix(20) {
            let context = "crash before step \(step) of \(steps); \(random.reproduce)"
            let replica = try story.replica()
            // Names are published in no order, so the number of steps differs a little from one time to the next.
            guard try crash(replica, before: step, { try replica.apply(story.second) }) else { continue }
            crashes += 1
            var wrong = try story.mixed(TreeSnapshot(replica.path))
            #expect(wrong.isEmpty, "\(wrong): \(context)")
            // Half of the time it crashes again while it recovers.
            try replica.restart()
            if random.once(in: 2) {
                _ = try crash(replica, before: random.int(in: 1...steps)) { try replica.applier.recover() }
                wrong = try story.mixed(TreeSnapshot(replica.path))
                #expect(wrong.isEmpty, "\(wrong): \(context), and again")
                try replica.restart()
            }
            try replica.applier.recover()
            let seq = try replica.appliedSeq
            #expect(seq == story.first.last!.header.seq || seq == story.second.last!.header.seq, "\(context)")
            try replica.apply(story.second.filter { $0.header.seq > seq })
            #expect(try story.after.differences(from: TreeSnapshot(replica.path)) == [], "\(context)")
            #expect(try replica.digestIsRight(), "\(context)")
            #expect(replica.quarantine.takeDrift().isEmpty, "\(context)")
            try replica.applier.finish()
            #expect(try Files.list(replica.stagingPath) == [], "\(context)")
        }
        #expect(crashes > 15)
    }

    /// A block is larger than most changes in it; of a patch only the pages that differ are written.
    @Test func aPatchIsAsLargeAsTheChange() throws {
        var random = SeededRandom()
        random.announce()
        let primary = try PrimaryTree()
        try primary.start()
        try Files.write(primary.path + "/large", random.bytes(6 << 20))
        try primary.mark()
        let replica = try ReplicaTree(of: primary)
        try replica.follow(primary, blocks: PrimaryBlocks(primary))
        try Files.patch(primary.path + "/large", at: 1_000_000, random.bytes(5_000))
        try Files.patch(primary.path + "/large", at: 6 << 20, random.bytes(100))
        try primary.mark()
        let bytes = try Files.read(stagedPatch(replica, of: primary)).count
        #expect(bytes > 5_100 && bytes < 20_000, "\(random.reproduce)")
        try replica.restart()
        try replica.applier.recover()
        try replica.follow(primary, blocks: PrimaryBlocks(primary))
        #expect(try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path)) == [])
    }

    /// Ends the replica between the commit and the patch, and returns the path of that.
    private func stagedPatch(_ replica: ReplicaTree, of primary: PrimaryTree) throws -> String {
        for step in 1...10 {
            _ = try crash(replica, before: step) { try replica.follow(primary, blocks: PrimaryBlocks(primary)) }
            if let name = try Files.list(replica.stagingPath).first { return replica.stagingPath + "/" + name }
        }
        throw NoPatch()
    }

    private struct NoPatch: Error {}

    enum Damage: CaseIterable {
        case oneBit, shorter, empty, zeros
    }

    /// The log has the content of a damaged patch, but the catalog is past that: the file is fetched.
    @Test(arguments: Damage.allCases) func aDamagedPatchIsNotApplied(damage: Damage) throws {
        var random = SeededRandom()
        random.announce()
        let primary = try PrimaryTree()
        try primary.start()
        let original = random.bytes(6 << 20)
        try Files.write(primary.path + "/large", original)
        try primary.mark()
        let replica = try ReplicaTree(of: primary)
        try replica.follow(primary, blocks: PrimaryBlocks(primary))
        try Files.patch(primary.path + "/large", at: 1_000_000, random.bytes(5_000))
        try primary.mark()
        let patch = try stagedPatch(replica, of: primary)
        var bytes = try Files.read(patch)
        switch damage {
        case .oneBit: bytes[random.int(in: 0..<bytes.count)] ^= 1 << UInt8(random.int(in: 0...7))
        case .shorter: bytes.removeLast(random.int(in: 1..<bytes.count))
        case .empty: bytes = []
        case .zeros: bytes = [UInt8](repeating: 0, count: bytes.count)
        }
        try Files.write(patch, bytes)
        try replica.restart()
        try replica.applier.recover()
        #expect(try replica.catalog.read { try $0.pendingObjects().count } == 1, "\(random.reproduce)")
        try replica.applier.fetchMissing(from: PrimaryBlocks(primary))
        let differences = try TreeSnapshot(primary.path).differences(from: TreeSnapshot(replica.path))
        #expect(differences == [], "\(random.reproduce)")
        #expect(try replica.digestIsRight())
    }

    /// The same applier goes on after an error of its own, without a restart.
    @Test func nextBatchFinishesTheOneBefore() throws {
        let random = SeededRandom()
        random.announce()
        let story = try Story(seed: random.seed)
        let half = story.second.count / 2
        for step in [5, 15, 40] {
            let replica = try story.replica()
            _ = try crash(replica, before: step) { try replica.apply(Array(story.second[..<half])) }
            let seq = try replica.appliedSeq
            try replica.apply(story.second.filter { $0.header.seq > seq })
            #expect(try story.after.differences(from: TreeSnapshot(replica.path)) == [], "\(random.reproduce)")
        }
    }
}
