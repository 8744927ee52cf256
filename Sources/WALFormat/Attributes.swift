/// The extended attributes of an object, access control lists among them, as they are replicated (xattr(7), acl(5)).
///
/// Kept in their one canonical form, which is also that of an entry: for each attribute the length of its name, the name,
/// the length of its value, the value; in the order of the names' bytes. Most objects have none, and pay nothing.
package struct Attributes: Hashable, Sendable {
    package private(set) var bytes: [UInt8]

    package static let none = Attributes()

    private init() { bytes = [] }

    /// In any order; a name must not come twice.
    package init(_ pairs: [(name: [UInt8], value: [UInt8])]) throws(FormatError) {
        var writer = ByteWriter()
        for pair in pairs.sorted(by: { $0.name.lexicographicallyPrecedes($1.name) }) {
            writer.counted(pair.name)
            writer.counted(pair.value)
        }
        try self.init(bytes: writer.bytes)
    }

    /// Throws when they are not in the canonical form, or too many.
    package init(bytes: [UInt8]) throws(FormatError) {
        guard bytes.count <= Limits.maxAttributeBytes else {
            throw .limit(
                "bytes of extended attributes", value: UInt64(bytes.count), limit: UInt64(Limits.maxAttributeBytes))
        }
        self.bytes = bytes
        var last: [UInt8] = []
        try forEach { (name, _) throws(FormatError) in
            guard !name.isEmpty, !name.contains(0), last.lexicographicallyPrecedes(name) else {
                throw .value(what: "name of an extended attribute", UInt64(name.count))
            }
            last = name
        }
    }

    package var isEmpty: Bool { bytes.isEmpty }

    /// So many that there may have been one more for which there was no room: the kernel's largest takes 64 KiB, xattr(7).
    package var mayBePart: Bool { bytes.count > Limits.maxAttributeBytes - (64 << 10) - 512 }

    /// Zero when there are none.
    package var digest: Digest { bytes.isEmpty ? .zero : Digest(of: bytes) }

    /// In order.
    package var pairs: [(name: [UInt8], value: [UInt8])] {
        var pairs: [(name: [UInt8], value: [UInt8])] = []
        // The form was checked when they were made.
        try? forEach { (name, value) throws(FormatError) in pairs.append((name, value)) }
        return pairs
    }

    private func forEach(_ body: ([UInt8], [UInt8]) throws(FormatError) -> Void) throws(FormatError) {
        try bytes.withBytes { raw throws(FormatError) in
            var reader = ByteReader(raw, what: "extended attributes")
            while reader.remaining > 0 {
                let name = try reader.counted("bytes of an attribute's name", limit: Limits.maxNameBytes)
                try body(name, try reader.counted("bytes of an attribute", limit: Limits.maxAttributeBytes))
            }
        }
    }

    /// What is replicated at all: whatever applications and administrators set. The rest belongs to its host, as labels of
    /// a security module do.
    package static func isReplicated(_ name: [UInt8]) -> Bool {
        name.starts(with: Array("user.".utf8)) || needsPrivilege(name)
            || name == Array("system.posix_acl_access".utf8) || name == Array("system.posix_acl_default".utf8)
    }

    /// Only root can set it, and for `trusted.` only root can see it.
    package static func needsPrivilege(_ name: [UInt8]) -> Bool {
        name.starts(with: Array("trusted.".utf8)) || name == Array("security.capability".utf8)
    }

    /// Those that somebody without privileges can set.
    package var unprivileged: Attributes {
        guard !isEmpty else { return self }
        return (try? Attributes(pairs.filter { !Self.needsPrivilege($0.name) })) ?? .none
    }
}
