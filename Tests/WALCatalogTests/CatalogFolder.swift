import Glibc
import WALSystem

/// A new folder for catalogs, removed with the last who holds this.
final class CatalogFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/walship-catalog-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError(code: errno, call: "mkdtemp") }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        try? Directory.open(path: path).removeContents()
        rmdir(path)
    }
}
