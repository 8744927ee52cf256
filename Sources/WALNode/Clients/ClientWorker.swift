import WALCapture
import WALFormat
import WALSystem
import WALWire

/// What a client has under way, and what it is answered. For the one thread of its session.
final class ClientWorker {
    private let node: any ControlService
    /// The node may have another role from one request to the next.
    private var service: any TreeService { get throws { try node.tree() } }
    private var handles: [Int: Handle] = [:]
    private var nextHandle = 1
    private var upload: Upload?

    init(service: any ControlService) {
        node = service
    }

    private enum Handle {
        case file(OpenedFile)
        case listing(Listed, ReadRequest)
    }

    /// The connection is gone.
    func end() {
        handles.removeAll()
        upload?.discard()
        upload = nil
    }

    func answer(_ job: ClientSession.Job) throws -> Message {
        switch job {
        case .content(let bytes):
            guard let upload else { throw NodeError(.usage, "content without a put before it") }
            // What has failed is told at the commit, too: the client has sent more by then.
            try upload.append(bytes)
            return ClientSession.message(ControlResponse())
        case .request(let request):
            if request.verb == .read { return .content(try read(request)) }
            return ClientSession.message(try respond(to: request))
        }
    }

    private func respond(to request: ControlRequest) throws -> ControlResponse {
        switch request.verb {
        case .put: return try beginPut(request)
        case .commit: return try commit(request)
        case .write: return try write(request)
        case .open: return try open(request)
        case .list: return try list(request)
        case .stat: return try stat(request)
        case .next: return try next(request)
        case .close:
            if let handle = request.handle { handles[handle] = nil }
            return ControlResponse()
        default: throw NodeError(.usage, "\(request.verb) is not asked of a tree")
        }
    }

    // MARK: Reading

    private func look(_ request: ControlRequest) throws -> (ReadRequest, ClientPath) {
        guard let look = request.look else { throw NodeError(.usage, "nothing said what to look at") }
        let path = try ClientPath(look.path, in: service.folder, mayBeRoot: request.verb != .open)
        try service.admit(look, seconds: request.waitSeconds)
        return (look, path)
    }

    private func keep(_ handle: Handle) throws -> Int {
        guard handles.count < Limits.maxClientHandles else {
            throw NodeError(.usage, "more than \(Limits.maxClientHandles) files and listings are open")
        }
        defer { nextHandle += 1 }
        handles[nextHandle] = handle
        return nextHandle
    }

    private func open(_ request: ControlRequest) throws -> ControlResponse {
        let (look, path) = try look(request)
        let (file, entry) = try TreeReader(service).open(path)
        var response = ControlResponse()
        response.freshness = try service.freshness(look, seconds: request.waitSeconds)
        response.entry = entry
        response.handle = try keep(.file(file))
        return response
    }

    private func read(_ request: ControlRequest) throws -> [UInt8] {
        guard case .file(let file)? = request.handle.flatMap({ handles[$0] }) else {
            throw NodeError(.usage, "no file is open as \(request.handle ?? 0)")
        }
        let length = request.length ?? 0
        guard length <= UInt64(Limits.maxReadBytes) else {
            throw NodeError(.usage, "\(length) bytes at once, where \(Limits.maxReadBytes) are the limit")
        }
        return try file.read(at: request.offset ?? 0, count: Int(length))
    }

    private func list(_ request: ControlRequest) throws -> ControlResponse {
        let (look, path) = try look(request)
        let found = try TreeReader(service).list(path)
        var response = ControlResponse()
        response.freshness = try service.freshness(look, seconds: request.waitSeconds)
        switch found {
        case .entry(let entry): response.entry = entry
        case .directory(let listed): response.handle = try keep(.listing(listed, look))
        }
        return response
    }

    private func next(_ request: ControlRequest) throws -> ControlResponse {
        guard let handle = request.handle, case .listing(let listed, let look)? = handles[handle] else {
            throw NodeError(.usage, "no listing is open as \(request.handle ?? 0)")
        }
        var response = ControlResponse()
        response.entries = try listed.next()
        response.hasMore = listed.hasMore
        if !listed.hasMore {
            handles[handle] = nil
            // Each entry was looked up when it was asked for, and may be of a later time than the list of names.
            response.freshness = try service.freshness(look, seconds: request.waitSeconds)
        }
        return response
    }

    private func stat(_ request: ControlRequest) throws -> ControlResponse {
        let (look, path) = try look(request)
        var response = ControlResponse()
        response.entry = try TreeReader(service).stat(path)
        response.freshness = try service.freshness(look, seconds: request.waitSeconds)
        return response
    }

    // MARK: Writing

    private func wanted(_ request: ControlRequest) throws -> WriteRequest {
        guard let write = request.write else { throw NodeError(.usage, "nothing said what to write") }
        guard (write.durable ?? 1) > 0 else { throw NodeError(.usage, "durable on no replica is no condition") }
        try service.requireWritable()
        if let after = write.after { try service.requireSeen(after) }
        return write
    }

