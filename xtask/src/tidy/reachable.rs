//! Rule: no Rust file lies around: each is a crate root or the module of a reachable file.

use std::collections::BTreeSet;

use crate::tidy::Finding;
use crate::tidy::source::is_below;
use crate::tidy::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let candidates: BTreeSet<&str> = tree
        .sources()
        .map(|source| source.path.as_str())
        .filter(|path| is_compiled(path))
        .collect();
    let mut reached = BTreeSet::new();
    for root in candidates.iter().filter(|path| is_root(path)) {
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

fn is_root(path: &str) -> bool {
    let ends = ["src/lib.rs", "src/main.rs", "tests/it/main.rs"];
    let is_bin = path
        .split_once("src/bin/")
        .is_some_and(|(_, inside)| !inside.contains('/') || inside.ends_with("/main.rs"));
    is_bin
        || ends
            .iter()
            .any(|end| path == *end || path.ends_with(&format!("/{end}")))
}

fn reach(tree: &Tree, path: &str, reached: &mut BTreeSet<String>) {
    if !reached.insert(path.to_owned()) {
        return;
    }
    let Some(source) = tree.source(path) else {
        return;
    };
    for child in modules_of(&source.syntax.items, path, &folder_for_modules(path)) {
        if tree.source(&child).is_some() {
            reach(tree, &child, reached);
        }
    }
}

/// Where the modules of this file lie.
fn folder_for_modules(path: &str) -> String {
    let is_owner = is_root(path) || path.ends_with("/mod.rs");
    if is_owner {
        parent(path)
    } else {
        path.trim_end_matches(".rs").to_owned()
    }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/')
        .map_or_else(String::new, |(folder, _)| folder.to_owned())
}

/// The places where the modules declared here may lie.
fn modules_of(items: &[syn::Item], path: &str, folder: &str) -> Vec<String> {
    let mut places = Vec::new();
    for item in items {
        let syn::Item::Mod(module) = item else {
            continue;
        };
        let name = module.ident.to_string();
        let name = name.trim_start_matches("r#");
        if let Some((_, inner)) = &module.content {
            places.extend(modules_of(inner, path, &format!("{folder}/{name}")));
        } else if let Some(given) = path_attribute(module) {
            places.push(format!("{}/{given}", parent(path)));
        } else {
            places.push(format!("{folder}/{name}.rs"));
            places.push(format!("{folder}/{name}/mod.rs"));
        }
    }
    places
}

fn path_attribute(module: &syn::ItemMod) -> Option<String> {
    module
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("path"))
        .find_map(
            |attribute| match &attribute.meta.require_name_value().ok()?.value {
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }) => Some(text.value()),
                _ => None,
            },
        )
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
            ("a/tests/ui/fail/x.rs", ""),
        ];

        assert_eq!(unreached(&files), [] as [String; 0]);
    }
}
