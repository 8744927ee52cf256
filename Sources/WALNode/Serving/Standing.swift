import WALFormat
import WALLog
import WALWire

extension LogView {
    /// Where a receiver that is at `position` stands on this log.
    package func standing(of position: Position) throws(LogError) -> SenderMachine.Standing {
        let end = durableEnd
        if try holds(position) {
            let behind = try bytesBetween(after: position.seq, through: max(position.seq, end.seq))
            return .held(behindBytes: behind)
        }
        return position.seq < base.seq ? .pruned : .diverged(own: end)
    }
}
