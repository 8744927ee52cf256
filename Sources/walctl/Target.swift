import WALFormat
import WALNode
import WALSystem

/// Whom a command speaks to.
enum Target {
    case tree(String)
    case node(Address)

    /// Paths are told from addresses by what they are: a directory that exists, or something with a slash in it.
    init(_ text: String) throws {
        if text.contains("/") || text == "." || text == ".." || (try? Directory.open(path: text)) != nil {
            self = .tree(text)
        } else {
            do { self = .node(try Address(text)) } catch {
                throw NodeError(.usage, "'\(text)' is neither a directory nor HOST:PORT")
            }
        }
    }

    /// Who answers for a target: a node, or where nothing runs a tree's own files.
    enum Answerer {
        case node(ControlClient)
        case files(path: String, folder: Directory)
    }

    /// The first target of the list that answers; files do only where `fromFiles`.
    static func reach(_ list: String, state: String?, fromFiles: Bool = false, silence: Double? = nil) async throws
        -> Answerer
    {
        var failure = NodeError(.usage, "no target given")
        for text in list.split(separator: ",") {
            do {
                switch try Target(String(text)) {
                case .node(let address): return .node(try await ControlClient(address, silence: silence))
                case .tree(let path):
                    let folder = try TreeState.open(path, state: state)
                    if let client = try? await ControlClient(stateFolder: folder, silence: silence) {
                        return .node(client)
                    }
                    if fromFiles { return .files(path: path, folder: folder) }
                    throw NodeError(.unreachable, "nothing runs for \(path); start walship or walrecv for it")
                }
            } catch {
                failure = NodeError(error)
            }
        }
        throw failure
    }

    /// Where others of its group reach the first node of the list that answers.
    static func groupAddress(_ list: String, state: String?) async throws -> Address {
        if !list.contains(","), case .node(let address) = try Target(list) { return address }
        let status = try await ask(list, state: state, ControlRequest(.status)).status
        guard let address = try status?.group?.address.map({ try Address($0) }) else {
            throw NodeError(
                .failed,
                "\(list) is not reached by others of its group; start it with --listen HOST:PORT, "
                    + "and with --advertise HOST:PORT where it listens on every address")
        }
        return address
    }

    static func addresses(_ list: String) throws -> [Address] {
        try list.split(separator: ",").map { text in
            do { return try Address(String(text)) } catch {
                throw NodeError(.usage, "'\(text)' is not HOST:PORT")
            }
        }
    }

    /// Asks the first node that answers one thing.
    static func ask(
        _ list: String, state: String?, _ request: ControlRequest, silence: Double? = nil
    ) async throws -> ControlResponse {
        guard case .node(let client) = try await reach(list, state: state, silence: silence) else {
            throw NodeError(.failed, "nothing runs for \(list)")
        }
        return try await client.askOnce(request)
    }
}

extension ControlClient {
    /// Asks one thing and closes.
    func askOnce(_ request: ControlRequest) async throws -> ControlResponse {
        do {
            let response = try await ask(request)
            await close()
            return response
        } catch {
            await close()
            throw error
        }
    }
}

/// The state folder of a tree, for those who only read.
enum TreeState {
    static func path(_ path: String, state: String?) -> String {
        state ?? path + (path.hasSuffix("/") ? "" : "/") + StateFolder.defaultName
    }

    static func open(_ path: String, state: String?) throws -> Directory {
        _ = try StateFolder.openRoot(path)
        let folder = self.path(path, state: state)
        do throws(SystemError) {
            return try Directory.open(path: folder)
        } catch {
            guard error.isNotFound else { throw NodeError(.failed, "\(error)") }
            throw NodeError(.failed, "\(path) is not kept by walship or walrecv: there is no \(folder)")
        }
    }
}
