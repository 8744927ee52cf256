import Glibc
import WALFuzz

/// The fuzzer's own loop, which is linked in by `-sanitize=fuzzer`, https://llvm.org/docs/LibFuzzer.html.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ one: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// Which parser.
nonisolated(unsafe) private var target: FuzzTarget?

guard let name = getenv("WALFUZZ_TARGET"), let wanted = FuzzTarget(rawValue: String(cString: name)) else {
    fatalError("WALFUZZ_TARGET is none of \(FuzzTarget.allCases.map(\.rawValue))")
}
target = wanted
var count = CommandLine.argc
var arguments = CommandLine.unsafeArgv
exit(
    runDriver(&count, &arguments) { bytes, count in
        target!.run(UnsafeRawBufferPointer(start: bytes, count: count))
        return 0
    })
