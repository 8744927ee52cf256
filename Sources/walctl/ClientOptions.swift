import ArgumentParser
import WALCommand
import WALFormat
import WALNode

/// What all verbs have in common that read and write a tree through a node.
struct ReachOptions: ParsableArguments {
    @OptionGroup var target: TargetOptions

    @Flag(name: .customLong("no-redirect"), help: "Print the address of the node that would answer, and exit 2.")
    var noRedirect = false

    @Option(help: ArgumentHelp("Keep the highest position seen in this file, and ask for it.", valueName: "file"))
    var session: String?

    @Option(parsing: .unconditional, help: "How long to wait and to try again.")
    var timeout = TimeSpan(seconds: 30)

    func sessionFile() throws -> SessionFile? { try session.map { try SessionFile($0) } }
}

struct WriteOptions: ParsableArguments {
    @OptionGroup var reach: ReachOptions

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Wait until so many replicas have it on their disks.", valueName: "number"))
    var durable: Int?

    @Option(
        help: ArgumentHelp(
            "The number of this write, 32 hexadecimal digits: sent again with it, it is not done again.",
            valueName: "id"))
    var request: String?

    func validate() throws {
        if let durable, durable < 1 { throw ValidationError("--durable must be at least 1") }
        if let request, (try? RequestID(text: request)) == nil {
            throw ValidationError("--request: '\(request)' is not 32 hexadecimal digits")
        }
    }

    func makeRequest(_ operation: WriteRequest.Operation, _ path: String) -> WriteRequest {
        var write = WriteRequest(operation, path: path)
        if let request { write.requestId = request }
        write.durable = durable
        return write
    }

    /// Does it wherever the primary is, and prints the position.
    func perform(_ write: WriteRequest, content: PutContent? = nil) async throws {
        let session = try reach.sessionFile()
        let caller = Caller(reach)
        do {
            let response = try await caller.callPrimary { client, seconds in
                var request = ControlRequest(content == nil ? .write : .put)
                request.write = write
                request.write?.after = try session?.position()
                request.timeoutSeconds = seconds
                guard let content else { return try await client.ask(request) }
                return try await content.send(request, to: client)
            }
            guard let position = response.position else {
                throw NodeError(.failed, "the node's answer holds no position")
            }
            // Whatever becomes of the session, it is written.
            try printAnswer(position.text)
            try session?.note(position.text)
        } catch let error as NodeError {
            // Written, if not as safe as it was to be.
            if let position = error.position {
                try printAnswer(position)
                try session?.note(position)
            }
            throw session?.explained(error) ?? error
        }
    }
}

struct ReadOptions: ParsableArguments {
    @OptionGroup var reach: ReachOptions

    @Flag(help: "Take what the node has, however old. This is the default.")
    var eventual = false

    @Option(
        name: .customLong("max-stale"), parsing: .unconditional,
        help: "Refuse an answer of a replica that was current longer ago.")
    var maxStale: TimeSpan?

    @Option(help: ArgumentHelp("Wait until this position is applied.", valueName: "position"))
    var after: String?

    @Flag(help: "Only the primary may answer.")
    var primary = false

    func validate() throws {
        if eventual, maxStale != nil || after != nil || primary {
            throw ValidationError("--eventual excludes --max-stale, --after and --primary")
        }
        if let after {
            do { _ = try PositionText(after) } catch { throw ValidationError("--after: \(error)") }
        }
    }

    /// Reads with one node, and with another where that fails; `body` may be called several times.
    func perform(
        _ verb: ControlRequest.Verb, _ path: String,
        _ body: (ControlClient, ControlRequest) async throws -> Freshness?
    ) async throws {
        let session = try reach.sessionFile()
        var look = ReadRequest(path: path)
        look.maxStaleSeconds = maxStale?.seconds
        look.after = try SessionFile.higher(after, session?.position())
        look.primary = primary ? true : nil
        look.wantsPosition = session == nil ? nil : true
        let wanted = look
        let freshness: Freshness?
        do {
            freshness = try await Caller(reach).callFreshest { client, seconds in
                var request = ControlRequest(verb)
                request.look = wanted
                request.timeoutSeconds = seconds
                return try await body(client, request)
            }
        } catch let error as NodeError {
            throw session?.explained(error) ?? error
        }
        if let position = freshness?.position { try session?.note(position.text) }
    }
}

/// Bits of a mode as chmod(1) takes them in digits.
struct OctalMode: FormedArgument {
    static let form = "a mode of up to four octal digits, as 0644"
    let bits: UInt16

    init?(form text: String) {
        guard (1...4).contains(text.utf8.count), let bits = UInt16(text, radix: 8), bits <= 0o7777,
            text.utf8.allSatisfy({ (0x30...0x37).contains($0) })
        else { return nil }
        self.bits = bits
    }
}
