import Foundation

/// Where two arrays part, nil where they are equal. An expectation on this says more about long ones than one on `==`,
/// and at once: to print how they differ takes a test library minutes.
package func firstDifference<Element: Equatable>(_ one: [Element], _ other: [Element]) -> Int? {
    if one == other { return nil }
    return zip(one, other).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(one.count, other.count)
}

package func firstDifference(_ one: [UInt8], _ other: [UInt8]) -> Int? {
    // A loop over bytes in a debug build is a thousand times slower.
    let areEqual = one.withUnsafeBytes { left in
        other.withUnsafeBytes { right in
            guard left.count == right.count else { return false }
            return left.isEmpty || memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0
        }
    }
    if areEqual { return nil }
    return zip(one, other).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(one.count, other.count)
}
