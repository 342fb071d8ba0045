//! Rule: every example says what it prints, in expected.txt, and how to run it, in its head.

use std::collections::BTreeSet;

use crate::tidy::Finding;
use crate::tidy::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let names: BTreeSet<&str> = tree
        .paths()
        .filter_map(|path| path.strip_prefix("examples/")?.split_once('/'))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    names
        .into_iter()
        .flat_map(|name| trouble_of(tree, name))
        .collect()
}

fn trouble_of(tree: &Tree, name: &str) -> Vec<Finding> {
    let folder = format!("examples/{name}");
    let mut findings = Vec::new();
    for file in ["Cargo.toml", "expected.txt", "src/main.rs"] {
        if !tree.exists(&format!("{folder}/{file}")) {
            findings.push(Finding::new(&folder, 1, format!("has no {file}")));
        }
    }
    let expected = format!("{folder}/expected.txt");
    if tree
        .text(&expected)
        .is_some_and(|text| text.trim().is_empty())
    {
        findings.push(Finding::new(
            &expected,
            1,
            "is empty: an example shows something",
        ));
    }
    let main = format!("{folder}/src/main.rs");
    if tree
        .text(&main)
        .is_some_and(|text| !head(text).contains("cargo run"))
    {
        findings.push(Finding::new(
            &main,
            1,
            "the head must show the `cargo run` line that runs it",
        ));
    }
    findings
}

fn head(text: &str) -> String {
    text.lines()
        .take_while(|line| line.starts_with("//!"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "//! Shows it. Run: cargo run --manifest-path examples/01_a/Cargo.toml\n";

    #[test]
    fn a_complete_example_is_fine() {
        let tree = Tree::of(&[
            ("examples/Cargo.toml", ""),
            ("examples/01_a/Cargo.toml", ""),
            ("examples/01_a/src/main.rs", HEAD),
            ("examples/01_a/expected.txt", "out\n"),
        ]);

        assert_eq!(check(&tree), []);
    }

    #[test]
    fn missing_output_empty_output_and_a_mute_head_are_reported() {
        let tree = Tree::of(&[
            ("examples/01_a/Cargo.toml", ""),
            ("examples/01_a/src/main.rs", HEAD),
            ("examples/02_b/Cargo.toml", ""),
            ("examples/02_b/src/main.rs", "//! Mute.\n"),
            ("examples/02_b/expected.txt", "\n"),
        ]);

        let messages: Vec<String> = check(&tree)
            .into_iter()
            .map(|finding| finding.message)
            .collect();

        assert_eq!(messages.len(), 3);
        assert_eq!(messages[0], "has no expected.txt");
    }

    #[test]
    fn output_without_an_example_is_reported() {
        assert_eq!(
            check(&Tree::of(&[("examples/03_c/expected.txt", "out\n")])).len(),
            2
        );
    }
}
