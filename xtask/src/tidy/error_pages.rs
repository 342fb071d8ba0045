//! Rule: every error code has a page in docs/errors/, and every page a code.

use std::collections::BTreeMap;

use crate::markdown;
use crate::tidy::Finding;
use crate::tidy::tree::Tree;

const CODES: &str = "crates/tidings-core/src/codes.rs";
const PAGES: &str = "docs/errors/";
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
    pageless.chain(orphans).collect()
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
    fn a_readme_among_the_pages_is_no_page_of_a_code() {
        assert_eq!(check(&Tree::of(&[("docs/errors/README.md", "")])), []);
    }
}
