/// Collects entries as the raw bytes of a segment's body. The content of a file is appended while it is read, so a file
/// that turns out to have changed meanwhile is taken back with ``rollback(to:)``.
package struct ChangeWriter {
    package private(set) var body = ByteWriter()
    package private(set) var entryCount: UInt32 = 0
    /// Blocks whose bytes are not in the entries.
    package private(set) var fetchCount = 0
    /// Numbers of the sources that extents of the file at hand named.
    private var sources: [ContentSource: Int] = [:]

    package struct Mark {
        let bytes: Int
        let entries: UInt32
        let fetches: Int
    }

    package init() {}

    package var isEmpty: Bool { entryCount == 0 }
    package var rawBytes: Int { body.count }

    package var mark: Mark { Mark(bytes: body.count, entries: entryCount, fetches: fetchCount) }

    package mutating func rollback(to mark: Mark) {
        body.truncate(to: mark.bytes)
        entryCount = mark.entries
        fetchCount = mark.fetches
    }

    package mutating func removeAll() {
        // A buffer that one large segment needed is not kept for a thousand small ones.
        body.removeAll(keepingCapacity: body.count <= Limits.targetSegmentRawBytes)
        entryCount = 0
        fetchCount = 0
    }

    package mutating func metadata(_ object: ObjectID, _ metadata: Metadata) {
        begin(.metadata, object)
        append(metadata)
    }

    package mutating func directory(_ object: ObjectID, _ metadata: Metadata) {
        begin(.put, object)
        body.integer(Kind.directory.rawValue)
        append(metadata)
    }

    package mutating func symlink(_ object: ObjectID, _ metadata: Metadata, target: [UInt8]) {
        begin(.put, object)
        body.integer(Kind.symlink.rawValue)
        append(metadata)
        body.counted(target)
    }

    package mutating func fifo(_ object: ObjectID, _ metadata: Metadata) {
        begin(.put, object)
        body.integer(Kind.fifo.rawValue)
        append(metadata)
    }

    /// `kind` is that of a device.
    package mutating func device(_ object: ObjectID, _ kind: Kind, _ metadata: Metadata, _ number: DeviceNumber) {
        begin(.put, object)
        body.integer(kind.rawValue)
        append(metadata)
        body.varint(UInt64(number.major))
        body.varint(UInt64(number.minor))
    }

    package mutating func bind(parent: ObjectID, _ name: Name, _ object: ObjectID) {
        begin(.bind, parent)
        body.counted(name.bytes)
        body.varint(object)
    }

    package mutating func unbind(parent: ObjectID, _ name: Name) {
        begin(.unbind, parent)
        body.counted(name.bytes)
    }

    package mutating func drop(_ object: ObjectID) {
        begin(.drop, object)
    }

    package mutating func filter(_ filter: Filter) {
        entryCount += 1
        body.integer(EntryTag.filter.rawValue)
        body.counted(filter.text)
    }

    package mutating func request(_ id: RequestID) {
        entryCount += 1
        body.integer(EntryTag.request.rawValue)
        body.digest(id.value)
    }

    /// A file's entry: this, then its extents in order, then ``endFile(size:digest:)``.
    package mutating func beginFile(_ object: ObjectID, _ metadata: Metadata) {
        begin(.put, object)
        body.integer(Kind.file.rawValue)
        append(metadata)
        sources.removeAll(keepingCapacity: true)
    }

    package mutating func data(_ bytes: UnsafeRawBufferPointer) {
        body.integer(ExtentTag.data.rawValue)
        body.varint(bytes.count)
        body.raw(bytes)
    }

    package mutating func hole(_ length: UInt64) {
        body.integer(ExtentTag.hole.rawValue)
        body.varint(length)
    }

    /// A source is told in full where the file copies from it for the first time: which ones there are is known only
    /// when the file was read.
    package mutating func copy(from source: ContentSource, offset: UInt64, length: UInt64) {
        if let number = sources[source] {
            body.integer(ExtentTag.copy.rawValue)
            body.varint(number)
        } else {
            sources[source] = sources.count
            body.integer(ExtentTag.copyFirst.rawValue)
            body.varint(source.object)
            body.digest(source.content)
        }
        body.varint(offset)
        body.varint(length)
    }

    package mutating func fetch(_ block: ContentBlock) {
        fetchCount += 1
        body.integer(ExtentTag.fetch.rawValue)
        body.varint(UInt64(block.length))
        body.digest(block.digest)
    }

    package mutating func endFile(size: UInt64, digest: Digest) {
        body.integer(ExtentTag.end.rawValue)
        body.varint(size)
        body.digest(digest)
    }

    private mutating func begin(_ tag: EntryTag, _ object: ObjectID) {
        entryCount += 1
        body.integer(tag.rawValue)
        body.varint(object)
    }

    private mutating func append(_ metadata: Metadata) {
        let hasAttributes = !metadata.attributes.isEmpty
        body.varint(UInt64(metadata.mode | (hasAttributes ? Metadata.attributesFlag : 0)))
        body.varint(UInt64(metadata.uid))
        body.varint(UInt64(metadata.gid))
        body.signedVarint(metadata.mtime.seconds)
        body.varint(UInt64(metadata.mtime.nanoseconds))
        if hasAttributes { body.counted(metadata.attributes.bytes) }
    }
}
