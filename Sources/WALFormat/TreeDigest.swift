import CXXHash

/// The parts of which a tree digest is the sum: one for every name, one for every object, and one for a filter that has
/// rules (walship-segment(5), "Tree digest"). Object numbers are part of both, so equal digests mean equal trees with equal numbers.
package enum TreeDigest {
    package static func part(ofName name: UnsafeRawBufferPointer, in parent: ObjectID, to object: ObjectID) -> Digest {
        withUnsafeTemporaryAllocation(byteCount: 17 + Limits.maxNameBytes, alignment: 8) { buffer in
            buffer[0] = 0x6E
            buffer.storeBytes(of: parent.littleEndian, toByteOffset: 1, as: UInt64.self)
            buffer.storeBytes(of: object.littleEndian, toByteOffset: 9, as: UInt64.self)
            let length = min(name.count, Limits.maxNameBytes)
            if length > 0 {
                UnsafeMutableRawBufferPointer(rebasing: buffer[17...]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: name[..<length]))
            }
            return Digest(of: UnsafeRawBufferPointer(rebasing: buffer[..<(17 + length)]))
        }
    }

    /// `content` is the digest of a file's block table, of a symlink's target, of a device's numbers, and zero for a
    /// directory and a FIFO.
    package static func part(
        ofObject object: ObjectID, kind: Kind, metadata: Metadata, size: UInt64, content: Digest
    ) -> Digest {
        withUnsafeTemporaryAllocation(byteCount: 72, alignment: 8) { buffer in
            buffer.storeBytes(of: object.littleEndian, toByteOffset: 0, as: UInt64.self)
            buffer.storeBytes(of: UInt64(size).littleEndian, toByteOffset: 8, as: UInt64.self)
            buffer.storeBytes(of: metadata.mtime.seconds.littleEndian, toByteOffset: 16, as: Int64.self)
            buffer.storeBytes(of: metadata.mtime.nanoseconds.littleEndian, toByteOffset: 24, as: UInt32.self)
            buffer.storeBytes(of: metadata.uid.littleEndian, toByteOffset: 28, as: UInt32.self)
            buffer.storeBytes(of: metadata.gid.littleEndian, toByteOffset: 32, as: UInt32.self)
            buffer.storeBytes(of: metadata.mode.littleEndian, toByteOffset: 36, as: UInt16.self)
            buffer.storeBytes(of: UInt16(kind.rawValue).littleEndian, toByteOffset: 38, as: UInt16.self)
            buffer.storeBytes(of: content.high.bigEndian, toByteOffset: 40, as: UInt64.self)
            buffer.storeBytes(of: content.low.bigEndian, toByteOffset: 48, as: UInt64.self)
            if metadata.attributes.isEmpty {
                return Digest(of: UnsafeRawBufferPointer(rebasing: buffer[..<56]))
            }
            let attributes = metadata.attributes.digest
            buffer.storeBytes(of: attributes.high.bigEndian, toByteOffset: 56, as: UInt64.self)
            buffer.storeBytes(of: attributes.low.bigEndian, toByteOffset: 64, as: UInt64.self)
            return Digest(of: UnsafeRawBufferPointer(buffer))
        }
    }

    /// Zero for a filter without rules.
    package static func part(ofFilter filter: Filter) -> Digest {
        filter.isEmpty ? .zero : Digest(of: [0x66] + filter.text)
    }
}
