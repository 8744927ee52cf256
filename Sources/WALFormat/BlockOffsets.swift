/// Where the blocks of a table begin, for whoever looks for many of them: each is found in O(log n) and not by adding up.
package struct BlockOffsets: Sendable {
    /// In bytes, of each block; behind them the size of the whole.
    private let starts: [UInt64]

    package init(_ table: BlockTable) {
        var starts: [UInt64] = []
        starts.reserveCapacity(table.count + 1)
        var offset: UInt64 = 0
        for index in 0..<table.count {
            starts.append(offset)
            offset += UInt64(table[index].length)
        }
        starts.append(offset)
        self.starts = starts
    }

    /// Bytes from the start of the content to block `index`; to its end where that is the number of blocks.
    package subscript(index: Int) -> UInt64 { starts[index] }

    /// The block that begins at `offset`, the number of blocks at the end; nil where none begins.
    package func block(at offset: UInt64) -> Int? {
        var low = 0
        var high = starts.count
        while low < high {
            let middle = low + (high - low) / 2
            if starts[middle] < offset { low = middle + 1 } else { high = middle }
        }
        return low < starts.count && starts[low] == offset ? low : nil
    }
}
