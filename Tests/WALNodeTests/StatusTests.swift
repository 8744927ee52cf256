import Foundation
import Testing
import WALFormat
import WALNode

@Suite struct StatusTests {
    /// The names are a contract: scripts read them.
    @Test func hasTheDocumentedNames() throws {
        let position = PositionStatus(Position(epoch: 1, seq: 2, chain: .zero))
        let status = NodeStatus(
            role: "primary", node: "a", history: nil, epoch: 1, position: position, state: "streaming",
            treeDigest: "0", log: NodeStatus.Log(firstSeq: 1, lastSeq: 2, bytes: 3),
            replicas: [NodeStatus.Replica(name: "r", address: "x", state: "disconnected")],
            upstream: NodeStatus.Upstream(address: "u", state: "connecting"), appliedSeq: 1, durableSeq: 1,
            objects: 1, contentBytes: 1, notes: [], path: "/x")
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(try ControlJSON.encode(status))) as? [String: Any])
        #expect(
            Set(object.keys) == [
                "role", "node", "history", "epoch", "position", "state", "tree_digest", "log", "replicas", "upstream",
                "applied_seq", "durable_seq", "lag_segments", "lag_seconds", "objects", "content_bytes", "progress",
                "watch", "filter", "notes", "pid", "path",
            ])
        #expect(object["filter"] as? [String] == [])
        #expect(object["history"] is NSNull)
        #expect(object["lag_seconds"] is NSNull)
        #expect(Set(try #require(object["position"] as? [String: Any]).keys) == ["epoch", "seq", "chain"])
        #expect(Set(try #require(object["log"] as? [String: Any]).keys) == ["first_seq", "last_seq", "bytes"])
        let replica = try #require((object["replicas"] as? [[String: Any]])?.first)
        #expect(
            Set(replica.keys) == [
                "name", "address", "state", "sent_seq", "received_seq", "durable_seq", "applied_seq", "lag_segments",
                "lag_bytes", "lag_seconds", "last_contact_seconds",
            ])
        // What is not known is null, never 0.
        for name in ["sent_seq", "lag_segments", "lag_bytes", "lag_seconds", "last_contact_seconds"] {
            #expect(replica[name] is NSNull)
        }
        let upstream = try #require(object["upstream"] as? [String: Any])
        #expect(Set(upstream.keys) == ["address", "state", "last_contact_seconds"])
    }

    @Test func survivesTheWire() throws {
        var request = ControlRequest(.wait)
        request.timeoutSeconds = 1.5
        request.replicas = 2
        let back = try ControlJSON.decode(ControlRequest.self, from: try ControlJSON.encode(request))
        #expect(back.verb == .wait && back.timeoutSeconds == 1.5 && back.replicas == 2)
    }
}
