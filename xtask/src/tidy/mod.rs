//! `cargo xtask tidy`: the rules of the house that no compiler checks, one file per rule.

mod concept_pages;
mod concept_table;
mod crate_edges;
mod dependency_reasons;
mod error_pages;
mod example_output;
mod file_head;
mod file_size;
mod flow_layers;
mod function_size;
mod hollow_tests;
mod links;
mod modules;
mod names;
mod reachable;
mod source;
mod tree;
mod unfinished;

use std::fmt;

use crate::failure::Failure;
use crate::house::House;
use crate::tidy::tree::Tree;

/// A place where a rule is broken, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Finding {
        Finding {
            path: path.into(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// A rule looks at the whole tree and lists where it is broken.
type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[(&str, Rule)] = &[
    ("sources parse", tree::unparsed),
    ("crate edges", crate_edges::check),
    ("layers of tidings-flow", flow_layers::check),
    ("file size", file_size::check),
    ("function size", function_size::check),
    ("file head", file_head::check),
    ("names", names::check),
    ("concept table", concept_table::check),
    ("concept pages", concept_pages::check),
    ("error pages", error_pages::check),
    ("example output", example_output::check),
    ("reachable files", reachable::check),
    ("hollow tests", hollow_tests::check),
    ("unfinished work", unfinished::check),
    ("dependency reasons", dependency_reasons::check),
    ("links", links::check),
];

/// Prints every finding; fails if there is one.
pub(crate) fn run(house: &House) -> Result<(), Failure> {
    let tree = Tree::read(house)?;
    let mut broken = 0;
    for (name, rule) in RULES {
        let mut findings = rule(&tree);
        findings.sort();
        for finding in &findings {
            println!("{finding}  [{name}]");
        }
        broken += findings.len();
    }
    if broken > 0 {
        return Err(Failure::new(format!(
            "tidy found {broken} places to mend (see STYLE.md)"
        )));
    }
    println!(
        "tidy: {} files obey {} rules",
        tree.paths().count(),
        RULES.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_a_place_that_editors_open() {
        let finding = Finding::new("src/lib.rs", 7, "too long");

        assert_eq!(finding.to_string(), "src/lib.rs:7: too long");
    }
}
