import WALCatalog
import WALFormat
import WALSystem

/// What a batch publishes, written with the catalog's commit and before the first rename. Publishing again from it after
/// a crash finishes what was begun: every step first looks at what is there, by inode.
package struct Journal {
    var touched: [Fold.Touched] = []
    /// Files patched in place, with the name of the patch in `staging/`.
    var patches: [(object: ObjectID, patch: Name)] = []
    var metadata: [ObjectID] = []
    var restamped: [ObjectID] = []
    /// Directories that are gone from the catalog: what is to leave them is found through their inodes.
    var dropped: [(object: ObjectID, identity: FileIdentity)] = []

    var isEmpty: Bool { touched.isEmpty && patches.isEmpty && metadata.isEmpty && restamped.isEmpty }

    private static let version: UInt8 = 1

    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(Self.version)
        writer.varint(touched.count)
        for entry in touched {
            writer.varint(entry.place.parent)
            writer.counted(entry.place.name.bytes)
            guard let before = entry.before else {
                writer.integer(UInt8(0))
                continue
            }
            writer.integer(before.kind.rawValue)
            writer.varint(before.object)
            writer.integer(before.identity.ino)
            writer.integer(before.identity.birthNanos)
            writer.integer(before.mtime.seconds)
            writer.integer(before.mtime.nanoseconds)
            writer.varint(before.size)
        }
        writer.varint(patches.count)
        for (object, patch) in patches {
            writer.varint(object)
            writer.counted(patch.bytes)
        }
        for list in [metadata, restamped] {
            writer.varint(list.count)
            for object in list { writer.varint(object) }
        }
        writer.varint(dropped.count)
        for (object, identity) in dropped {
            writer.varint(object)
            writer.integer(identity.ino)
            writer.integer(identity.birthNanos)
        }
        return writer.bytes
    }

    init() {}

    package init(decoding bytes: [UInt8]) throws(FormatError) {
        guard !bytes.isEmpty else { return }
        self = try bytes.withBytes { all throws(FormatError) in try Journal(reading: all) }
    }

    private init(reading all: UnsafeRawBufferPointer) throws(FormatError) {
        var reader = ByteReader(all, what: "publish journal")
        let version = try reader.integer(UInt8.self)
        guard version == Self.version else {
            throw .version(what: "publish journal", found: UInt32(version), supported: UInt32(Self.version))
        }
        for _ in 0..<(try reader.count("names", limit: all.count)) {
            let parent = try reader.varint()
            let name = try Name(try reader.counted("bytes of a name", limit: Limits.maxNameBytes))
            let code = try reader.integer(UInt8.self)
            var before: Occupant?
            if code != 0 {
                guard let kind = Kind(rawValue: code) else { throw .value(what: "kind of object", UInt64(code)) }
                before = Occupant(
                    object: try reader.varint(), kind: kind,
                    identity: FileIdentity(
                        ino: try reader.integer(UInt64.self), birthNanos: try reader.integer(Int64.self)),
                    mtime: Timestamp(
                        seconds: try reader.integer(Int64.self), nanoseconds: try reader.integer(UInt32.self)),
                    size: try reader.varint())
            }
            touched.append(Fold.Touched(place: Place(parent: parent, name: name), before: before))
        }
        for _ in 0..<(try reader.count("patches", limit: all.count)) {
            let object = try reader.varint()
            patches.append((object, try Name(try reader.counted("bytes of a name", limit: Limits.maxNameBytes))))
        }
        for _ in 0..<(try reader.count("objects", limit: all.count)) { metadata.append(try reader.varint()) }
        for _ in 0..<(try reader.count("objects", limit: all.count)) { restamped.append(try reader.varint()) }
        for _ in 0..<(try reader.count("directories", limit: all.count)) {
            let object = try reader.varint()
            let ino = try reader.integer(UInt64.self)
            dropped.append((object, FileIdentity(ino: ino, birthNanos: try reader.integer(Int64.self))))
        }
        try reader.expectEnd()
    }
}
