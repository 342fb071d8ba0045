//! Rule: every error code has a page in docs/errors/, every page a code, and an exit code that a page states is that of the generated list.

use std::collections::BTreeMap;

use crate::markdown;
use crate::tidy::Finding;
use crate::tidy::tree::Tree;

const CODES: &str = "crates/tidings-core/src/codes.rs";
const PAGES: &str = "docs/errors/";
/// Printed by the command line itself: code, meaning, exit code.
const LIST: &str = "docs/reference/errors.md";
/// How a page states it, whatever the lines are.
const STATED: &str = "Exit code of the command line: ";
const PREFIX: &str = "TD";
const DIGITS: usize = 4;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let codes = codes_in(tree.text(CODES).unwrap_or_default());
    let pageless = codes
        .iter()
        .filter(|(code, _)| !tree.exists(&page_of(code)))
        .map(|(code, line)| {
            Finding::new(
                CODES,
                *line,
                format!("{code} has no page: write {}", page_of(code)),
            )
        });
    let orphans = tree.paths().filter_map(|path| {
        let code = path.strip_prefix(PAGES)?.strip_suffix(".md")?;
        (code.starts_with(PREFIX) && !codes.contains_key(code)).then(|| {
            Finding::new(
                path,
                1,
                format!("no error has the code {code} (see {CODES})"),
            )
        })
    });
    let exits = exits_in(tree.text(LIST).unwrap_or_default());
    let false_exits = codes.keys().filter_map(|code| {
        let page = page_of(code);
        let (stated, true_one) = (stated_exit(tree.text(&page)?)?, exits.get(code)?);
        (stated != *true_one).then(|| {
            Finding::new(
                page,
                1,
                format!("it states the exit code {stated}, but {LIST} says {true_one}"),
            )
        })
    });
    pageless.chain(orphans).chain(false_exits).collect()
}

/// Code → its exit code, from the rows of the generated table.
fn exits_in(list: &str) -> BTreeMap<String, String> {
    let rows = list.lines().filter_map(|line| {
        let code = line.strip_prefix("| [")?.split(']').next()?;
        let exit = line.trim_end_matches([' ', '|']).rsplit(' ').next()?;
        Some((code.to_owned(), exit.to_owned()))
    });
    rows.collect()
}

/// The exit code that a page states, if it states one.
fn stated_exit(page: &str) -> Option<String> {
    let words: Vec<&str> = page.split_whitespace().collect();
    let text = words.join(" ");
    let (_, behind) = text.split_once(STATED)?;
    let digits = behind.find(|letter: char| !letter.is_ascii_digit());
    Some(behind.get(..digits.unwrap_or(behind.len()))?.to_owned())
}

fn page_of(code: &str) -> String {
    format!("{PAGES}{code}.md")
}

/// Code → the line where it first stands.
fn codes_in(text: &str) -> BTreeMap<String, usize> {
    let mut codes = BTreeMap::new();
    for (number, line) in markdown::numbered(text) {
        for (at, _) in line.match_indices(PREFIX) {
            let end = at + PREFIX.len() + DIGITS;
            let Some(code) = line.get(at..end) else {
                continue;
            };
            let all_digits = code
                .bytes()
                .skip(PREFIX.len())
                .all(|byte| byte.is_ascii_digit());
            if all_digits {
                codes.entry(code.to_owned()).or_insert(number);
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_without_a_page_and_a_page_without_a_code_are_reported() {
        let tree = Tree::of(&[
            (
                CODES,
                "//! Codes.\nconst A: &str = \"TD0001\";\nconst B: &str = \"TD0002\";\n",
            ),
            ("docs/errors/TD0001.md", ""),
            ("docs/errors/TD0009.md", ""),
        ]);

        let mut found = check(&tree);
        found.sort();

        assert_eq!(found.len(), 2);
        assert_eq!((found[0].path.as_str(), found[0].line), (CODES, 3));
        assert_eq!(found[1].path, "docs/errors/TD0009.md");
    }

    #[test]
    fn an_exit_code_that_the_program_does_not_give_is_reported() {
        let tree = |page| {
            Tree::of(&[
                (CODES, "const A: &str = \"TD0001\";\n"),
                (
                    LIST,
                    "| code | meaning | exit code |\n|---|---|---|\n| [TD0001](../errors/TD0001.md) | it is down | 7 |\n",
                ),
                ("docs/errors/TD0001.md", page),
            ])
        };

        let found = check(&tree("Transient. Exit code of the\ncommand line: 1, or 5."));

        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("exit code 1, but"), "{found:?}");
        assert_eq!(check(&tree("Exit code of the command line: 7.")), []);
        assert_eq!(check(&tree("It says nothing of exit codes.")), []);
    }

    #[test]
    fn a_readme_among_the_pages_is_no_page_of_a_code() {
        assert_eq!(check(&Tree::of(&[("docs/errors/README.md", "")])), []);
    }
}
