/// Just enough of RFC 8259 to write what Python's `json.dumps(value, indent=2, ensure_ascii=False)` writes: two programs
/// agree when their texts do.
indirect enum JSON {
    case number(any BinaryInteger)
    case string(String)
    case array([JSON])
    case object([(String, JSON)])

    var text: String { written(indent: "") }

    private func written(indent: String) -> String {
        let inner = indent + "  "
        func lines(_ items: [String], _ open: String, _ close: String) -> String {
            if items.isEmpty { return open + close }
            return open + "\n" + items.map { inner + $0 }.joined(separator: ",\n") + "\n" + indent + close
        }
        switch self {
        case .number(let value): return value.description
        case .string(let value): return JSON.quoted(value)
        case .array(let values): return lines(values.map { $0.written(indent: inner) }, "[", "]")
        case .object(let members):
            return lines(members.map { JSON.quoted($0.0) + ": " + $0.1.written(indent: inner) }, "{", "}")
        }
    }

    /// Control characters never get here: paths are escaped before.
    private static func quoted(_ text: String) -> String {
        "\""
            + text.split(separator: "\\", omittingEmptySubsequences: false).joined(separator: "\\\\")
            .split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"") + "\""
    }
}
