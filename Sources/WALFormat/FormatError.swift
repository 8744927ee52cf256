/// Why bytes are not what they must be. Each case names the field; offsets are added by whoever knows the file.
package enum FormatError: Error, Equatable, Sendable {
    /// Not the magic bytes of `what`.
    case magic(what: String)
    /// A format of a later program.
    case version(what: String, found: UInt32, supported: UInt32)
    /// A checksum or digest does not match.
    case checksum(what: String)
    /// `needed` bytes where `available` remain.
    case truncated(what: String, needed: UInt64, available: UInt64)
    /// A value beyond its limit.
    case limit(_ what: String, value: UInt64, limit: UInt64)
    /// A value that the format does not allow.
    case value(what: String, UInt64)
    /// Bytes that cannot be one component of a path.
    case name([UInt8])
    /// Bytes are left over where the format says that it ends.
    case trailing(what: String, bytes: UInt64)
    /// libz refused.
    case codec(what: String, code: Int32)
    /// Text that is not a position, digest or address.
    case text(what: String, String)
}

extension FormatError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .magic(let what): "\(what): not the magic bytes"
        case .version(let what, let found, let supported):
            "\(what): format version \(found) is newer than \(supported), the last that this program reads; upgrade it"
        case .checksum(let what): "\(what): checksum does not match"
        case .truncated(let what, let needed, let available):
            "\(what): \(needed) bytes needed, \(available) there"
        case .limit(let what, let value, let limit): "\(what): \(value) is beyond the limit of \(limit)"
        case .value(let what, let value): "\(what): \(value) is not a value of the format"
        case .name(let bytes): "name '\(PathText.escaped(bytes.prefix(300)))' is not one component of a path"
        case .trailing(let what, let bytes): "\(what): \(bytes) bytes too many"
        case .codec(let what, let code): "\(what): zlib error \(code)"
        case .text(let what, let text): "'\(text)' is not a \(what)"
        }
    }
}
