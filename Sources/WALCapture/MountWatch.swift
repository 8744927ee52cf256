import WALSystem

/// Tells when something was mounted or unmounted in the tree, of which no watch of a directory does.
final class MountWatch {
    private let root: Directory
    private let table: MountTable?
    private var known: Set<[UInt8]>?
    /// The table has changed, here or anywhere else on the machine, since it was read.
    private var mayHaveChanged = false

    init(root: Directory) {
        self.root = root
        // Without /proc a scan finds it.
        table = try? MountTable()
        known = table?.mounts(in: root)
    }

    /// To wait for, as urgent ones of ``Poller``.
    var descriptors: [Int32] { table.map { [$0.descriptor] } ?? [] }

    /// The kernel tells each change once, so who has waited for it must hand it on.
    func note(ready: [Int32]) {
        if let table, ready.contains(table.descriptor) { mayHaveChanged = true }
    }

    /// True once after each change in the tree.
    func takeChange() throws -> Bool {
        guard let table else { return false }
        note(ready: try Poller.poll(descriptors: [], urgent: descriptors, timeoutMilliseconds: 0))
        guard mayHaveChanged else { return false }
        mayHaveChanged = false
        let now = table.mounts(in: root)
        defer { known = now }
        return now != known
    }
}
