//! Rule: every Rust file begins with `//!` and says what is in it.

use crate::tidy::Finding;
use crate::tidy::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts(".rs")
        .filter(|(_, text)| !has_head(text))
        .map(|(path, _)| {
            Finding::new(
                path,
                1,
                "the first line must be `//!` and a sentence about what is in the file",
            )
        })
        .collect()
}

fn has_head(text: &str) -> bool {
    text.strip_prefix("//!")
        .and_then(|rest| rest.lines().next())
        .is_some_and(|first| first.trim().len() > 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_head_is_reported() {
        let tree = Tree::of(&[
            ("a.rs", "//! What it is.\n"),
            ("b.rs", "use a;\n"),
            ("c.rs", "//!\n"),
        ]);

        let paths: Vec<String> = check(&tree)
            .into_iter()
            .map(|finding| finding.path)
            .collect();

        assert_eq!(paths, ["b.rs", "c.rs"]);
    }
}
