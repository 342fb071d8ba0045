//! Golden compiler messages of wrong events and wrong handlers: what a user reads must name the mistake and the way out.
//!
//! They are compiled once more, as a user's program. That is here, in a package without features, so that neither databases nor clients of brokers are built for it;
//! and only what fails is here, which is checked without making code. What must compile stands in ordinary tests.

#[test]
fn wrong_events_and_wrong_handlers_say_what_is_wrong() {
    let cases = trybuild::TestCases::new();

    cases.compile_fail("tests/ui/events/*.rs");
    cases.compile_fail("tests/ui/handlers/*.rs");
}
