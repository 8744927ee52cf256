// swift-tools-version: 6.2
import PackageDescription

/// Every target is compiled in Swift 6 mode; a warning is an error, so that none is ever left standing.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let signals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let sqlite = Target.Dependency.product(name: "GRDBSQLite", package: "GRDB.swift")

/// A room of the suite. `knows` is the whole list of what it may import: an arrow points down only (README, "Rooms").
func room(_ name: String, knows: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: knows, swiftSettings: settings)
}

func command(_ name: String) -> Target {
    .executableTarget(
        name: name,
        dependencies: [
            "WALCommand", "WALNode", "WALCapture", "WALLog", "WALSystem", "WALFormat", arguments, logging, lifecycle,
        ], swiftSettings: settings)
}

func tests(of name: String, knows: [Target.Dependency] = []) -> Target {
    .testTarget(
        name: name + "Tests", dependencies: [.init(stringLiteral: name), "WALTestKit"] + knows,
        swiftSettings: settings)
}

let package = Package(
    name: "walship",
    products: [
        .executable(name: "walship", targets: ["walship"]),
        .executable(name: "walrecv", targets: ["walrecv"]),
        .executable(name: "walctl", targets: ["walctl"]),
        // Preloaded into the programs by tests.
        .library(name: "walfaults", type: .dynamic, targets: ["WALFaults"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    ],
    targets: [
        command("walship"),
        command("walrecv"),
        command("walctl"),
        room(
            "WALCommand",
            knows: ["WALNode", "WALCapture", "WALSystem", "WALFormat", arguments, logging, lifecycle, signals]),
        room(
            "WALNode",
            knows: [
                "WALWire", "WALCapture", "WALApply", "WALCatalog", "WALLog", "WALSystem", "WALFormat", nioCore,
                nioPosix, logging, lifecycle,
            ]),
        room("WALWire", knows: ["WALFormat"]),
        room("WALCapture", knows: ["WALCatalog", "WALSystem", "WALFormat"]),
        room("WALApply", knows: ["WALCatalog", "WALSystem", "WALFormat"]),
        room("WALCatalog", knows: ["WALSystem", "WALFormat", grdb, sqlite]),
        room("WALLog", knows: ["WALSystem", "WALFormat"]),
        room("WALSystem", knows: ["CLinux", "WALFormat"]),
        room("WALFormat", knows: ["CZlib", "CXXHash"]),
        .target(name: "CLinux"),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),

        .target(
            name: "WALFaults", path: "Tests/WALFaults", linkerSettings: [.linkedLibrary("dl")]),
        .target(
            name: "WALTestKit", dependencies: ["WALFormat", "WALSystem"], path: "Tests/WALTestKit",
            swiftSettings: settings),
        .target(
            name: "WALTreeKit", dependencies: ["WALTestKit", "WALCapture", "WALCatalog", "WALSystem", "WALFormat"],
            path: "Tests/WALTreeKit", swiftSettings: settings),
        .target(
            name: "WALFuzz", dependencies: ["WALTestKit", "WALNode", "WALWire", "WALApply", "WALFormat"],
            path: "Tests/WALFuzz",
            swiftSettings: settings),
        .testTarget(
            name: "WALFuzzTests", dependencies: ["WALFuzz", "WALTestKit", "WALWire", "WALFormat"],
            swiftSettings: settings),
        tests(of: "WALFormat"),
        tests(of: "WALSystem"),
        tests(of: "WALLog", knows: ["WALFormat", "WALSystem"]),
        tests(of: "WALCatalog", knows: ["WALFormat", "WALSystem"]),
        tests(of: "WALCapture", knows: ["WALTreeKit", "WALCatalog", "WALFormat", "WALSystem"]),
        tests(of: "WALApply", knows: ["WALTreeKit", "WALCapture", "WALCatalog", "WALFormat", "WALSystem"]),
        tests(of: "WALWire", knows: ["WALFormat"]),
        tests(of: "WALNode", knows: ["WALWire", "WALFormat", "WALSystem", "WALLog", "WALCatalog"]),
        tests(of: "WALCommand", knows: ["WALNode"]),
        .testTarget(
            name: "WALSimulatorTests",
            dependencies: ["WALTestKit", "WALNode", "WALWire", "WALLog", "WALSystem", "WALFormat", "WALFaults"],
            swiftSettings: settings),
        .testTarget(
            name: "CommandTests",
            dependencies: [
                "WALTestKit", "WALTreeKit", "WALNode", "WALSystem", "WALFormat", "walship", "walrecv", "walctl",
                "WALFaults",
            ],
            exclude: ["Decoder"],
            swiftSettings: settings),
    ]
)

// Linked with libFuzzer, which brings its own main: for Tests/fuzz alone.
if Context.environment["WALSHIP_FUZZ"] != nil {
    package.targets.append(
        .executableTarget(
            name: "walfuzz", dependencies: ["WALFuzz"], path: "Tests/walfuzz", swiftSettings: settings))
}
