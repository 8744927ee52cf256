/// A command line in one option, as a shell would take it apart: quotes and backslashes keep a word together. Nothing else has a
/// meaning: nothing is expanded, and no shell is run.
package enum QuotedWords {
    /// nil where a quote is not closed, or nothing follows a backslash.
    package static func split(_ text: String) -> [String]? {
        var words: [String] = []
        var word: String?
        var quote: Character?
        var isEscaped = false
        for sign in text {
            if isEscaped {
                // Within double quotes a backslash means itself before other signs.
                if quote == "\"", sign != "\"", sign != "\\" { word = (word ?? "") + "\\" }
                word = (word ?? "") + String(sign)
                isEscaped = false
            } else if sign == "\\", quote != "'" {
                isEscaped = true
            } else if let open = quote {
                if sign == open { quote = nil } else { word = (word ?? "") + String(sign) }
            } else if sign == "'" || sign == "\"" {
                quote = sign
                word = word ?? ""
            } else if sign == " " || sign == "\t" || sign == "\n" {
                if let whole = word { words.append(whole) }
                word = nil
            } else {
                word = (word ?? "") + String(sign)
            }
        }
        guard quote == nil, !isEscaped else { return nil }
        if let whole = word { words.append(whole) }
        return words
    }
}
