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

    /// A client of the first target of the list that answers.
    static func connect(_ list: String, state: String?) async throws -> ControlClient {
        var failure = NodeError(.usage, "no target given")
        for text in list.split(separator: ",") {
            do {
                switch try Target(String(text)) {
                case .tree(let path): return try await ControlClient(tree: path, state: state)
                case .node(let address): return try await ControlClient(address)
                }
            } catch {
                failure = NodeError(error)
            }
        }
        throw failure
    }

    /// Asks one thing and closes.
    static func ask(_ list: String, state: String?, _ request: ControlRequest) async throws -> ControlResponse {
        let client = try await connect(list, state: state)
        do {
            let response = try await client.ask(request)
            await client.close()
            return response
        } catch {
            await client.close()
            throw error
        }
    }
}

extension ControlClient {
    /// The node that keeps the tree at `path`.
    convenience init(tree path: String, state: String?) async throws {
        let folder = try TreeState.open(path, state: state)
        do {
            try await self.init(stateFolder: folder)
        } catch {
            throw NodeError(.failed, "nothing runs for \(path); start walship or walrecv for it")
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
