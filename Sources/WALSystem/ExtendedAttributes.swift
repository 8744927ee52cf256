import CLinux
import WALFormat

/// What an object's attributes came to.
package struct FoundAttributes: Hashable, Sendable {
    package var attributes: Attributes
    /// There are more than can be replicated: the largest are not among them.
    package var isTooLarge = false
}

/// An attribute that could not be set, and why.
package struct UnsetAttribute: Sendable {
    package var name: String
    package var error: SystemError
}

/// Whose extended attributes are meant, xattr(7): those of a name, never of what a symlink leads to, or of something open.
/// Valid while the handle is open.
package struct AttributeTarget {
    private let descriptor: Int32
    private let name: [UInt8]

    package init(_ directory: Directory, _ name: Name) {
        descriptor = directory.descriptor
        self.name = name.bytes
    }

    package init(_ directory: Directory) {
        descriptor = directory.descriptor
        name = []
    }

    package init(_ file: borrowing File) {
        descriptor = file.descriptor
        name = []
    }

    /// Those that are replicated. None where the file system has none.
    package func read() throws(SystemError) -> FoundAttributes {
        let list: [UInt8]
        do throws(SystemError) {
            list = try read(nil)
        } catch {
            // No such thing here, or gone; whoever asked looks at the object itself, too.
            guard error.isUnsupported else { throw error }
            return FoundAttributes(attributes: .none)
        }
        guard !list.isEmpty else { return FoundAttributes(attributes: .none) }
        var pairs: [(name: [UInt8], value: [UInt8])] = []
        for part in list.split(separator: 0) where Attributes.isReplicated(Array(part)) {
            do throws(SystemError) {
                pairs.append((Array(part), try read(Array(part))))
            } catch {
                // Removed since it was listed: there is an event for that, too.
                guard error.code == Errno.noData || error.isUnsupported else { throw error }
            }
        }
        if let all = try? Attributes(pairs) { return FoundAttributes(attributes: all) }
        // As many as there is room for, whatever their order: an access control list is small.
        pairs.sort { left, right in
            left.value.count == right.value.count
                ? left.name.lexicographicallyPrecedes(right.name) : left.value.count < right.value.count
        }
        while !pairs.isEmpty {
            pairs.removeLast()
            if let some = try? Attributes(pairs) { return FoundAttributes(attributes: some, isTooLarge: true) }
        }
        return FoundAttributes(attributes: .none, isTooLarge: true)
    }

    /// Gives the object exactly these of the attributes that are replicated; what cannot be set is returned. Without
    /// privileges those that need some are left alone.
    ///
    /// - Parameter isNew: it has none yet.
    package func set(
        _ wanted: Attributes, isNew: Bool, isPrivileged: Bool
    ) throws(SystemError) -> [UnsetAttribute] {
        let wanted = isPrivileged ? wanted : wanted.unprivileged
        let found = isNew ? .none : try read().attributes
        if found == wanted { return [] }
        var unset: [UnsetAttribute] = []
        let old = Dictionary(uniqueKeysWithValues: found.pairs.map { ($0.name, $0.value) })
        let new = Dictionary(uniqueKeysWithValues: wanted.pairs.map { ($0.name, $0.value) })
        for pair in found.pairs where new[pair.name] == nil {
            guard isPrivileged || !Attributes.needsPrivilege(pair.name) else { continue }
            try note(&unset, pair.name) { () throws(SystemError) in
                let result = cl_remove_attribute(descriptor, name, name.count, text(pair.name))
                if result != -Errno.noData { try check(result, "removexattr", description) }
            }
        }
        for pair in wanted.pairs where old[pair.name] != pair.value {
            try note(&unset, pair.name) { () throws(SystemError) in
                try check(
                    cl_set_attribute(
                        descriptor, name, name.count, text(pair.name), pair.value,
                        pair.value.count), "setxattr", description)
            }
        }
        return unset
    }

    /// A full disk is the caller's, all other errors are of this one attribute: a file system without such attributes, one
    /// that is larger than there is room for in the inode, an immutable file.
    private func note(
        _ unset: inout [UnsetAttribute], _ attribute: [UInt8], _ body: () throws(SystemError) -> Void
    ) throws(SystemError) {
        do throws(SystemError) {
            try body()
        } catch {
            guard !error.isNotFound, error.code != Errno.inputOutput else { throw error }
            unset.append(UnsetAttribute(name: PathText.escaped(attribute), error: error))
        }
    }

    /// The list of names, each with a NUL behind it, or the value of one.
    private func read(_ attribute: [UInt8]?) throws(SystemError) -> [UInt8] {
        var capacity = 1 << 10
        while true {
            let (bytes, result) = withUnsafeTemporaryAllocation(byteCount: capacity, alignment: 1) { buffer in
                let result =
                    attribute.map {
                        cl_get_attribute(
                            descriptor, name, name.count, text($0), buffer.baseAddress, capacity)
                    }
                    ?? cl_list_attributes(
                        descriptor, name, name.count, buffer.baseAddress, capacity)
                return (result > 0 ? Array(UnsafeRawBufferPointer(rebasing: buffer[..<Int(result)])) : [], result)
            }
            // The kernel's limit for either is 64 KiB.
            if result == -Int64(Errno.range), capacity < 64 << 10 {
                capacity = 64 << 10
                continue
            }
            try check(
                Int32(clamping: min(result, 0)), attribute == nil ? "listxattr" : "getxattr", description)
            return bytes
        }
    }

    private func text(_ bytes: [UInt8]) -> [CChar] { bytes.map(CChar.init(bitPattern:)) + [0] }

    private var description: String? {
        name.isEmpty ? describe(descriptor) : describe(descriptor, name)
    }
}

extension Directory {
    /// Takes away what new files would inherit, acl(5): the parent's list for that came with the directory itself.
    package func dropInheritedList() throws(SystemError) {
        let result = cl_remove_attribute(descriptor, [], 0, "system.posix_acl_default")
        // No such list, or no such thing on this file system.
        guard result != -Errno.noData, result != -Errno.notSupported else { return }
        try check(result, "removexattr", describe(descriptor))
    }

    package func attributes(of name: Name) throws(SystemError) -> FoundAttributes {
        try AttributeTarget(self, name).read()
    }

    package func attributes() throws(SystemError) -> FoundAttributes {
        try AttributeTarget(self).read()
    }
}
