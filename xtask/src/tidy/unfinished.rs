//! Rule: what is in the tree is finished: no placeholder macro, no note to come back later.

use proc_macro2::TokenTree;

use crate::markdown;
use crate::tidy::Finding;
use crate::tidy::source::Source;
use crate::tidy::tree::Tree;

const MACROS: &[&str] = &["todo", "unimplemented"];

/// Joined here, so that this file does not hold the words it looks for.
const NOTES: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let macros = tree.sources().flat_map(placeholder_macros);
    let notes = tree.texts("").flat_map(|(path, text)| notes_in(path, text));
    macros.chain(notes).collect()
}

fn placeholder_macros(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    source.each_token_run(|run| {
        for pair in run.windows(2) {
            if let [TokenTree::Ident(ident), TokenTree::Punct(bang)] = pair {
                let name = ident.to_string();
                if bang.as_char() == '!' && MACROS.contains(&name.as_str()) {
                    let line = ident.span().start().line;
                    let message =
                        format!("`{name}!` panics in a user's hands: build it or leave it out");
                    findings.push(Finding::new(source.path.clone(), line, message));
                }
            }
        }
    });
    findings
}

fn notes_in(path: &str, text: &str) -> Vec<Finding> {
    markdown::numbered(text)
        .flat_map(|(number, line)| {
            let words = line.split(|c: char| !c.is_alphanumeric());
            words
                .filter(|word| NOTES.contains(word))
                .map(move |word| (number, word))
                .collect::<Vec<_>>()
        })
        .map(|(number, word)| {
            Finding::new(
                path,
                number,
                format!("{word}: do it now, or write down elsewhere that it is wanted"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)]))
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn placeholder_macros_are_reported_inside_macros_too() {
        let text = format!(
            "fn a() {{\n    {}!();\n    select! {{ _ => {}!() }}\n}}\n",
            MACROS[0], MACROS[1]
        );

        assert_eq!(lines("src/a.rs", &text), [2, 3]);
    }

    #[test]
    fn notes_are_reported_in_every_kind_of_text() {
        assert_eq!(
            lines("docs/a.md", &format!("fine\n{}: later\n", NOTES[0])),
            [2]
        );
        assert_eq!(lines("src/a.rs", &format!("// {} later\n", NOTES[1])), [1]);
    }

    #[test]
    fn a_word_that_contains_a_note_is_fine() {
        assert_eq!(
            lines("docs/a.md", &format!("{}S, mas{}\n", NOTES[0], NOTES[2])),
            [] as [usize; 0]
        );
    }
}
