//! Rule: each concept page has exactly one Rust snippet, and the front door compiles it as a doctest.

use crate::markdown;
use crate::tidy::Finding;
use crate::tidy::tree::Tree;

const PAGES: &str = "docs/concepts/";
const FRONT_DOOR: &str = "crates/tidings/src/";
const DOCTESTS: &str = "crates/tidings/src/concepts.rs";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts(".md")
        .filter_map(|(path, text)| path.strip_prefix(PAGES).map(|page| (path, page, text)))
        .flat_map(|(path, page, text)| {
            let snippets = snippet_trouble(path, text);
            snippets
                .into_iter()
                .chain(doctest_trouble(tree, path, page))
        })
        .collect()
}

fn snippet_trouble(path: &str, text: &str) -> Option<Finding> {
    let fences = markdown::fences(text);
    let rust = fences
        .iter()
        .filter(|info| info.starts_with("rust"))
        .count();
    let runnable = fences.iter().filter(|info| *info == "rust").count();
    let message = match (rust, runnable) {
        (1, 1) => return None,
        (1, _) => "its Rust snippet must run: the fence says plain ```rust".to_owned(),
        (count, _) => format!("has {count} Rust snippets; a concept page has exactly one"),
    };
    Some(Finding::new(path, 1, message))
}

fn doctest_trouble(tree: &Tree, path: &str, page: &str) -> Option<Finding> {
    if !tree.exists(FRONT_DOOR) {
        return None;
    }
    let included = tree
        .text(DOCTESTS)
        .is_some_and(|text| text.contains(&format!("{PAGES}{page}\"")));
    let message =
        format!("is not included by `#[doc = include_str!(…)]` in {DOCTESTS}, so nothing runs it");
    (!included).then(|| Finding::new(path, 1, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files))
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn a_page_has_exactly_one_snippet() {
        let one = "```rust\n```\n```text\n```\n";
        assert_eq!(
            findings(&[("docs/concepts/event.md", one)]),
            [] as [String; 0]
        );
        assert_eq!(
            findings(&[("docs/concepts/event.md", "no snippet")]).len(),
            1
        );
        assert_eq!(
            findings(&[("docs/concepts/event.md", "```rust\n```\n```rust\n```\n")]).len(),
            1
        );
    }

    #[test]
    fn a_snippet_that_does_not_run_is_reported() {
        let found = findings(&[("docs/concepts/event.md", "```rust,ignore\n```\n")]);

        assert!(found[0].contains("must run"));
    }

    #[test]
    fn a_page_that_the_front_door_does_not_include_is_reported() {
        let page = ("docs/concepts/event.md", "```rust\n```\n");
        let included = "#[doc = include_str!(\"../../../docs/concepts/event.md\")]\n";

        assert_eq!(findings(&[page, (DOCTESTS, included)]), [] as [String; 0]);
        assert_eq!(findings(&[page, (DOCTESTS, "")]).len(), 1);
    }
}
