import WALFormat
import WALTestKit

/// A small tree in memory, of directories and symlinks below the root: what a primary captures from and a replica
/// applies to. Entries and digests are the real ones; that a tree on a disk comes to the same is tested elsewhere.
struct Tree: Equatable {
    private struct Object: Equatable {
        var metadata: Metadata
        var target: [UInt8]?
    }

    private var objects: [ObjectID: Object] = [:]
    private static let objectCount: ObjectID = 12
    static let lastObject = ObjectID.root + objectCount

    private static func name(_ id: ObjectID) -> Name { Name(trusted: Array("object \(id)".utf8)) }

    var digest: Digest {
        var sum = Digest.zero
        for (id, object) in objects {
            sum &+= TreeDigest.part(
                ofObject: id, kind: object.target == nil ? .directory : .symlink, metadata: object.metadata,
                size: UInt64(object.target?.count ?? 0), content: object.target.map { Digest(of: $0) } ?? .zero)
            sum &+= Self.name(id).bytes.withUnsafeBytes { TreeDigest.part(ofName: $0, in: .root, to: id) }
        }
        return sum
    }

    /// A few objects that are made or have become others; `stamp` tells each change from any other.
    mutating func change(_ random: inout SeededRandom, stamp: UInt64) throws -> ChangeWriter {
        var writer = ChangeWriter()
        for number in 0..<random.int(in: 1...3) {
            let id = ObjectID.root + 1 + ObjectID(random.int(in: 0..<Int(Self.objectCount)))
            let time = Timestamp(seconds: Int64(stamp), nanoseconds: UInt32(number))
            let metadata = Metadata(mode: 0o755, uid: 0, gid: 0, mtime: time)
            put(id, Object(metadata: metadata, target: random.once(in: 2) ? nil : someTarget(&random)), &writer)
        }
        try apply(writer.body.bytes, entryCount: writer.entryCount)
        return writer
    }

    private func someTarget(_ random: inout SeededRandom) -> [UInt8] {
        random.bytes(random.int(in: 1...(random.once(in: 8) ? 1500 : 60))).map { 0x61 + $0 % 26 }
    }

    /// All of it, as entries of a sync.
    var listing: ChangeWriter {
        var writer = ChangeWriter()
        for (id, object) in objects.sorted(by: { $0.key < $1.key }) { put(id, object, &writer) }
        return writer
    }

    private func put(_ id: ObjectID, _ object: Object, _ writer: inout ChangeWriter) {
        if let target = object.target {
            writer.symlink(id, object.metadata, target: target)
        } else {
            writer.directory(id, object.metadata)
        }
        writer.bind(parent: .root, Self.name(id), id)
    }

    mutating func apply(_ segment: Segment) throws {
        try apply(try segment.rawBody(), entryCount: segment.header.entryCount)
    }

    mutating func apply(_ body: [UInt8], entryCount: UInt32) throws {
        try body.withBytes { raw throws(FormatError) in
            var reader = ChangeReader(raw, entryCount: entryCount)
            while let change = try reader.next() {
                switch change {
                case .put(let id, let metadata, .directory): objects[id] = Object(metadata: metadata, target: nil)
                case .put(let id, let metadata, .symlink(let target)):
                    objects[id] = Object(metadata: metadata, target: target)
                default: break
                }
            }
        }
    }
}
