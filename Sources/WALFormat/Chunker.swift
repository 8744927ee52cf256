/// Cuts content into blocks at places that the content itself determines, so that an insertion moves the bytes behind it
/// and not their blocks. A block ends where the gear hash of the last 64 bytes (Xia et al., FastCDC, USENIX ATC 2016) is
/// below a threshold, or else at its least within the bounds of a block.
///
/// What decides is how soon the cuts are the old ones again behind a change that moved one: until then every block is
/// new. A place with a very small hash is the least of most ranges that it lies in, so cuts that began at different places
/// meet there; with the two masks of FastCDC it is a place like many others. Of changes of 4 KiB at random places, 1 in 1,500
/// made more than 250 KiB of new blocks; with two masks and a mean of 67 KiB it was 1 in 55, whatever the maximum.
///
/// The cuts are no part of the format: whoever holds content also holds its list of blocks. Two programs that cut
/// differently still understand each other, they only find less in common.
package enum Chunker {
    /// Two blocks, which a small change may lie across, and what goes along are less than 256 KiB.
    package static let maxBytes = 124 << 10
    /// One hash of 2^16 is below it. Blocks have a mean of 62 KiB then, and a deviation of 31 KiB.
    private static let threshold: UInt64 = 1 << (64 - 16)
    /// Bytes that a hash depends on.
    private static let windowBytes = 64

    private static let gear: [UInt64] = {
        // splitmix64 from a fixed seed: the table is the same on every host.
        var state: UInt64 = 0x7761_6C73_6869_7000
        return (0..<256).map { _ in
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
            return value ^ (value >> 31)
        }
    }()

    /// Length of the block at the start of `bytes`: at most ``maxBytes``. Unless the content ends sooner, `bytes` must hold
    /// that many, so that the cut does not depend on how the content was read.
    package static func cut(_ bytes: UnsafeRawBufferPointer) -> Int {
        let end = min(bytes.count, maxBytes)
        guard end > Limits.minChunkBytes else { return end }
        return gear.withUnsafeBufferPointer { table in
            var hash: UInt64 = 0
            for index in Limits.minChunkBytes - windowBytes..<Limits.minChunkBytes {
                hash = (hash &<< 1) &+ table[Int(bytes[index])]
            }
            var least = UInt64.max
            var cut = end
            var index = Limits.minChunkBytes
            while index < end {
                hash = (hash &<< 1) &+ table[Int(bytes[index])]
                index += 1
                // The last of equal ones: in a run of one byte the hash settles at -gear[byte], and such content is cut at
                // the maximum.
                if hash <= least {
                    if hash < threshold { return index }
                    least = hash
                    cut = index
                }
            }
            // What may still grow at its end is not cut for want of a better place.
            return end < maxBytes ? end : cut
        }
    }
}
