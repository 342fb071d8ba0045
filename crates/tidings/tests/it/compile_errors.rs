//! Golden compiler messages of wrong handlers: what a user reads must name the mistake and the way out.

#[test]
fn right_handlers_compile_and_wrong_ones_say_what_is_wrong() {
    let cases = trybuild::TestCases::new();

    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
