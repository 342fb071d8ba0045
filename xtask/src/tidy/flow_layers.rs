//! Rule: modules of tidings-flow use only their own layer and the layers above it in ARCHITECTURE.md,
//! and no two of them use each other.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use crate::markdown;
use crate::tidy::Finding;
use crate::tidy::source::Source;
use crate::tidy::tree::Tree;

const PAGE: &str = "ARCHITECTURE.md";
const SECTION: &str = "Layers inside tidings-flow";
const ROOM: &str = "crates/tidings-flow/src/";

/// One module names another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    from: String,
    to: String,
    path: String,
    line: usize,
}

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let modules: BTreeSet<String> = tree
        .sources()
        .filter(|source| !source.is_test_file())
        .filter_map(|source| module_of(&source.path))
        .collect();
    if modules.is_empty() {
        return Vec::new();
    }
    let layers = layers(tree);
    let mut findings: Vec<Finding> = modules
        .iter()
        .filter(|module| !layers.contains_key(*module))
        .map(|module| {
            let message =
                format!("module {module} of tidings-flow stands in no row of \"{SECTION}\"");
            Finding::new(PAGE, 1, message)
        })
        .collect();
    let uses: Vec<Use> = tree
        .sources()
        .flat_map(|source| uses_of(source, &modules))
        .collect();
    findings.extend(uses.iter().filter_map(|found| upward(found, &layers)));
    findings.extend(cycles(&uses));
    findings
}

/// Module → number of its row.
fn layers(tree: &Tree) -> BTreeMap<String, usize> {
    let lines = tree
        .text(PAGE)
        .and_then(|text| markdown::section(text, SECTION))
        .unwrap_or_default();
    markdown::table(&lines)
        .iter()
        .enumerate()
        .flat_map(|(layer, row)| {
            let words = row
                .cells
                .get(1)
                .map(|cell| markdown::code_words(cell))
                .unwrap_or_default();
            words.into_iter().map(move |module| (module, layer))
        })
        .collect()
}

/// The top-level module that a file of tidings-flow belongs to; none for lib.rs and foreign files.
fn module_of(path: &str) -> Option<String> {
    let inside = path.strip_prefix(ROOM)?;
    let first = inside.split('/').next()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (module != "lib").then(|| module.to_owned())
}

fn upward(found: &Use, layers: &BTreeMap<String, usize>) -> Option<Finding> {
    let (from, to) = (layers.get(&found.from)?, layers.get(&found.to)?);
    let message = format!(
        "{} may not use {}: it stands in a later layer (see \"{SECTION}\" in {PAGE})",
        found.from, found.to
    );
    (to > from).then(|| Finding::new(found.path.clone(), found.line, message))
}

/// Pairs of modules that reach each other, reported at the use that closes the circle.
fn cycles(uses: &[Use]) -> Vec<Finding> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for found in uses {
        next.entry(&found.from).or_default().insert(&found.to);
    }
    uses.iter()
        .filter(|found| found.from < found.to && reaches(&next, &found.to, &found.from))
        .map(|found| {
            let message = format!(
                "{} and {} use each other, directly or in a circle",
                found.from, found.to
            );
            Finding::new(found.path.clone(), found.line, message)
        })
        .collect()
}

fn reaches(next: &BTreeMap<&str, BTreeSet<&str>>, from: &str, goal: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        if module == goal {
            return true;
        }
        if seen.insert(module) {
            open.extend(next.get(module).into_iter().flatten());
        }
    }
    false
}

fn uses_of(source: &Source, modules: &BTreeSet<String>) -> Vec<Use> {
    let Some(from) = module_of(&source.path) else {
        return Vec::new();
    };
    let mut paths = CratePaths {
        depth: depth(&source.path),
        found: Vec::new(),
    };
    paths.visit_file(&source.syntax);
    paths
        .found
        .into_iter()
        .filter(|(to, line)| *to != from && modules.contains(to) && !source.is_test_line(*line))
        .map(|(to, line)| Use {
            from: from.clone(),
            to,
            path: source.path.clone(),
            line,
        })
        .collect()
}

