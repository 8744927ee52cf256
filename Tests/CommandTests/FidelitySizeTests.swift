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

    /// tmpfs holds larger files than ext4. The replica waits and says for what: in a first sync until the file is smaller,
    /// and later, where the log holds the version that is too large, with all of it as it was, also after a restart.
    @Test(arguments: [true, false]) func whatTheReplicasFileSystemCannotHold(_ isFirst: Bool) throws {
        try withWorld { world in
            let source = try world.mountTmpfs("source", megabytes: 50)
            let large = Bytes(source) / "large"
            let mirrored = try Mirrored(world, source: source) { root in
                try Do.write(large, [1])
                try Do.write(root / "other", "other")
                if isFirst { try Do.truncate(large, 100 << 40) }
            }
            let replica = try mirrored.replica()
            if !isFirst {
                try mirrored.expectEqual("at first")
                try Do.truncate(large, 100 << 40)
            }
            try mirrored.expectNote("File too large", of: replica)
            try replica.waitForState("stalled")
            #expect(!replica.child.errors.contains("waiting for room"), "\(replica.child.errors)")
            guard isFirst else {
                try replica.stop()
                try replica.restart()
                try mirrored.expectNote("File too large", of: replica)
                #expect(try Do.status(Bytes(replica.folder) / "large").st_size == 1)
                #expect(try world.run("walctl", "verify", "--deep", replica.folder).status == 0)
                return try mirrored.stop()
            }
            try mirrored.step("small enough", isVerified: true) { _ in try Do.truncate(large, 1 << 40) }
            try mirrored.expectNoNote("File too large", of: replica)
            try mirrored.stop()
        }
    }

    /// A hole of exbibytes where a replica has to index what it finds.
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
