import Foundation
import Glibc
import Testing
import WALTestKit

/// A peer that sends what it should not, or nothing: the daemon goes on, and its memory stays what it was.
@Suite struct HostilePeerTests {
    enum Target: CaseIterable {
        case primary, listeningReplica
    }

    /// More than a daemon of a small tree ever needs, and less than any of these peers asks for.
    private static let memoryLimit: UInt64 = 200 << 20

    @Test(arguments: Target.allCases) func garbageAndHugeLengths(target: Target) throws {
        try withTarget(target) { world, node, port in
            var random = SeededRandom()
            random.announce("garbageAndHugeLengths(\(target))")
            for round in 0..<60 {
                let peer = try world.peer(port)
                switch round % 4 {
                case 0: peer.send(random.bytes(random.int(in: 1...100_000)))
                // A first frame that is none, or longer than any.
                case 1: peer.send(RawFrame.header(length: .max, type: 1) + random.bytes(100_000))
                case 2: peer.send(RawFrame.header(length: 16 << 20, type: 13) + random.bytes(100_000))
                default:
                    peer.send(
                        RawFrame.header(length: UInt32(random.int(in: 0..<1000)), type: UInt8(random.int(in: 0..<20))))
                }
                if round % 4 != 3 { try until("end of a connection") { peer.isClosed } }
            }
            try expectWell(world, node, port)
        }
    }

    @Test(arguments: Target.allCases) func peersThatSayNothingOrHalf(target: Target) throws {
        try withTarget(target) { world, node, port in
            var peers: [RawPeer] = []
            for _ in 0..<100 { peers.append(try world.peer(port)) }
            // The longest hello that there may be, but for its last byte.
            for _ in 0..<100 {
                let peer = try world.peer(port)
                peer.send(RawFrame.header(length: 64 << 10, type: 1) + [UInt8](repeating: 0, count: (64 << 10) - 1))
                peers.append(peer)
            }
            try expectWell(world, node, port)
            // The handshake has a deadline.
            try until("end of the silent connections", seconds: 40) { peers.allSatisfy(\.isClosed) }
        }
    }

    @Test(arguments: Target.allCases) func nonsenseBehindAGoodHandshake(target: Target) throws {
        try withTarget(target) { world, node, port in
            var random = SeededRandom()
            random.announce("nonsenseBehindAGoodHandshake(\(target))")
            for round in 0..<60 {
                let peer = try world.peer(port)
                // A primary, a replica, a client.
                let role = UInt8(random.int(in: 1...3))
                peer.send(hello(role: role, name: "peer-\(round)", history: random.bytes(16)))
                for _ in 0..<20 {
                    let payload = random.bytes(random.int(in: 0..<300))
                    let type = UInt8(random.int(in: 1...14))
                    guard peer.send(RawFrame.make(type, payload)) else { break }
                }
                peer.close()
            }
            for request in [
                "", "{", "[]", #"{"verb":"explode"}"#, #"{"verb":"wait","position":"x"}"#,
                #"{"verb":"wait","position":"1:1","timeout_seconds":1e300,"replicas":1000000}"#,
                #"{"verb":"wait","position":"1:18446744073709551615","timeout_seconds":-1e300,"replicas":-1}"#,
                #"{"verb":"segment","seq":18446744073709551615}"#, #"{"verb":"segment","seq":0}"#, #"{"verb":"mark"}"#,
                #"{"verb":"verify","deep":true,"repair":true}"#, #"{"verb":"status"}"#, #"{"verb":"position"}"#,
            ] {
                let peer = try world.peer(port)
                peer.send(hello(role: 3, name: "", history: [UInt8](repeating: 0, count: 16)))
                peer.send(RawFrame.make(13, Array(request.utf8)))
                try expectWell(world, node, port)
                peer.close()
            }
        }
    }

