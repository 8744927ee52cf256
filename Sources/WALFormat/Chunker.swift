/// Cuts content into blocks at places that the content itself determines, so that an insertion moves the bytes behind it
/// and not their blocks. Gear hash with two masks around the target size (Xia et al., FastCDC, USENIX ATC 2016).
///
/// The cuts are no part of the format: whoever holds content also holds its list of blocks. Two programs that cut
/// differently still understand each other, they only find less in common.
package enum Chunker {
    /// Harder to meet before the target size than after it: sizes gather around the target. 17 and 14 bits give a mean
    /// of 67 KiB and a deviation of 25 KiB. The highest bits, because only they depend on all of the last 64 bytes.
    private static let maskBefore: UInt64 = ~0 << (64 - 17)
    private static let maskAfter: UInt64 = ~0 << (64 - 14)

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

    /// Length of the block at the start of `bytes`: at most `Limits.maxChunkBytes`. Unless the content ends sooner,
    /// `bytes` must hold that many, so that the cut does not depend on how the content was read.
    package static func cut(_ bytes: UnsafeRawBufferPointer) -> Int {
        let end = min(bytes.count, Limits.maxChunkBytes)
        guard end > Limits.minChunkBytes else { return end }
        let target = min(end, Limits.targetChunkBytes)
        return gear.withUnsafeBufferPointer { table in
            var hash: UInt64 = 0
            var index = Limits.minChunkBytes
            // In a run of one byte the hash settles at -gear[byte], which meets no mask: such content is cut at the
            // maximum.
            while index < target {
                hash = (hash &<< 1) &+ table[Int(bytes[index])]
                index += 1
                if hash & maskBefore == 0 { return index }
            }
            while index < end {
                hash = (hash &<< 1) &+ table[Int(bytes[index])]
                index += 1
                if hash & maskAfter == 0 { return index }
            }
            return end
        }
    }
}
