/// What is to happen to a program at one of its failpoints: Tests/WALFaults/include/walfaults.h.
struct Faults {
    enum Action: String {
        case kill, power, short
        case io = "EIO"
        case noSpace = "ENOSPC"
        case quota = "EDQUOT"
        case interrupted = "EINTR"
        case tooManyFiles = "EMFILE"
        case noMemory = "ENOMEM"
    }

    /// Below it everything counts.
    var root: String
    var action: Action?
    /// The number of the failpoint, from 1.
    var at = 0
    /// Failpoints in a row, 0 for all that follow.
    var times = 1
    /// Only those before one of these calls.
    var calls: [String] = []
    /// Only those in this part of the state folder, or in the tree.
    var place: String?
    /// Nothing is ever synced, and every sync succeeds.
    var lies = false
    /// A file that gets the name of each that is passed.
    var trace: String?

    /// To be put before the command.
    var wrapper: [String] {
        var words = ["env", "LD_PRELOAD=\(World.programs)/libwalfaults.so", "WALFAULTS_ROOT=\(root)"]
        if let action {
            words += ["WALFAULTS_DO=\(action.rawValue)", "WALFAULTS_AT=\(at)", "WALFAULTS_TIMES=\(times)"]
        }
        if !calls.isEmpty { words.append("WALFAULTS_CALL=\(calls.joined(separator: ","))") }
        if let place { words.append("WALFAULTS_PLACE=\(place)") }
        if lies { words.append("WALFAULTS_LIE=1") }
        if let trace { words.append("WALFAULTS_TRACE=\(trace)") }
        return words
    }
}
