import WALFormat
import WALTestKit

/// Entries of every sort that a reader takes, with values at the ends of their ranges more often than life has them.
struct RandomEntries {
    var writer = ChangeWriter()
    /// What was written.
    private(set) var changes: [Change] = []

    init(_ count: Int, _ random: inout SeededRandom) {
        for _ in 0..<count { append(&random) }
    }

    private mutating func append(_ random: inout SeededRandom) {
        let object = RandomEntries.object(&random)
        switch random.int(in: 0..<11) {
        case 10:
            let request = RequestID(RandomEntries.digest(&random))
            writer.request(request)
            changes.append(.request(request))
        case 9:
            let filter = RandomEntries.filter(&random)
            writer.filter(filter)
            changes.append(.filter(filter))
        case 7:
            let metadata = RandomEntries.metadata(&random)
            writer.fifo(object, metadata)
            changes.append(.put(object, metadata, .fifo))
        case 8:
            let metadata = RandomEntries.metadata(&random)
            let kind = random.once(in: 2) ? Kind.blockDevice : .characterDevice
            let number = DeviceNumber(
                major: UInt32(truncatingIfNeeded: random.anyUInt64()), minor: random.once(in: 3) ? .max : 0)
            writer.device(object, kind, metadata, number)
            changes.append(.put(object, metadata, .device(kind, number)))
        case 0:
            let metadata = RandomEntries.metadata(&random)
            writer.metadata(object, metadata)
            changes.append(.metadata(object, metadata))
        case 1:
            let metadata = RandomEntries.metadata(&random)
            writer.directory(object, metadata)
            changes.append(.put(object, metadata, .directory))
        case 2:
            let metadata = RandomEntries.metadata(&random)
            let length = random.once(in: 10) ? Limits.maxLinkTargetBytes : random.int(in: 1...60)
            let target = random.bytes(length).map { max($0, 1) }
            writer.symlink(object, metadata, target: target)
            changes.append(.put(object, metadata, .symlink(target: target)))
        case 3:
            let name = RandomEntries.name(&random)
            let bound = RandomEntries.object(&random)
            writer.bind(parent: object, name, bound)
            changes.append(.bind(parent: object, name, bound))
        case 4:
            let name = RandomEntries.name(&random)
            writer.unbind(parent: object, name)
            changes.append(.unbind(parent: object, name))
        case 5:
            writer.drop(object)
            changes.append(.drop(object))
        default: appendFile(object, &random)
        }
    }

    private mutating func appendFile(_ object: ObjectID, _ random: inout SeededRandom) {
        let metadata = RandomEntries.metadata(&random)
        var sources: [ContentSource] = []
        writer.beginFile(object, metadata)
        var extents: [Extent] = []
        var size: UInt64 = 0
        for _ in 0..<random.int(in: 0...6) {
            switch random.int(in: 0..<4) {
            case 0:
                let data = random.bytes(random.once(in: 20) ? Limits.maxChunkBytes : random.int(in: 1...300))
                data.withUnsafeBytes { writer.data($0) }
                extents.append(.data(writer.rawBytes - data.count..<writer.rawBytes))
                size += UInt64(data.count)
            case 1:
                let length = (random.next() >> UInt64(random.int(in: 20...63))) + 1
                writer.hole(length)
                extents.append(.hole(length))
                size += length
            case 2:
                let source = random.int(in: 0...sources.count)
                if source == sources.count {
                    sources.append(
                        ContentSource(object: RandomEntries.object(&random), content: RandomEntries.digest(&random)))
                }
                let offset = random.anyUInt64() >> 1
                let length = (random.next() >> UInt64(random.int(in: 20...63))) + 1
                writer.copy(from: sources[source], offset: offset, length: length)
                extents.append(.copy(source: source, offset: offset, length: length))
                size += length
            default:
                let block = ContentBlock(
                    length: UInt32(random.int(in: 1...Limits.maxChunkBytes)), digest: RandomEntries.digest(&random))
                writer.fetch(block)
                extents.append(.fetch(block))
                size += UInt64(block.length)
            }
        }
        let digest = RandomEntries.digest(&random)
        writer.endFile(size: size, digest: digest)
        changes.append(
            .put(
                object, metadata, .file(FileContent(size: size, digest: digest, sources: sources, extents: extents))))
    }

    static func object(_ random: inout SeededRandom) -> ObjectID {
        min(max(random.anyUInt64(), 1), ObjectID.firstLocal - 1)
    }

    static func digest(_ random: inout SeededRandom) -> Digest {
        Digest(high: random.next(), low: random.next())
    }

    static func metadata(_ random: inout SeededRandom) -> Metadata {
        Metadata(
            mode: UInt16(random.int(in: 0...0o7777)), uid: UInt32(truncatingIfNeeded: random.anyUInt64()),
            gid: random.once(in: 10) ? .max : UInt32(truncatingIfNeeded: random.anyUInt64()),
            mtime: Timestamp(
                seconds: random.once(in: 10) ? .min : Int64(bitPattern: random.anyUInt64()),
                nanoseconds: random.once(in: 10) ? 999_999_999 : UInt32(random.int(in: 0...999_999_999))),
            attributes: random.once(in: 3) ? attributes(&random) : .none)
    }

    static func attributes(_ random: inout SeededRandom) -> Attributes {
        var pairs: [[UInt8]: [UInt8]] = [:]
        for _ in 0..<random.int(in: 1...4) {
            let name = random.bytes(random.once(in: 10) ? Limits.maxNameBytes : random.int(in: 1...30)).map {
                max($0, 1)
            }
            pairs[name] = random.bytes(random.once(in: 10) ? 20_000 : random.int(in: 0...100))
        }
        return try! Attributes(pairs.map { ($0.key, $0.value) })
    }

    static func name(_ random: inout SeededRandom) -> Name {
        let length = random.once(in: 10) ? Limits.maxNameBytes : random.int(in: 1...30)
        // Neither NUL, nor a slash, nor a dot.
        let bytes = random.bytes(length).map { $0 == 0 || $0 == 0x2F || $0 == 0x2E ? 0x61 : $0 }
        return Name(trusted: bytes)
    }

    /// Of up to five rules, or as many as there may be.
    private static func filter(_ random: inout SeededRandom) -> Filter {
        let count = random.once(in: 20) ? Limits.maxFilterRules : random.int(in: 0...5)
        var text: [UInt8] = []
        for _ in 0..<count {
            let length = count > 5 ? 1 : random.once(in: 10) ? Limits.maxPatternBytes : random.int(in: 1...20)
            let pattern = random.bytes(length).map { $0 == 0 || $0 == 0x0A ? 0x2A : $0 }
            text += [random.once(in: 2) ? 0x2B : 0x2D, 0x20] + pattern + [0x0A]
        }
        return try! Filter(text: text)
    }
}
