/// Entries of a raw body, one after the other. What does not fit the format throws; nothing traps.
package struct ChangeReader {
    private var reader: ByteReader
    private var entriesLeft: UInt32

    /// `body` must outlive the reader; `entryCount` is the header's.
    package init(_ body: UnsafeRawBufferPointer, entryCount: UInt32) {
        reader = ByteReader(body, what: "entries")
        entriesLeft = entryCount
    }

    /// nil after the last entry, which must end where the body ends.
    package mutating func next() throws(FormatError) -> Change? {
        guard entriesLeft > 0 else {
            try reader.expectEnd()
            return nil
        }
        entriesLeft -= 1
        let tag = try reader.integer(UInt8.self)
        if tag == EntryTag.filter.rawValue {
            return .filter(try Filter(text: try reader.counted("bytes of a filter", limit: Limits.maxFilterBytes)))
        }
        if tag == EntryTag.request.rawValue { return .request(RequestID(try reader.digest())) }
        let object = try object()
        switch EntryTag(rawValue: tag) {
        case .put: return .put(object, try body(), lastBody)
        case .metadata: return .metadata(object, try metadata())
        case .bind: return .bind(parent: object, try name(), try self.object())
        case .unbind: return .unbind(parent: object, try name())
        case .drop: return .drop(object)
        case .filter, .request, nil: throw .value(what: "entry's tag", UInt64(tag))
        }
    }

    /// The body that ``body()`` read last: an entry's metadata stands before its body in the bytes.
    private var lastBody = Body.directory

    private mutating func body() throws(FormatError) -> Metadata {
        let code = try reader.integer(UInt8.self)
        guard let kind = Kind(rawValue: code) else { throw .value(what: "kind of object", UInt64(code)) }
        let metadata = try metadata()
        switch kind {
        case .directory: lastBody = .directory
        case .symlink:
            let target = try reader.counted("bytes of a symlink's target", limit: Limits.maxLinkTargetBytes)
            guard !target.isEmpty, !target.contains(0) else { throw .value(what: "symlink's target", 0) }
            lastBody = .symlink(target: target)
        case .file: lastBody = .file(try content())
        case .fifo: lastBody = .fifo
        case .characterDevice, .blockDevice:
            let major = try reader.count("major number of a device", limit: Int(UInt32.max))
            let minor = try reader.count("minor number of a device", limit: Int(UInt32.max))
            lastBody = .device(kind, DeviceNumber(major: UInt32(major), minor: UInt32(minor)))
        }
        return metadata
    }

    private mutating func content() throws(FormatError) -> FileContent {
        // Every source takes bytes of the body, so there are never more of them than somebody sent.
        var sources: [ContentSource] = []
        var extents: [Extent] = []
        var total: UInt64 = 0
        var blocks: UInt64 = 0
        while true {
            let code = try reader.integer(UInt8.self)
            guard let tag = ExtentTag(rawValue: code) else { throw .value(what: "extent's tag", UInt64(code)) }
            if tag == .end { break }
            guard extents.count < Limits.maxExtents else {
                throw .limit("extents of a file", value: UInt64(extents.count) + 1, limit: UInt64(Limits.maxExtents))
            }
            let (extent, length) = try self.extent(tag, &sources)
            let (sum, overflow) = total.addingReportingOverflow(length)
            guard !overflow, sum <= UInt64(Int64.max), length > 0 else {
                throw .value(what: "length of an extent", length)
            }
            total = sum
            // No block is longer than one of a hole, so this bounds the table before anybody builds it. What a copy adds
            // beyond that is known only with its source.
            blocks += BlockTable.blocks(ofHole: length)
            guard blocks <= UInt64(Limits.maxContentBlocks) else {
                throw .limit("blocks of a file", value: blocks, limit: UInt64(Limits.maxContentBlocks))
            }
            extents.append(extent)
        }
        let size = try reader.varint()
        guard size == total else { throw .value(what: "size of a file", size) }
        return FileContent(size: size, digest: try reader.digest(), sources: sources, extents: extents)
    }

    private mutating func extent(
        _ tag: ExtentTag, _ sources: inout [ContentSource]
    ) throws(FormatError) -> (Extent, UInt64) {
        switch tag {
        case .end: return (.hole(0), 0)
        case .data:
            let length = try reader.count("bytes of a block", limit: Limits.maxChunkBytes)
            let start = reader.offset
            _ = try reader.take(length)
            return (.data(start..<start + length), UInt64(length))
        case .hole:
            let length = try reader.varint()
            return (.hole(length), length)
        case .copy:
            let source = try reader.varint()
            guard source < UInt64(sources.count) else { throw .value(what: "source of a copy", source) }
            return try copy(from: Int(source))
        case .copyFirst:
            sources.append(ContentSource(object: try object(), content: try reader.digest()))
            return try copy(from: sources.count - 1)
        case .fetch:
            let length = try reader.count("bytes of a block", limit: Limits.maxChunkBytes)
            let digest = try reader.digest()
            guard digest != .zero else { throw .value(what: "digest of a block", 0) }
            return (.fetch(ContentBlock(length: UInt32(length), digest: digest)), UInt64(length))
        }
    }

    private mutating func copy(from source: Int) throws(FormatError) -> (Extent, UInt64) {
        let offset = try reader.varint()
        let length = try reader.varint()
        guard !offset.addingReportingOverflow(length).overflow else { throw .value(what: "offset of a copy", offset) }
        return (.copy(source: source, offset: offset, length: length), length)
    }

    private mutating func metadata() throws(FormatError) -> Metadata {
        let flagged = try reader.varint()
        guard flagged <= 0o7777 | UInt64(Metadata.attributesFlag) else { throw .value(what: "mode", flagged) }
        let uid = try reader.count("uid", limit: Int(UInt32.max))
        let gid = try reader.count("gid", limit: Int(UInt32.max))
        let seconds = try reader.signedVarint()
        let nanoseconds = try reader.count("nanoseconds", limit: 999_999_999)
        var metadata = Metadata(
            mode: UInt16(flagged & 0o7777), uid: UInt32(uid), gid: UInt32(gid),
            mtime: Timestamp(seconds: seconds, nanoseconds: UInt32(nanoseconds)))
        if flagged > 0o7777 {
            metadata.attributes = try Attributes(
                bytes: try reader.counted("bytes of extended attributes", limit: Limits.maxAttributeBytes))
            // One value has one form.
            guard !metadata.attributes.isEmpty else { throw .value(what: "bytes of extended attributes", 0) }
        }
        return metadata
    }

    /// Numbers from `firstLocal` on never leave the node that gave them.
    private mutating func object() throws(FormatError) -> ObjectID {
        let object = try reader.varint()
        guard object > 0, object < ObjectID.firstLocal else { throw .value(what: "number of an object", object) }
        return object
    }

    private mutating func name() throws(FormatError) -> Name {
        try Name(try reader.counted("bytes of a name", limit: Limits.maxNameBytes))
    }
}
