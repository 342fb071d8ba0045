//! Rule: no test that cannot fail: a bare `matches!`, an ignored test without a reason, `should_panic`.

use proc_macro2::{Delimiter, TokenTree};

use crate::tidy::Finding;
use crate::tidy::source::Source;
use crate::tidy::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.sources().flat_map(hollow_in).collect()
}

fn hollow_in(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    source.each_token_run(|run| {
        for at in 0..run.len() {
            let tail = run.get(at..).unwrap_or_default();
            let before = at.checked_sub(1).and_then(|index| run.get(index));
            let message = bare_matches(before, tail).or_else(|| idle_attribute(tail));
            if let (Some(message), Some(token)) = (message, tail.first()) {
                findings.push(Finding::new(
                    source.path.clone(),
                    token.span().start().line,
                    message,
                ));
            }
        }
    });
    findings
}

/// `matches!(…);` where a statement begins.
fn bare_matches(before: Option<&TokenTree>, tail: &[TokenTree]) -> Option<&'static str> {
    let starts_statement = match before {
        None => true,
        Some(TokenTree::Punct(punct)) => punct.as_char() == ';',
        Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
        Some(_) => false,
    };
    let [name, bang, TokenTree::Group(_), end, ..] = tail else {
        return None;
    };
    let is_bare =
        starts_statement && is_word(name, "matches") && is_punct(bang, '!') && is_punct(end, ';');
    is_bare.then_some("a bare `matches!(…);` asserts nothing: write `assert!(matches!(…));`")
}

/// `#[ignore]` without a reason, and `#[should_panic]` in any form.
fn idle_attribute(tail: &[TokenTree]) -> Option<&'static str> {
    let [hash, TokenTree::Group(group), ..] = tail else {
        return None;
    };
    if !is_punct(hash, '#') || group.delimiter() != Delimiter::Bracket {
        return None;
    }
    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
    match inside.as_slice() {
        [only] if is_word(only, "ignore") => Some("an ignored test says why: `#[ignore = \"…\"]`"),
        [first, ..] if is_word(first, "should_panic") => {
            Some("`should_panic` passes on the wrong panic too: catch the error and look at it")
        }
        _ => None,
    }
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&Tree::of(&[("src/a.rs", text)]))
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn a_bare_matches_is_reported_inside_macros_too() {
        let text = "fn a() {\n    matches!(x, Some(_));\n    select! { y => {\n        matches!(x, None);\n    } }\n}\n";

        assert_eq!(lines(text), [2, 4]);
    }

    #[test]
    fn a_matches_whose_value_is_used_is_fine() {
        let text = "fn a() -> bool {\n    assert!(matches!(x, None));\n    let y = matches!(x, None);\n    matches!(x, None)\n}\n";

        assert_eq!(lines(text), [] as [usize; 0]);
    }

    #[test]
    fn an_ignored_test_needs_a_reason() {
        assert_eq!(
            lines("#[ignore]\nfn a() {}\n#[ignore = \"needs a server\"]\nfn b() {}\n"),
            [1]
        );
    }

    #[test]
    fn should_panic_is_reported_in_any_form() {
        assert_eq!(
            lines("#[should_panic]\nfn a() {}\n#[should_panic(expected = \"x\")]\nfn b() {}\n"),
            [1, 3]
        );
    }
}
