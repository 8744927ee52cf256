import WALApply
import WALCapture
import WALCatalog
import WALFormat
import WALSystem
import WALTreeKit

/// Serves blocks from a primary's tree, as far as the test lets it.
final class PrimaryBlocks: BlockSource {
    enum Answer {
        case serve
        case gone
        case interrupt
    }

    private let primary: PrimaryTree
    /// What becomes of each request; the number counts from 0 over the source's life.
    var answer: (BlockRequest, Int) -> Answer = { _, _ in .serve }
    private(set) var requests: [BlockRequest] = []
    private(set) var served = 0

    init(_ primary: PrimaryTree) {
        self.primary = primary
    }

    func fetch(_ requests: [BlockRequest], deliver: (BlockRequest, UnsafeRawBufferPointer?) throws -> Void) throws {
        for request in requests {
            self.requests.append(request)
            switch answer(request, self.requests.count - 1) {
            case .interrupt: throw ApplyError.interrupted
            case .gone: try deliver(request, nil)
            case .serve:
                let bytes = try read(request)
                guard let bytes, Digest(of: bytes) == request.block.digest else {
                    try deliver(request, nil)
                    continue
                }
                served += 1
                try bytes.withUnsafeBytes { try deliver(request, $0) }
            }
        }
    }

    private func read(_ request: BlockRequest) throws -> [UInt8]? {
        guard let path = try primary.catalog.read({ try $0.path(of: request.object) }) else { return nil }
        let root = try Directory.open(path: primary.path)
        guard let name = path.last, let directory = try? root.openDirectory(at: path.dropLast()),
            let file = try? directory.openFile(name)
        else { return nil }
        let bytes = try file.read(count: Int(request.block.length), at: request.offset)
        try file.close()
        return bytes
    }
}
