import Testing
import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTreeKit

/// Changes that a primary makes in its own tree for a client: all or nothing, and what was logged is never nothing.
@Suite struct OwnChangeTests {
    private struct Crash: Error {}

    /// A primary's tree without a capture: what a log and a start do is done by hand.
    private final class OwnTree {
        let tree: ReplicaTree
        let uploads: Directory
        private(set) var log: [Segment] = []

        init() throws {
            tree = try ReplicaTree()
            try Files.makeDirectory(tree.quarantinePath + "-uploads")
            uploads = try Directory.open(path: tree.quarantinePath + "-uploads")
            let status = try Directory.open(path: tree.path).status()
            try tree.catalog.write { catalog in
                try catalog.insert(
                    ObjectRow(
                        id: .root, kind: .directory, metadata: status.metadata, identity: status.identity))
                catalog.state.isComplete = true
            }
            tree.applier.isPrimary = true
        }

        func put(_ name: String, _ content: [UInt8], maxInlineBytes: Int) throws {
            let upload = temporaryName()
            let file = try uploads.createFile(upload)
            try file.write(content, at: 0)
            try file.close()
            let write = TreeWrite(
                path: [Name(trusted: Array(name.utf8))], operation: .put(TreeWrite.Put(), upload: upload),
                request: RequestID(Digest(of: content)))
            let root = try Directory.open(path: tree.path)
            _ = try tree.applier.make(blocks: NoBlocks()) { catalog in
                var builder = try WriteBuilder(catalog, root: root, uploads: uploads, maxInlineBytes: maxInlineBytes)
                let changes = try builder.build(write)
                try tree.applier.take(upload, from: uploads, as: builder.made!)
                return changes
            } log: { changes, state in
                let context = SegmentContext(
                    history: HistoryID(Digest(high: 1, low: 1)), epoch: 1, previous: log.last?.position ?? .start,
                    captureTime: 0, treeDigest: state.treeDigest, lastObject: state.lastObject, flags: .client)
                log.append(Segment(changes, context: context, compression: .none))
                return log.last!.position
            }
        }

        func restart() throws {
            try tree.restart()
            tree.applier.isPrimary = true
            try tree.applier.recoverOwn()
            let seq = try tree.catalog.state().position.seq
            for segment in log where segment.header.seq > seq { try tree.applier.redo(try ChangeSet(segment)) }
            try tree.applier.forgetUnmade()
        }
    }

    /// Inline and past the log.
    @Test(arguments: [1 << 20, 0]) func aCrashBeforeAnyStepLeavesAllOrNothing(maxInlineBytes: Int) throws {
        let old = [UInt8](repeating: 1, count: 300_000)
        let new = [UInt8](repeating: 2, count: 400_000)
        var logged = 0
        var unlogged = 0
        var step = 0
        var isWhole = false
        while !isWhole {
            let own = try OwnTree()
            try own.put("file", old, maxInlineBytes: maxInlineBytes)
            var calls = 0
            own.tree.applier.fault = {
                calls += 1
                if calls > step { throw Crash() }
            }
            do {
                try own.put("file", new, maxInlineBytes: maxInlineBytes)
                isWhole = true
            } catch {}
            try own.restart()
            let isLogged = own.log.count == 2
            if isLogged { logged += 1 } else { unlogged += 1 }
            #expect(try Files.read(own.tree.path + "/file") == (isLogged ? new : old), "step \(step)")
            let (state, digest) = try own.tree.catalog.read { ($0.state, try $0.recomputedDigest()) }
            #expect(state.position == own.log.last?.position && state.treeDigest == digest, "step \(step)")
            #expect(state.treeDigest == own.log.last?.header.treeDigest, "step \(step)")
            #expect(try own.tree.catalog.read { try $0.journal() }.isEmpty, "step \(step)")
            #expect(try Directory.open(path: own.tree.stagingPath).entries().isEmpty, "step \(step)")
            #expect(try Directory.open(path: own.tree.quarantinePath).entries().isEmpty, "step \(step)")
            let id = RequestID(Digest(of: new))
            #expect(try own.tree.catalog.read { try $0.position(of: id) } == (isLogged ? state.position : nil))
            step += 1
        }
        // Steps of both kinds, or this has shown little.
        #expect(logged > 2 && unlogged > 1, "\(logged) logged, \(unlogged) not")
    }

    /// An application's write after the change is not taken back by what is left of the change.
    @Test func whatComesLaterStays() throws {
        let own = try OwnTree()
        try own.put("file", [1, 2, 3], maxInlineBytes: 100)
        try Files.write(own.tree.path + "/file", [9])
        try own.restart()
        #expect(try Files.read(own.tree.path + "/file") == [9])
        #expect(try Directory.open(path: own.tree.quarantinePath).entries().isEmpty)
    }
}
