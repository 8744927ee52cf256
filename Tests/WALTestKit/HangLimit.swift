package import Testing

extension Trait where Self == TimeLimitTrait {
    /// The end of a test that hangs, and nothing else. The clock of a test starts with the run, when all tests are
    /// started at once, and a test that does not suspend keeps one of the few threads that all of them share: what counts
    /// is the time of the whole run, so no limit is shorter than the longest run that is right.
    package static var hangLimit: Self { .timeLimit(.minutes(60)) }

    /// The same for tests whose long version a person starts and lets run for hours.
    package static var longLimit: Self { .timeLimit(.minutes(1440)) }
}
