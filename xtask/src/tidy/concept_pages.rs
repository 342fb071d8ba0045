//! Rule: each concept page has exactly one Rust snippet that runs, the README one that compiles,
//! and the front door takes all of them in as doctests.

use crate::markdown;
use crate::tidy::Finding;
use crate::tidy::tree::Tree;

const PAGES: &str = "docs/concepts/";
const README: &str = "README.md";
const FRONT_DOOR: &str = "crates/tidings/src/";
const DOCTESTS: &str = "crates/tidings/src/concepts.rs";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts(".md")
        .filter_map(|(path, text)| Some((path, text, fence_of(path)?)))
        .flat_map(|(path, text, fence)| {
            let snippet = snippet_trouble(path, text, fence);
            snippet.into_iter().chain(doctest_trouble(tree, path))
        })
        .collect()
}

/// How the page's one snippet is marked; nothing for pages that need none.
fn fence_of(path: &str) -> Option<&'static str> {
    if path == README {
        // It opens a folder by a real name, so it is compiled and not run.
        return Some("rust,no_run");
    }
    path.starts_with(PAGES).then_some("rust")
}

fn snippet_trouble(path: &str, text: &str, fence: &str) -> Option<Finding> {
    let fences = markdown::fences(text);
    let rust: Vec<&String> = fences
        .iter()
        .filter(|info| info.starts_with("rust"))
        .collect();
    let message = match rust.as_slice() {
        [only] if *only == fence => return None,
        [only] => format!("its snippet is marked ```{only}, it must be ```{fence}"),
        several => format!("has {} Rust snippets, it needs one", several.len()),
    };
    Some(Finding::new(path, 1, message))
}

fn doctest_trouble(tree: &Tree, path: &str) -> Option<Finding> {
    if !tree.exists(FRONT_DOOR) {
        return None;
    }
    let included = tree
        .text(DOCTESTS)
        .is_some_and(|text| text.contains(&format!("/{path}\")")));
    let message = format!(
        "no `#[doc = include_str!(\"../../../{path}\")]` in {DOCTESTS}, so nothing compiles its snippet"
    );
    (!included).then(|| Finding::new(path, 1, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "docs/concepts/event.md";

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let found = check(&Tree::of(files));
        found.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_concept_page_has_exactly_one_snippet() {
        let one = "```rust\n```\n```text\n```\n";
        let two = "```rust\n```\n```rust\n```\n";

        assert_eq!(findings(&[(EVENT, one)]), [] as [String; 0]);
        assert_eq!(findings(&[(EVENT, "none")]).len(), 1);
        assert_eq!(findings(&[(EVENT, two)]).len(), 1);
    }

    #[test]
    fn a_snippet_that_does_not_run_is_reported() {
        let found = findings(&[(EVENT, "```rust,ignore\n```\n")]);

        assert_eq!(found.len(), 1);
        assert!(found[0].contains("must be ```rust"), "{found:?}");
    }

    #[test]
    fn the_readme_has_one_snippet_that_compiles() {
        assert_eq!(
            findings(&[(README, "```rust,no_run\n```\n")]),
            [] as [String; 0]
        );
        assert_eq!(findings(&[(README, "```rust\n```\n")]).len(), 1);
    }

    #[test]
    fn a_page_that_the_front_door_does_not_take_in_is_reported() {
        let page = (EVENT, "```rust\n```\n");
        let included = "#[doc = include_str!(\"../../../docs/concepts/event.md\")]\nmod event {}\n";

        assert_eq!(findings(&[page, (DOCTESTS, included)]), [] as [String; 0]);
        assert_eq!(findings(&[page, (DOCTESTS, "")]).len(), 1);
    }

    #[test]
    fn other_pages_may_show_what_they_like() {
        assert_eq!(
            findings(&[("STYLE.md", "```rust\n```\n```rust\n```\n")]),
            [] as [String; 0]
        );
    }
}