    /// What is remembered of a write: the client's number, and what it asked for. So the number is never the answer to
    /// another question; of a put its content is not asked, for it need not be sent again.
    private func requestID(_ write: WriteRequest) throws -> RequestID {
        guard (try? RequestID(text: write.requestId)) != nil else {
            throw NodeError(.usage, "'\(write.requestId)' is no number of a request: 32 hexadecimal digits")
        }
        var asked = write
        asked.durable = nil
        asked.after = nil
        return RequestID(Digest(of: try ControlJSON.encode(asked)))
    }

    private func path(_ text: String?) throws -> [Name] {
        guard let text else { throw NodeError(.usage, "a path is missing") }
        return try ClientPath(text, in: service.folder).names
    }

    private func mode(_ mode: UInt16?) throws -> UInt16? {
        guard mode ?? 0 <= 0o7777 else { throw NodeError(.usage, "a mode has 12 bits") }
        return mode
    }

    private func beginPut(_ request: ControlRequest) throws -> ControlResponse {
        upload?.discard()
        upload = nil
        let wanted = try wanted(request)
        guard wanted.operation == .put else { throw NodeError(.usage, "\(wanted.operation) has no content") }
        let id = try requestID(wanted)
        var put = TreeWrite.Put(
            mode: try mode(wanted.mode), isCreation: wanted.create ?? false, makesParents: wanted.parents ?? false)
        if let text = wanted.mtime {
            guard let mtime = Timestamp(text: text) else { throw NodeError(.usage, "'\(text)' is no time") }
            put.mtime = mtime
        }
        let path = try path(wanted.path)
        // Asked for again: nothing need be sent again.
        if let known = try service.position(of: id) { return try written(known, wanted, request) }
        let upload = try Upload(folder: try service.uploads())
        upload.write = TreeWrite(path: path, operation: .put(put, upload: upload.name), request: id)
        upload.wanted = wanted
        self.upload = upload
        return ControlResponse()
    }

    private func commit(_ request: ControlRequest) throws -> ControlResponse {
        guard let upload, let write = upload.write, let wanted = upload.wanted else {
            throw NodeError(.usage, "commit without a put before it")
        }
        self.upload = nil
        defer { upload.discard() }
        try upload.finish()
        return try written(try service.write(write, seconds: request.waitSeconds), wanted, request)
    }

    private func write(_ request: ControlRequest) throws -> ControlResponse {
        let wanted = try wanted(request)
        let operation: TreeWrite.Operation =
            switch wanted.operation {
            case .put: throw NodeError(.usage, "put has content, which comes before its commit")
            case .rm: .remove(isRecursive: wanted.recursive ?? false)
            case .mv: .move(to: try path(wanted.to), replaces: !(wanted.noReplace ?? false))
            case .mkdir:
                .makeDirectory(mode: try mode(wanted.mode) ?? 0o755, makesParents: wanted.parents ?? false)
            case .rmdir: .removeDirectory
            case .chmod:
                if let mode = try mode(wanted.mode) {
                    .setMode(mode)
                } else {
                    throw NodeError(.usage, "chmod needs a mode")
                }
            case .ln: .makeSymlink(target: try target(wanted.target))
            }
        let write = TreeWrite(path: try path(wanted.path), operation: operation, request: try requestID(wanted))
        return try written(try service.write(write, seconds: request.waitSeconds), wanted, request)
    }

    private func target(_ text: String?) throws -> [UInt8] {
        guard let target = text.flatMap({ PathText.unescaped($0) }), !target.isEmpty, !target.contains(0),
            target.count <= Limits.maxLinkTargetBytes
        else { throw NodeError(.usage, "the target of a symlink is 1 to \(Limits.maxLinkTargetBytes) bytes") }
        return target
    }

    private func written(
        _ position: Position, _ wanted: WriteRequest, _ request: ControlRequest
    ) throws -> ControlResponse {
        try service.waitDurable(position, count: wanted.durable ?? 0, seconds: request.waitSeconds)
        var response = ControlResponse()
        response.position = PositionStatus(position)
        return response
    }
}

/// Content that comes piece by piece, into a file that nobody sees.
private final class Upload {
    let name = temporaryName()
    var write: TreeWrite?
    var wanted: WriteRequest?
    private let folder: Directory
    private var file: File?
    private var size: UInt64 = 0
    private var failure: (any Error)?

    init(folder: Directory) throws {
        self.folder = folder
        file = try folder.createFile(name)
    }

    func append(_ bytes: [UInt8]) throws {
        if let failure { throw failure }
        do {
            guard size <= UInt64(Int64.max) - UInt64(bytes.count) else {
                throw NodeError(.usage, "the content is larger than a file can be")
            }
            // A disk image is mostly zeros, and need not become larger than it is.
            if !bytes.allSatisfy({ $0 == 0 }) { try file!.write(bytes, at: size) }
            size += UInt64(bytes.count)
        } catch {
            failure = error
            throw error
        }
    }

    func finish() throws {
        if let failure { throw failure }
        try file!.truncate(to: size)
        try file.take()?.close()
    }

    /// Nothing is left of it but what the tree has taken over.
    func discard() {
        file = nil
        try? folder.unlink(name)
    }
}
