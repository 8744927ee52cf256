extension LogLocation {
    /// `count` bytes of the segment as they stand, from `start` on; for shipping, so nothing is checked here: whoever
    /// receives them checks the whole.
    package func readBytes(at start: UInt64, count: Int) throws(LogError) -> [UInt8] {
        try file.read(count: count, at: offset + start)
    }
}
