//! Rule: our packages depend on each other only as the table says, and ARCHITECTURE.md shows that table.

use std::collections::BTreeSet;

use crate::house::{Dependency, Package};
use crate::markdown;
use crate::tidy::Finding;
use crate::tidy::tree::Tree;

const PAGE: &str = "ARCHITECTURE.md";
const SECTION: &str = "Allowed edges";

/// Package → what it may depend on. To add an edge is a design change: change it here and on the page.
const EDGES: &[(&str, &[&str])] = &[
    ("tidings-core", &[]),
    ("tidings-macros", &[]),
    ("tidings-schema", &["tidings-core"]),
    ("tidings-log", &["tidings-core"]),
    ("tidings-brokers", &["tidings-core"]),
    ("tidings-sql", &["tidings-core"]),
    ("tidings-flow", &["tidings-core", "tidings-schema"]),
    (
        "tidings-testkit",
        &["tidings-core", "tidings-schema", "tidings-flow"],
    ),
    (
        "tidings",
        &[
            "tidings-core",
            "tidings-macros",
            "tidings-schema",
            "tidings-flow",
            "tidings-log",
            "tidings-sql",
            "tidings-brokers",
            "tidings-testkit",
        ],
    ),
    ("tidings-server", &["tidings"]),
    ("tidings-cli", &["tidings", "tidings-server"]),
    ("xtask", &[]),
];

/// Test code that users may ask for and nobody gets unasked.
const TESTKIT: &str = "tidings-testkit";

/// Packages whose unit tests cannot use the test kit: the kit depends on them, so its types would
/// come from a second copy of the crate.
const BELOW_TESTKIT: &[&str] = &["tidings-core", "tidings-schema", "tidings-flow"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tree.packages().iter().flat_map(forbidden_edges).collect();
    if tree.exists(PAGE) {
        findings.extend(differences_of_the_page(tree));
    }
    findings
}

fn forbidden_edges(package: &Package) -> Vec<Finding> {
    let manifest = match package.name.as_str() {
        "xtask" => "xtask/Cargo.toml".to_owned(),
        name => format!("crates/{name}/Cargo.toml"),
    };
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package.name) else {
        let message = format!(
            "package {} is not in the table of allowed edges",
            package.name
        );
        return vec![Finding::new(manifest, 1, message)];
    };
    package
        .dependencies
        .iter()
        .filter(|dependency| EDGES.iter().any(|(name, _)| *name == dependency.name))
        .filter_map(|dependency| {
            let reason = objection(&package.name, allowed, dependency)?;
            let message = format!("{} depends on {}: {reason}", package.name, dependency.name);
            Some(Finding::new(manifest.clone(), 1, message))
        })
        .collect()
}

/// Why a package may not name one of ours, if it may not.
fn objection(package: &str, allowed: &[&str], dependency: &Dependency) -> Option<&'static str> {
    let is_kit = dependency.name == TESTKIT;
    if dependency.dev {
        let from_below = is_kit && BELOW_TESTKIT.contains(&package);
        from_below.then_some("the test kit depends on it: use fakes local to the crate")
    } else if !allowed.contains(&dependency.name.as_str()) {
        Some("no allowed edge")
    } else {
        let ships_the_kit = is_kit && !dependency.optional;
        ships_the_kit.then_some("test code does not ship: make it optional, behind a feature")
    }
}

fn differences_of_the_page(tree: &Tree) -> Vec<Finding> {
    let Some(lines) = tree
        .text(PAGE)
        .and_then(|text| markdown::section(text, SECTION))
    else {
        return vec![Finding::new(
            PAGE,
            1,
            format!("has no section \"## {SECTION}\""),
        )];
    };
    let first_line = lines.first().map_or(1, |(number, _)| *number);
    let shown: BTreeSet<(String, BTreeSet<String>)> = markdown::table(&lines)
        .iter()
        .filter_map(|row| {
            let package = markdown::code_words(row.cells.first()?)
                .into_iter()
                .next()?;
            let allowed = markdown::code_words(row.cells.get(1)?);
            Some((package, allowed.into_iter().collect()))
        })
        .collect();
    let enforced: BTreeSet<(String, BTreeSet<String>)> = EDGES
        .iter()
        .map(|(package, allowed)| {
            (
                (*package).to_owned(),
                allowed.iter().map(|name| (*name).to_owned()).collect(),
            )
        })
        .collect();
    shown
        .symmetric_difference(&enforced)
        .map(|(package, allowed)| {
            let side = if shown.contains(&(package.clone(), allowed.clone())) {
                "page"
            } else {
                "code"
            };
            let message = format!(
                "{package} → {allowed:?} stands only in the {side}; make page and code the same"
            );
            Finding::new(PAGE, first_line, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependency: &str, dev: bool) -> Package {
        let dependencies = vec![Dependency {
            name: dependency.to_owned(),
            dev,
            optional: false,
        }];
        Package {
            name: name.to_owned(),
            dependencies,
        }
    }

    fn findings(package: Package) -> Vec<Finding> {
        check(&Tree::of(&[]).with_packages(vec![package]))
    }

    #[test]
    fn flow_may_not_name_an_adapter() {
        let found = findings(package("tidings-flow", "tidings-log", false));

        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .message
                .contains("tidings-flow depends on tidings-log")
        );
    }

    #[test]
    fn an_allowed_edge_and_a_foreign_crate_are_no_findings() {
        assert_eq!(findings(package("tidings-flow", "tidings-core", false)), []);
        assert_eq!(findings(package("tidings-flow", "serde", false)), []);
    }

    #[test]
    fn adapters_may_test_with_the_kit_and_the_core_may_not() {
        assert_eq!(
            findings(package("tidings-log", "tidings-testkit", true)),
            []
        );
        assert_eq!(
            findings(package("tidings-core", "tidings-testkit", true)).len(),
            1
        );
    }

    #[test]
    fn the_front_door_ships_the_kit_only_when_asked() {
        let mut front_door = package("tidings", "tidings-testkit", false);
        assert_eq!(findings(front_door.clone()).len(), 1);

        front_door.dependencies[0].optional = true;
        assert_eq!(findings(front_door), []);
    }

    #[test]
    fn an_unknown_package_is_reported() {
        assert_eq!(findings(package("tidings-extra", "serde", false)).len(), 1);
    }

    #[test]
    fn a_page_that_shows_another_table_is_reported() {
        let page =
            "## Allowed edges\n\n| Package | May depend on |\n|---|---|\n| `xtask` | `tidings` |\n";
        let found = check(&Tree::of(&[(PAGE, page)]));

        assert!(found.iter().any(|f| {
            f.message
                .starts_with("xtask → {\"tidings\"} stands only in the page")
        }));
        assert!(
            found
                .iter()
                .any(|f| f.message.starts_with("xtask → {} stands only in the code"))
        );
    }
}
