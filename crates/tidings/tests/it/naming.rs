//! The derive and the words hold the same naming rules.

#[test]
fn the_derive_and_the_words_hold_the_same_naming_rules() {
    let words = include_str!("../../../tidings-core/src/event_type/naming.rs");
    let derive = include_str!("../../../tidings-macros/src/naming.rs");

    assert!(
        words == derive,
        "change both: crates/tidings-core/src/event_type/naming.rs and crates/tidings-macros/src/naming.rs"
    );
}
