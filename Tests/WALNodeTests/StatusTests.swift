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
                "applied_seq", "durable_seq", "lag_segments", "lag_seconds", "stale_seconds", "objects",
                "content_bytes", "progress",
                "watch", "traffic", "filter", "notes", "pid", "path",
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
                "lag_bytes", "lag_seconds", "last_contact_seconds", "traffic",
            ])
        // What is not known is null, never 0.
        for name in ["sent_seq", "lag_segments", "lag_bytes", "lag_seconds", "last_contact_seconds", "traffic"] {
            #expect(replica[name] is NSNull)
        }
        let upstream = try #require(object["upstream"] as? [String: Any])
        #expect(Set(upstream.keys) == ["address", "state", "last_contact_seconds"])
    }

    @Test func trafficHasTheDocumentedNames() throws {
        let traffic = NodeStatus.Traffic(sumOf: [NodeStatus.Traffic(sentBytes: 0, receivedBytes: 0, rawBytes: 0)])
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(try ControlJSON.encode(traffic))) as? [String: Any])
        #expect(
            Set(object.keys) == [
                "sent_bytes", "received_bytes", "raw_bytes", "ratio", "written_bytes", "copied_bytes", "logged_bytes",
            ])
        #expect(object["sent_bytes"] as? Int == 0)
        for name in ["ratio", "written_bytes", "copied_bytes", "logged_bytes"] { #expect(object[name] is NSNull) }
    }

    @Test func trafficOfSeveralReplicasIsAddedUp() {
        var one = NodeStatus.Traffic(sentBytes: 10, receivedBytes: 1, rawBytes: 30)
        one.writtenBytes = 5
        // What a peer tells may be any number.
        one.loggedBytes = .max - 1
        var other = NodeStatus.Traffic(sentBytes: 5, receivedBytes: 2, rawBytes: 15)
        other.loggedBytes = 2
        let sum = NodeStatus.Traffic(sumOf: [one, other])
        #expect(sum.sentBytes == 15 && sum.receivedBytes == 3 && sum.rawBytes == 45 && sum.ratio == 3)
        #expect(sum.writtenBytes == 5 && sum.copiedBytes == nil && sum.loggedBytes == .max)
        #expect(NodeStatus.Traffic(sumOf: []).sentBytes == 0)
    }

    /// A connection that is lost takes nothing of what went over it along, and one that is not over yet counts, too.
    @Test func trafficOutlivesItsConnections() {
        var sum = TrafficSum()
        let first = Traffic()
        first.sent(1)
        sum.begin(first)
        first.sent(2)
        let second = Traffic()
        sum.begin(second)
        second.received(10)
        second.sentRaw(7)
        first.sent(4)
        #expect(sum.count == TrafficCount(sent: 7, received: 10, raw: 7))
        sum.end(first)
        sum.end(first)
        first.sent(100)
        second.sent(1)
        #expect(sum.count == TrafficCount(sent: 8, received: 10, raw: 7))
    }

    @Test func survivesTheWire() throws {
        var request = ControlRequest(.wait)
        request.timeoutSeconds = 1.5
        request.replicas = 2
        let back = try ControlJSON.decode(ControlRequest.self, from: try ControlJSON.encode(request))
        #expect(back.verb == .wait && back.timeoutSeconds == 1.5 && back.replicas == 2)
    }
}
