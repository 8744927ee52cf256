/// Every limit on what is read from a peer or a disk. Beyond one is a ``FormatError/limit(_:value:limit:)`` that names
/// it, never a trap and never a reservation of memory.
package enum Limits {
    /// `NAME_MAX` of Linux.
    package static let maxNameBytes = 255
    /// `PATH_MAX` of Linux without its NUL: the longest target a symlink can have.
    package static let maxLinkTargetBytes = 4095
    /// All extended attributes of one object in their canonical form. The kernel allows 64 KiB for one value.
    package static let maxAttributeBytes = 96 << 10
    /// The text of a filter, and what it is made of.
    package static let maxFilterBytes = 64 << 10
    package static let maxFilterRules = 4096
    package static let maxPatternBytes = 4095
    /// Components from the root to an object; a loop or a hostile peer ends here.
    package static let maxDepth = 16_384

    /// Raw bytes of a block of a segment.
    package static let maxBlockBytes = 1 << 20
    /// Raw bytes of one segment. A segment is closed long before this.
    package static let maxSegmentRawBytes: UInt64 = 48 << 20
    /// A segment under construction is closed at this many raw bytes.
    package static let targetSegmentRawBytes = 8 << 20
    package static let maxSegmentEntries: UInt32 = 4_000_000
    /// Content of one file above this many new bytes stays out of the log; the receiver fetches it.
    package static let defaultMaxInlineContentBytes = 16 << 20
    /// Bytes of one entry without its data. A file of 1 TiB in blocks of 64 KiB has a table of 320 MiB, so tables of
    /// such files are cut: see ``maxContentBlocks``.
    package static let maxContentBlocks = 1 << 22
    package static let maxExtents = 1 << 22
    /// A longer hole is several blocks.
    package static let maxHoleBytes = 1 << 30

    /// Content-defined blocks of a file.
    package static let minChunkBytes = 16 << 10
    package static let maxChunkBytes = 256 << 10

    /// Payload of one frame on the wire.
    package static let maxFrameBytes = (1 << 20) + 4096
    package static let maxHandshakeBytes = 64 << 10
    package static let handshakeSeconds = 10
    /// Bytes of segments sent and not yet acknowledged as received.
    package static let sendWindowBytes = 16 << 20
    /// Bytes of blocks asked for and not yet answered.
    package static let wantWindowBytes = 16 << 20
    package static let maxWantBlocks = 4096
    package static let maxControlBytes = 16 << 20
    /// Content that a client has sent and that is not written yet, and content that it asked for and has not taken.
    package static let clientWindowBytes = 8 << 20
    /// Requests of a client that wait, and files and listings that it has open.
    package static let maxClientRequests = 64
    package static let maxClientHandles = 16
    package static let maxReadBytes = 1 << 20
    package static let maxNodeNameBytes = 255
    /// `HOST:PORT`, where a host name has 253 bytes at most.
    package static let maxAddressBytes = 300
    package static let maxGroupMembers = 1024
    /// Promotions that are remembered: a position from before them all is taken for one of this history.
    package static let maxGroupEpochs = 256

    /// A log file is closed at this size.
    package static let logFileBytes: UInt64 = 64 << 20
    /// Each promotion takes one. The wire carries more, so that there is room above whatever is promised.
    package static let maxEpoch: UInt64 = 1 << 48
}