    /// It asks for everything and takes none of it.
    @Test func aReplicaThatNeverReadsCostsNoMemory() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            for index in 0..<10 { try writeFile("\(source)/file-\(index)", random.bytes(20 << 20)) }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            try primary.waitForState("streaming")
            let zero = [UInt8](repeating: 0, count: 16)
            let before = primary.child.peakResidentBytes
            for index in 0..<3 {
                let peer = try world.peer(port)
                peer.send(hello(role: 2, flags: 1, name: "deaf-\(index)", history: zero))
            }
            try until("three replicas") { try primary.status()?.replicas.count == 3 }
            let replica = try world.replica("replica", from: port)
            try world.expectEqual(primary, port: port, [replica])
            // Each has a window of 16 MiB of the content, of which there are 200.
            let grown = primary.child.peakResidentBytes - before
            #expect(grown < 4 * 40 << 20, "\(grown) bytes more")
        }
    }

    /// Replicas on lines that carry nothing hold up neither capture, nor clients, nor each other, nor the end.
    @Test func deafReplicasHoldUpNobody() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            for index in 0..<3 { try writeFile("\(source)/large-\(index)", random.bytes(12 << 20)) }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            try primary.waitForState("streaming")
            let zero = [UInt8](repeating: 0, count: 16)
            for index in 0..<24 {
                let peer = try world.peer(port)
                peer.send(hello(role: 2, flags: 1, name: "deaf-\(index)", history: zero))
            }
            try until("24 replicas") { try primary.status()?.replicas.count == 24 }
            // While they wait, the tree changes; nothing of that piles up beside the log.
            for index in 0..<3_000 { try writeFile("\(source)/small-\(index % 100)", random.bytes(100)) }
            try world.must("walctl", "mark", source, "--timeout", "10s")
            let replica = try world.replica("replica", from: port)
            try world.expectEqual(primary, port: port, [replica])
            let walBytes = try FileManager.default.attributesOfItem(atPath: source + "/.wal/catalog.sqlite-wal")[.size]
            #expect((walBytes as? Int ?? 0) < 24 << 20)
            try replica.stop()
            try primary.stop()
            #expect(try FileManager.default.contentsOfDirectory(atPath: source + "/.wal/staging").isEmpty)
        }
    }

    /// It asks for more than it may, while what it asked for has nowhere to go.
    @Test func aFloodOfWantsEndsOneConnectionOnly() throws {
        try withWorld { world in
            var random = SeededRandom()
            let source = try world.folder("source")
            for index in 0..<3 { try writeFile("\(source)/large-\(index)", random.bytes(12 << 20)) }
            let port = try freePort()
            let primary = try world.primary(source, port: port)
            try primary.waitForState("streaming")
            let peer = try world.peer(port)
            peer.send(hello(role: 2, flags: 1, name: "flood", history: [UInt8](repeating: 0, count: 16)))
            try until("the replica") { try primary.status()?.replicas.count == 1 }
            // One block of object 2, as walship-protocol(7) has it.
            let want = [1, 2, 0, 100] + random.bytes(16)
            for _ in 0..<20_000 {
                guard peer.send(RawFrame.make(11, want)) else { break }
            }
            try until("end of the connection") { peer.isClosed }
            let empty = try world.peer(port)
            empty.send(hello(role: 2, flags: 1, name: "empty", history: [UInt8](repeating: 0, count: 16)))
            empty.send(RawFrame.make(11, [0]))
            try until("end of the other connection") { empty.isClosed }
            try world.must("walctl", "mark", source, "--timeout", "10s")
            let replica = try world.replica("replica", from: port)
            try world.expectEqual(primary, port: port, [replica])
            for node in [replica, primary] { try node.stop() }
        }
    }

    /// A replica dials what is no primary.
    @Test func aReplicaThatDialsNonsenseGoesOnTrying() throws {
        try withWorld { world in
            let listener = try Socket.listening(port: 0)
            let replica = try world.replica("replica", from: listener.port)
            var random = SeededRandom()
            let zero = [UInt8](repeating: 0, count: 16)
            for bytes in [
                Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), random.bytes(100_000),
                RawFrame.header(length: .max, type: 2),
                hello(role: 1, name: "primary", history: zero), hello(role: 2, name: "replica", history: zero),
                hello(role: 1, name: "primary", history: random.bytes(16)) + RawFrame.header(length: 4096, type: 2),
            ] {
                let descriptor = accept(listener.descriptor, nil, nil)
                #expect(descriptor >= 0)
                _ = Socket.sendAll(descriptor, bytes[...])
                shutdown(descriptor, Int32(SHUT_WR))
                close(descriptor)
            }
            #expect(replica.child.peakResidentBytes < Self.memoryLimit)
            // At last the right one answers there.
            shutdown(listener.descriptor, Int32(SHUT_RDWR))
            close(listener.descriptor)
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let primary = try world.primary(source, port: listener.port)
            try world.expectEqual(primary, port: listener.port, [replica])
        }
    }

    /// Entries that are none, or that no listing has: the connection ends, and the replica takes the tree of the next one.
    @Test(arguments: [true, false]) func aSyncThatIsNone(adopts: Bool) throws {
        try withWorld { world in
            let listener = try Socket.listening(port: 0)
            let port = try freePort()
            let folder = try world.folder("replica")
            if adopts { try writeFile(folder + "/own", "own") }
            let replica = try Node(
                world, "walrecv", folder,
                ["--from", "127.0.0.1:\(listener.port)", "--from", "127.0.0.1:\(port)", "--name", "replica"]
                    + (adopts ? ["--adopt"] : []))
            let history = [UInt8](1...16)
            let position = RawFrame.little(UInt64(1)) + RawFrame.little(UInt64(5)) + [UInt8](repeating: 7, count: 16)
            let begin =
                position + [UInt8](repeating: 9, count: 16)
                + [UInt64(50), 3, 10].flatMap { RawFrame.little($0) }
            // Of no kind; a name that goes; an object that goes; the root that goes; a name of nothing in nothing.
            for entry in [[0x7F, 2], [4, 1, 1, 0x61], [5, 2], [5, 1], [3, 0x63, 1, 0x61, 0x64]] as [[UInt8]] {
                let descriptor = accept(listener.descriptor, nil, nil)
                #expect(descriptor >= 0)
                var bytes = hello(role: 1, name: "primary", history: history)
                bytes += RawFrame.make(2, [adopts ? 2 : 3] + history + [UInt8](repeating: 0, count: 16), epoch: 1)
                bytes += RawFrame.make(7, begin, epoch: 1)
                let entries = RawFrame.little(UInt32(1)) + [0] + RawFrame.little(UInt32(entry.count)) + entry
                bytes += RawFrame.make(8, entries, epoch: 1) + RawFrame.make(9, [], epoch: 1)
                _ = Socket.sendAll(descriptor, bytes[...])
                var buffer = [UInt8](repeating: 0, count: 4096)
                while read(descriptor, &buffer, buffer.count) > 0 {}
                close(descriptor)
                #expect(replica.child.isRunning, "\(entry): \(replica.child.errors)")
            }
            shutdown(listener.descriptor, Int32(SHUT_RDWR))
            close(listener.descriptor)
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            let primary = try world.primary(source, port: port)
            try world.expectEqual(primary, port: port, [replica])
        }
    }

    // MARK: Helpers

    private func hello(role: UInt8, flags: UInt8 = 0, name: String, history: [UInt8]) -> [UInt8] {
        var payload = RawFrame.little(UInt16(1)) + [role, flags, UInt8(name.utf8.count)] + Array(name.utf8) + history
        payload += RawFrame.little(UInt64(role == 1 ? 1 : 0))
        // Position, held bytes, and no address.
        payload += [UInt8](repeating: 0, count: 8 + 8 + 16 + 8 + 1)
        // A primary's frames are of its epoch.
        return RawFrame.make(1, payload, epoch: role == 1 ? 1 : 0)
    }

    private func withTarget(_ target: Target, _ body: (World, Node, _ port: Int) throws -> Void) throws {
        try withWorld { world in
            let port = try freePort()
            let source = try world.folder("source")
            try writeFile(source + "/file", "content")
            switch target {
            case .primary:
                let primary = try world.primary(source, port: port)
                let replica = try world.replica("replica", from: port)
                try world.catchUp(primary, [replica])
                try body(world, primary, port)
                // It still does what it is there for.
                try writeFile(source + "/later", "later")
                try world.expectEqual(primary, port: port, [replica])
            case .listeningReplica:
                let replica = try Node(
                    world, "walrecv", try world.folder("replica"),
                    ["--listen", "127.0.0.1:\(port)", "--name", "replica"])
                let primary = try Node(world, "walship", source, ["--to", "127.0.0.1:\(port)"])
                try world.catchUp(primary, [replica])
                try body(world, replica, port)
                try writeFile(source + "/later", "later")
                try world.catchUp(primary, [replica])
                #expect(try world.difference(source, replica.folder) == "")
            }
        }
    }

    /// It answers over the network, and has not grown.
    private func expectWell(_ world: World, _ node: Node, _ port: Int) throws {
        try world.must("walctl", "status", "127.0.0.1:\(port)")
        #expect(node.child.isRunning)
        #expect(node.child.peakResidentBytes < Self.memoryLimit, "\(node.child.peakResidentBytes) bytes")
    }
}
