/// A block that a receiver lacks: which, where in the file, and what it must be.
package struct BlockRequest: Hashable, Sendable {
    package var object: ObjectID
    /// Bytes from the start of the file.
    package var offset: UInt64
    package var block: ContentBlock

    package init(object: ObjectID, offset: UInt64, block: ContentBlock) {
        self.object = object
        self.offset = offset
        self.block = block
    }
}
