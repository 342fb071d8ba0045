//! Which files the `mod` items of a file lead to, and which of them are there for tests alone.

use crate::tidy::source::{Source, is_test_attribute};

/// A file where a declared module may lie; of two possible places at most one exists.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) path: String,
    /// Declared under `#[cfg(test)]`.
    pub(crate) only_for_tests: bool,
}

/// The places of all modules that a file declares without giving their body.
pub(crate) fn children(source: &Source) -> Vec<Child> {
    let place = Place {
        beside: parent(&source.path),
        below: folder_for_modules(&source.path),
        only_for_tests: false,
    };
    let mut found = Vec::new();
    place.collect(&source.syntax.items, &mut found);
    found
}

/// The file begins a crate: a library, a binary or an integration test.
pub(crate) fn is_root(path: &str) -> bool {
    let ends = ["src/lib.rs", "src/main.rs", "tests/it/main.rs"];
    let is_bin = path
        .split_once("src/bin/")
        .is_some_and(|(_, inside)| !inside.contains('/') || inside.ends_with("/main.rs"));
    is_bin
        || ends
            .iter()
            .any(|end| path == *end || path.ends_with(&format!("/{end}")))
}

/// Where a list of items stands.
struct Place {
    /// The folder of the file itself, from which `#[path]` counts.
    beside: String,
    /// The folder of its modules.
    below: String,
    only_for_tests: bool,
}

impl Place {
    fn collect(&self, items: &[syn::Item], found: &mut Vec<Child>) {
        for item in items {
            let syn::Item::Mod(module) = item else {
                continue;
            };
            let name = module.ident.to_string();
            let name = name.trim_start_matches("r#");
            let only_for_tests = self.only_for_tests || module.attrs.iter().any(is_test_attribute);
            let mut keep = |path: String| {
                found.push(Child {
                    path,
                    only_for_tests,
                });
            };
            if let Some((_, inner)) = &module.content {
                let place = Place {
                    beside: self.beside.clone(),
                    below: format!("{}/{name}", self.below),
                    only_for_tests,
                };
                place.collect(inner, found);
            } else if let Some(given) = path_attribute(module) {
                keep(format!("{}/{given}", self.beside));
            } else {
                keep(format!("{}/{name}.rs", self.below));
                keep(format!("{}/{name}/mod.rs", self.below));
            }
        }
    }
}

fn folder_for_modules(path: &str) -> String {
    if is_root(path) || path.ends_with("/mod.rs") {
        parent(path)
    } else {
        path.trim_end_matches(".rs").to_owned()
    }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/')
        .map_or_else(String::new, |(folder, _)| folder.to_owned())
}

fn path_attribute(module: &syn::ItemMod) -> Option<String> {
    let mut attributes = module.attrs.iter();
    let attribute = attributes.find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta.require_name_value().ok()?.value {
        syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(text),
            ..
        }) => Some(text.value()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &str, text: &str) -> Vec<(String, bool)> {
        let source = Source::parse(path, text).expect("parses");
        let found = children(&source).into_iter();
        found
            .map(|child| (child.path, child.only_for_tests))
            .collect()
    }

    #[test]
    fn modules_of_a_root_lie_beside_it_and_those_of_a_file_below_it() {
        assert_eq!(places("a/src/lib.rs", "mod b;")[0].0, "a/src/b.rs");
        assert_eq!(places("a/src/b.rs", "mod c;")[1].0, "a/src/b/c/mod.rs");
        assert_eq!(places("a/src/b/mod.rs", "mod c;")[0].0, "a/src/b/c.rs");
    }

    #[test]
    fn a_module_declared_for_tests_is_known_as_such_also_inside_another() {
        let text = "#[cfg(test)] mod fakes;\n#[cfg(test)] mod tests { mod inner; }\nmod real;\n";

        let only_for_tests: Vec<bool> = places("a/src/lib.rs", text)
            .into_iter()
            .map(|(_, only)| only)
            .collect();

        assert_eq!(only_for_tests, [true, true, true, true, false, false]);
    }
}
