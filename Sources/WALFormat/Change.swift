/// One entry of a segment: a net effect on objects or names, never a call, so that a reader who meets it twice ends where
/// it ended once (walship-segment(5), "Entries").
package enum Change: Hashable, Sendable {
    /// The object exists with this metadata and body; it is made if it did not.
    case put(ObjectID, Metadata, Body)
    /// The object's metadata changes, its body does not.
    case metadata(ObjectID, Metadata)
    /// The name means the object, whatever it meant before.
    case bind(parent: ObjectID, Name, ObjectID)
    /// The name means nothing.
    case unbind(parent: ObjectID, Name)
    /// The object, which has no name left at the end of the segment, is gone.
    case drop(ObjectID)
    /// What is replicated of the tree, from here on.
    case filter(Filter)
    /// The segment is what a client asked for by this number. Asked for again, it is not done again.
    case request(RequestID)
}

/// 128 bits that a client draws for one write, and sends again when it cannot know whether that was done.
package struct RequestID: Hashable, Sendable, CustomStringConvertible {
    package var value: Digest

    package init(_ value: Digest) { self.value = value }

    /// 32 hexadecimal digits.
    package init(text: String) throws(FormatError) { value = try Digest(text: text) }

    package var description: String { value.description }
}

package enum Body: Hashable, Sendable {
    case file(FileContent)
    case directory
    case symlink(target: [UInt8])
    case fifo
    /// A device of either kind.
    case device(Kind, DeviceNumber)

    package var kind: Kind {
        switch self {
        case .file: .file
        case .directory: .directory
        case .symlink: .symlink
        case .fifo: .fifo
        case .device(let kind, _): kind
        }
    }
}

/// The whole content of a file as extents in order; their lengths sum to `size`.
package struct FileContent: Hashable, Sendable {
    package var size: UInt64
    /// Digest of the resulting block table: what the extents must come to.
    package var digest: Digest
    /// Content that `copy` extents read, in the order in which they first do: what its object has when the entry's turn
    /// comes.
    package var sources: [ContentSource]
    package var extents: [Extent]

    package init(size: UInt64, digest: Digest, sources: [ContentSource], extents: [Extent]) {
        self.size = size
        self.digest = digest
        self.sources = sources
        self.extents = extents
    }
}

/// An object and the digest of the content that it must have for the copy to be right.
package struct ContentSource: Hashable, Sendable {
    package var object: ObjectID
    package var content: Digest

    package init(object: ObjectID, content: Digest) {
        self.object = object
        self.content = content
    }
}

package enum Extent: Hashable, Sendable {
    /// One block, whose bytes stand in the segment's raw body at this range.
    case data(Range<Int>)
    /// Bytes that read as zero and take no room.
    case hole(UInt64)
    /// Whole blocks of `sources[source]`, from `offset` on.
    case copy(source: Int, offset: UInt64, length: UInt64)
    /// One block that is not in the log: to be had from the sender's tree, or from anywhere with this digest.
    case fetch(ContentBlock)

    /// Bytes of the file that it stands for.
    package var length: UInt64 {
        switch self {
        case .data(let range): UInt64(range.count)
        case .hole(let length), .copy(_, _, let length): length
        case .fetch(let block): UInt64(block.length)
        }
    }
}

package enum EntryTag: UInt8 {
    case put = 1
    case metadata = 2
    case bind = 3
    case unbind = 4
    case drop = 5
    case filter = 6
    case request = 7
}

package enum ExtentTag: UInt8 {
    case end = 0
    case data = 1
    case hole = 2
    case copy = 3
    case fetch = 4
    /// A copy from a source that no extent of the file named before.
    case copyFirst = 5
}
