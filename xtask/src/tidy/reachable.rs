//! Rule: no Rust file lies around: each is a crate root or the module of a reachable file.

use std::collections::BTreeSet;

use crate::tidy::Finding;
use crate::tidy::modules;
use crate::tidy::source::is_below;
use crate::tidy::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let candidates: BTreeSet<&str> = tree
        .sources()
        .map(|source| source.path.as_str())
        .filter(|path| is_compiled(path))
        .collect();
    let mut reached = BTreeSet::new();
    for root in candidates.iter().filter(|path| modules::is_root(path)) {
        reach(tree, root, &mut reached);
    }
    candidates
        .into_iter()
        .filter(|path| !reached.contains(*path))
        .map(|path| Finding::new(path, 1, "no `mod` leads here: delete it or declare it"))
        .collect()
}

/// Below `src/`, or in an integration test that has modules. What trybuild compiles is not ours to follow.
fn is_compiled(path: &str) -> bool {
    is_below(path, "src") || path.contains("tests/it/")
}

fn reach(tree: &Tree, path: &str, reached: &mut BTreeSet<String>) {
    if !reached.insert(path.to_owned()) {
        return;
    }
    let Some(source) = tree.source(path) else {
        return;
    };
    for child in modules::children(source) {
        if tree.source(&child.path).is_some() {
            reach(tree, &child.path, reached);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreached(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files))
            .into_iter()
            .map(|finding| finding.path)
            .collect()
    }

    #[test]
    fn a_file_that_nothing_declares_is_reported() {
        let files = [
            ("a/src/lib.rs", "mod used;\n"),
            ("a/src/used.rs", ""),
            ("a/src/lost.rs", ""),
        ];

        assert_eq!(unreached(&files), ["a/src/lost.rs"]);
    }

    #[test]
    fn modules_are_followed_through_folders_inline_modules_and_paths() {
        let files = [
            (
                "a/src/lib.rs",
                "mod deep;\nmod inline { mod inner; }\n#[path = \"odd.rs\"] mod other;\n",
            ),
            ("a/src/deep/mod.rs", "mod one;\n"),
            ("a/src/deep/one.rs", "mod two;\n"),
            ("a/src/deep/one/two.rs", ""),
            ("a/src/inline/inner.rs", ""),
            ("a/src/odd.rs", ""),
        ];

        assert_eq!(unreached(&files), [] as [String; 0]);
    }

    #[test]
    fn binaries_and_integration_tests_are_roots() {
        let files = [
            ("a/src/bin/tool.rs", ""),
            ("a/tests/it/main.rs", "mod crash;\n"),
            ("a/tests/it/crash.rs", ""),
            ("a/tests/ui/events/x.rs", ""),
        ];

        assert_eq!(unreached(&files), [] as [String; 0]);
    }
}
