import Testing
import WALCommand
import WALNode

@Suite struct ArgumentTests {
    @Test(
        arguments: [("0", 0), ("512", 512), ("1K", 1024), ("3m", 3 << 20), ("4G", 4 << 30), ("1T", 1 << 40)]
            as [(String, UInt64)])
    func readsSizes(text: String, bytes: UInt64) {
        #expect(ByteSize(argument: text)?.bytes == bytes)
    }

    @Test(arguments: ["", "K", "-1", "+1", "1.5G", "1KB", "20000000T", "0x10"])
    func refusesSizes(text: String) {
        #expect(ByteSize(argument: text) == nil)
    }

    @Test(
        arguments: [("50ms", 0.05), ("30", 30), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("1d", 86_400)]
            as [(String, Double)])
    func readsTimes(text: String, seconds: Double) {
        #expect(TimeSpan(argument: text)?.seconds == seconds)
    }

    @Test(arguments: ["", "s", "-1s", "1e9", "nan", "1 s", "99999999999d"])
    func refusesTimes(text: String) {
        #expect(TimeSpan(argument: text) == nil)
    }
}

@Suite struct ProgressTests {
    @Test func saysFilesBytesRateAndTimeLeft() {
        let progress = NodeStatus.Progress(files: 10, totalFiles: 40, bytes: 2_000_000, totalBytes: 8_000_000)
        #expect(
            ProgressBar.text("syncing", progress, seconds: 2)
                == "syncing  10/40 files  2.0 MB/8.0 MB  1.0 MB/s  6 s left")
    }

    @Test func saysNoMoreThanItKnows() {
        let progress = NodeStatus.Progress(files: 10, totalFiles: nil, bytes: 0, totalBytes: nil)
        #expect(ProgressBar.text("scanning", progress, seconds: 0) == "scanning  10 files  0 B  0 B/s")
    }

    @Test func usesUnitsOfAThousand() {
        #expect(Units.bytes(999) == "999 B")
        #expect(Units.bytes(1_500) == "1.5 kB")
        #expect(Units.bytes(2_500_000_000_000) == "2.5 TB")
        #expect(Units.seconds(nil) == "unknown")
    }
}
