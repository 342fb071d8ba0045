//! Rule: ARCHITECTURE.md leads from every concept to its room, and no module is missing on that map.

use std::collections::BTreeSet;

use crate::markdown::{self, Link, Row};
use crate::tidy::Finding;
use crate::tidy::tree::Tree;

const PAGE: &str = "ARCHITECTURE.md";
const CONCEPTS: &str = "Concept to room";
const SUPPORTING: &str = "Supporting rooms";
/// Stands in a cell whose room is not built yet.
const PLANNED: &str = "*planned*";
/// The crates whose modules are rooms of concepts.
const MAPPED: &[&str] = &[
    "crates/tidings-core/src/",
    "crates/tidings-flow/src/",
    "crates/tidings-log/src/",
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(PAGE) else {
        return vec![Finding::new(
            PAGE,
            1,
            "is missing: it is the map of the house",
        )];
    };
    let Some(lines) = markdown::section(text, CONCEPTS) else {
        return vec![Finding::new(
            PAGE,
            1,
            format!("has no section \"## {CONCEPTS}\""),
        )];
    };
    let mut findings: Vec<Finding> = markdown::table(&lines)
        .iter()
        .flat_map(unclear_cells)
        .collect();
    let mut named = markdown::links(&lines);
    named.extend(markdown::links(
        &markdown::section(text, SUPPORTING).unwrap_or_default(),
    ));
    findings.extend(unnamed_modules(tree, &named));
    findings
}

/// Each cell behind the concept is a dash, links to what exists, or says that it is planned.
fn unclear_cells(row: &Row) -> Vec<Finding> {
    row.cells
        .iter()
        .skip(1)
        .filter(|cell| *cell != "–" && !cell.contains("](") && !cell.contains(PLANNED))
        .map(|cell| {
            let message = format!("\"{cell}\" is neither a link nor a dash nor {PLANNED}");
            Finding::new(PAGE, row.line, message)
        })
        .collect()
}

fn unnamed_modules(tree: &Tree, named: &[Link]) -> Vec<Finding> {
    modules(tree)
        .into_iter()
        .filter(|module| !named.iter().any(|link| leads_into(&link.target, module)))
        .map(|module| {
            let message = format!(
                "{module} stands neither in \"{CONCEPTS}\" nor in \"{SUPPORTING}\": give it a row"
            );
            Finding::new(PAGE, 1, message)
        })
        .collect()
}

/// `crates/…/src/name` of every module directly below the mapped crates.
fn modules(tree: &Tree) -> BTreeSet<String> {
    tree.sources()
        .filter(|source| !source.is_test_file())
        .filter_map(|source| {
            let path = &source.path;
            let room = MAPPED.iter().find(|room| path.starts_with(**room))?;
            let first = path.strip_prefix(room)?.split('/').next()?;
            let module = first.strip_suffix(".rs").unwrap_or(first);
            (module != "lib").then(|| format!("{room}{module}"))
        })
        .collect()
}

fn leads_into(target: &str, module: &str) -> bool {
    let target = target.split('#').next().unwrap_or(target);
    target == format!("{module}.rs")
        || target == module
        || target.starts_with(&format!("{module}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &str, supporting: &str) -> String {
        format!(
            "## {CONCEPTS}\n\n| Concept | Room |\n|---|---|\n{rows}\n## {SUPPORTING}\n\n{supporting}\n"
        )
    }

    fn findings(page: &str, files: &[&str]) -> Vec<Finding> {
        let mut all: Vec<(&str, &str)> = files.iter().map(|path| (*path, "")).collect();
        all.push((PAGE, page));
        check(&Tree::of(&all))
    }

    #[test]
    fn a_module_without_a_row_is_reported() {
        let found = findings(
            &page("| Event | – |\n", ""),
            &["crates/tidings-core/src/event.rs"],
        );

        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .message
                .starts_with("crates/tidings-core/src/event stands neither")
        );
    }

    #[test]
    fn rows_and_supporting_rooms_both_name_modules() {
        let page = page(
            "| Event | [event](crates/tidings-core/src/event.rs) |\n",
            "[seams](crates/tidings-core/src/seam/)",
        );

        let files = [
            "crates/tidings-core/src/event.rs",
            "crates/tidings-core/src/seam/clock.rs",
        ];
        assert_eq!(findings(&page, &files), []);
    }

    #[test]
    fn a_row_that_leads_nowhere_must_say_that_it_is_planned() {
        assert_eq!(
            findings(&page("| Saga | flow `saga/` |\n", ""), &[]).len(),
            1
        );
        assert_eq!(
            findings(&page("| Saga | flow `saga/` *planned* |\n", ""), &[]),
            []
        );
    }

    #[test]
    fn a_missing_map_is_reported() {
        assert_eq!(check(&Tree::of(&[])).len(), 1);
        assert_eq!(check(&Tree::of(&[(PAGE, "# Nothing")])).len(), 1);
    }
}
