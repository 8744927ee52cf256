import Glibc
import Testing

/// Sizes that nobody expects and everybody may make: a hole costs nothing.
@Suite struct FidelitySizeTests {
    private static let exbibyte = 1 << 60

    /// More blocks than a segment can tell, and more than there is memory for a table of.
    @Test func aHoleOfExbibytesIsLeftOut() throws {
        try withWorld { world in
            let source = try world.mountTmpfs("source", megabytes: 50)
            let mirrored = try Mirrored(world, source: source) { root in
                try Do.write(root / "giant", [1, 2, 3])
                try Do.truncate(root / "giant", 7 * Self.exbibyte)
                try Do.write(root / "small", "small")
            }
            let replica = try mirrored.replica()
            try mirrored.expectNote("giant: is larger than a segment can tell")
            try world.catchUp(mirrored.primary, [replica])
            #expect(try text(ofFile: replica.folder + "/small") == "small")
            #expect(!Do.exists(Bytes(replica.folder) / "giant"))
            // One that is known keeps its last version until it can be told again.
            try Do.truncate(mirrored.root / "small", Self.exbibyte)
            try mirrored.expectNote("small: is larger than a segment can tell")
            #expect(try text(ofFile: replica.folder + "/small") == "small")
            try mirrored.step("cut to what can be told", isVerified: true) { root in
                try Do.truncate(root / "giant", 3)
                try Do.truncate(root / "small", 5)
            }
            try mirrored.expectNoNote("larger than a segment can tell")
            for node in [mirrored.primary, replica] { #expect(node.child.peakResidentBytes < 200 << 20) }
            try mirrored.stop()
        }
    }

    /// The same where a replica has to index what it finds.
    @Test func aReplicaFolderWithAHoleOfExbibytes() throws {
        try withWorld { world in
            let mirrored = try Mirrored(world) { try Do.write($0 / "file", "file") }
            let folder = try world.mountTmpfs("replica", megabytes: 50)
            try Do.write(Bytes(folder) / "giant", [])
            try Do.truncate(Bytes(folder) / "giant", 7 * Self.exbibyte)
            let replica = try world.start(
                "walrecv",
                [
                    folder, "--from", "127.0.0.1:\(mirrored.port)", "--name", "replica", "--adopt",
                ])
            #expect(try replica.wait() != 0)
            #expect(replica.errors.contains("giant is larger than a segment can tell"), "\(replica.errors)")
            #expect(replica.peakResidentBytes < 200 << 20)
            // It is the other's file: it stays until somebody removes it.
            #expect(Do.exists(Bytes(folder) / "giant"))
        }
    }
}
