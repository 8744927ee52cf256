import WALFormat

/// Frames as walship-protocol(7) has them, made by hand: what is wrong in one is what it says, and not a checksum.
enum RawFrame {
    static let headerBytes = 24

    static func make(_ type: UInt8, _ payload: [UInt8], epoch: UInt64 = 0) -> [UInt8] {
        header(length: UInt32(payload.count), type: type, payload: payload, epoch: epoch) + payload
    }

    static func header(length: UInt32, type: UInt8, payload: [UInt8] = [], epoch: UInt64 = 0) -> [UInt8] {
        // Of the piece of a segment only what stands before its bytes.
        let checked = type == 4 ? Array(payload.prefix(24)) : payload
        let fields = little(length) + [type, 0, 0, 0] + little(epoch) + little(Digest(of: checked).short)
        return fields + little(Digest(of: fields).short)
    }

    static func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian, Array.init)
    }
}
