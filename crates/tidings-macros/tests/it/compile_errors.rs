//! Golden compiler messages: `pass/` must compile, each file of `fail/` must fail with the message beside it.

#[test]
fn right_events_compile_and_wrong_ones_say_what_is_wrong() {
    let cases = trybuild::TestCases::new();

    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
