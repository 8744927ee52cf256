import Synchronization

/// Bytes of file data that a replica has written since it started, into its tree and its staging folder, for the status.
/// The log and the catalog are not among them, nor are names and metadata, nor holes.
package final class WrittenBytes: Sendable {
    private let writtenBytes = Atomic<UInt64>(0)
    private let copiedBytes = Atomic<UInt64>(0)

    package init() {}

    func wrote(_ bytes: Int) {
        writtenBytes.wrappingAdd(UInt64(bytes), ordering: .relaxed)
    }

    /// From file to file of the replica. Whether that wrote as many bytes is the file system's secret: one with reflinks
    /// shares them.
    func copied(_ bytes: UInt64) {
        copiedBytes.wrappingAdd(bytes, ordering: .relaxed)
    }

    package var written: UInt64 { writtenBytes.load(ordering: .relaxed) }
    package var copied: UInt64 { copiedBytes.load(ordering: .relaxed) }
}
