//! Rule: each foreign crate has its reason in the root manifest, and nowhere else a version.

use crate::markdown;
use crate::tidy::Finding;
use crate::tidy::tree::Tree;

const ROOT: &str = "Cargo.toml";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let root = unreasoned(tree.text(ROOT).unwrap_or_default());
    let members = tree
        .texts("/Cargo.toml")
        .filter(|(path, _)| path.starts_with("crates/") || path.starts_with("xtask/"))
        .flat_map(|(path, text)| versions(path, text));
    root.into_iter().chain(members).collect()
}

/// Entries of `[workspace.dependencies]` without a comment behind them or on the line before.
fn unreasoned(manifest: &str) -> Vec<Finding> {
    let mut table = String::new();
    let mut before_is_comment = false;
    let mut findings = Vec::new();
    for (number, line) in markdown::numbered(manifest) {
        let line = line.trim();
        if line.starts_with('[') {
            line.clone_into(&mut table);
        } else if table == "[workspace.dependencies]"
            && let Some(name) = entry(line).filter(|_| !before_is_comment && !has_comment(line))
        {
            let message = format!("{name} has no reason: say in a comment what it is there for");
            findings.push(Finding::new(ROOT, number, message));
        }
        before_is_comment = line.starts_with('#');
    }
    findings
}

/// Dependencies of a member that bring a version of their own.
fn versions(path: &str, manifest: &str) -> Vec<Finding> {
    let mut table = String::new();
    let mut findings = Vec::new();
    for (number, line) in markdown::numbered(manifest) {
        let line = line.trim();
        if line.starts_with('[') {
            line.clone_into(&mut table);
        } else if table.ends_with("dependencies]")
            && let Some(name) = entry(line).filter(|_| !inherits(line))
        {
            let message =
                format!("{name} must inherit from [workspace.dependencies]: `workspace = true`");
            findings.push(Finding::new(path, number, message));
        }
    }
    findings
}

/// The entry takes everything from the root, or names one of our own packages by its path alone.
fn inherits(line: &str) -> bool {
    line.contains("workspace = true") || (line.contains("path = ") && !line.contains("version = "))
}

/// The name at the head of `name = …` or `name.workspace = true`.
fn entry(line: &str) -> Option<&str> {
    let name = line.split(['=', '.', ' ']).next()?;
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_');
    (is_name && line.contains('=')).then_some(name)
}

fn has_comment(line: &str) -> bool {
    line.rsplit_once('#')
        .is_some_and(|(_, comment)| !comment.contains('"') && comment.trim().len() > 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn a_dependency_without_a_reason_is_reported() {
        let text = "[workspace.dependencies]\nserde = \"1\"\nbytes = \"1\" # shared payloads\n# Clocks.\njiff = \"1\"\n";

        let found = findings(ROOT, text);

        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("serde has no reason"));
    }

    #[test]
    fn other_tables_of_the_root_need_no_reasons() {
        assert_eq!(
            findings(ROOT, "[workspace.lints.rust]\nmissing_docs = \"warn\"\n"),
            [] as [String; 0]
        );
    }

    #[test]
    fn a_member_may_not_bring_its_own_version() {
        let text =
            "[dependencies]\nserde = \"1\"\nbytes.workspace = true\njiff = { workspace = true }\n";

        let found = findings("crates/tidings-core/Cargo.toml", text);

        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("serde must inherit"));
    }
}