/// How many `super` lead from the file's module to the crate's root.
fn depth(path: &str) -> usize {
    let inside = path.strip_prefix(ROOM).unwrap_or(path);
    let folders = inside.matches('/').count();
    if inside.ends_with("/mod.rs") {
        folders
    } else {
        folders + 1
    }
}

/// Collects the first module below `crate` of every path that leads there.
struct CratePaths {
    depth: usize,
    found: Vec<(String, usize)>,
}

impl CratePaths {
    /// Looks at the segments of one complete path.
    fn look(&mut self, segments: &[&syn::Ident]) {
        let skipped = match segments.first() {
            Some(first) if *first == "crate" => 1,
            _ => {
                let supers = segments
                    .iter()
                    .take_while(|segment| **segment == "super")
                    .count();
                if supers != self.depth {
                    return;
                }
                supers
            }
        };
        if let Some(module) = segments.get(skipped) {
            self.found
                .push((module.to_string(), module.span().start().line));
        }
    }

    fn look_at_use<'a>(&mut self, tree: &'a syn::UseTree, prefix: &[&'a syn::Ident]) {
        let with = |ident: &'a syn::Ident| [prefix, &[ident]].concat();
        match tree {
            syn::UseTree::Path(path) => self.look_at_use(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.look(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.look(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.look(prefix),
            syn::UseTree::Group(group) => {
                for item in &group.items {
                    self.look_at_use(item, prefix);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for CratePaths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.look_at_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<&syn::Ident> =
            path.segments.iter().map(|segment| &segment.ident).collect();
        self.look(&segments);
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: &str = "## Layers inside tidings-flow\n\n| Layer | Modules |\n|---|---|\n\
        | everyone may use | `trace` |\n| 1 | `producer`, `outbox` |\n| 2 | `consumer` |\n";

    fn findings(files: &[(&str, &str)]) -> Vec<Finding> {
        let files: Vec<(String, &str)> = files
            .iter()
            .map(|(path, text)| (format!("{ROOM}{path}"), *text))
            .collect();
        let mut all: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect();
        all.push((PAGE, LAYERS));
        check(&Tree::of(&all))
    }

    #[test]
    fn a_lower_layer_may_not_use_a_higher_one() {
        let found = findings(&[
            ("producer.rs", "use crate::consumer::Lane;\n"),
            ("consumer/mod.rs", ""),
        ]);

        assert_eq!(found.len(), 1);
        assert!(
            found[0].message.contains("producer may not use consumer"),
            "{found:?}"
        );
    }

    #[test]
    fn a_higher_layer_may_use_a_lower_one() {
        let found = findings(&[
            ("producer.rs", ""),
            ("consumer/lane.rs", "use crate::{producer, trace::X};\n"),
        ]);

        assert_eq!(found, []);
    }

    #[test]
    fn super_and_inline_paths_count_like_use_lines() {
        let body = "fn a() { super::super::consumer::b(); crate::consumer::b(); }\n";
        let found = findings(&[("outbox/relay.rs", body), ("consumer/mod.rs", "")]);

        assert_eq!(found.len(), 2);
    }

    #[test]
    fn two_modules_of_one_layer_may_not_use_each_other() {
        let found = findings(&[
            ("producer.rs", "use crate::outbox::Relay;\n"),
            ("outbox.rs", "use crate::producer::stamp;\n"),
        ]);

        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("use each other"));
    }

    #[test]
    fn a_module_without_a_layer_is_reported() {
        let found = findings(&[("surprise.rs", "")]);

        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("module surprise"));
    }

    #[test]
    fn tests_may_use_what_they_need() {
        let text = "#[cfg(test)]\nmod tests {\n    use crate::consumer::Lane;\n}\n";

        assert_eq!(
            findings(&[("producer.rs", text), ("consumer/mod.rs", "")]),
            []
        );
    }
}
