//! `Source`: a Rust file, parsed, with the lines that are only for tests.

use std::ops::RangeInclusive;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tidy::Finding;

/// A Rust file as the rules see it.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
    tokens: TokenStream,
    /// A module that is declared for tests alone; the tree finds out.
    pub(crate) only_for_tests: bool,
    /// Lines of items marked `#[cfg(test)]` or `#[test]`.
    test_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Result<Source, Finding> {
        let unparsed = |error: &syn::Error| {
            Finding::new(
                path,
                error.span().start().line,
                format!("does not parse as Rust: {error}"),
            )
        };
        let syntax = syn::parse_file(text).map_err(|e| unparsed(&e))?;
        let tokens = text
            .parse()
            .map_err(|e: proc_macro2::LexError| unparsed(&e.into()))?;
        let mut finder = TestItems { lines: Vec::new() };
        finder.visit_file(&syntax);
        let (path, text) = (path.to_owned(), text.to_owned());
        Ok(Source {
            path,
            text,
            syntax,
            tokens,
            only_for_tests: false,
            test_lines: finder.lines,
        })
    }

    /// The whole file is there for tests or measurements alone.
    pub(crate) fn is_test_file(&self) -> bool {
        self.only_for_tests
            || is_below(&self.path, "tests")
            || is_below(&self.path, "benches")
            || self.path.ends_with("/tests.rs")
    }

    /// The line belongs to a test, be it by its file or by its item.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.is_test_file() || self.test_lines.iter().any(|range| range.contains(&line))
    }

    /// Lines of the file that are not inside a test item.
    pub(crate) fn lines_besides_tests(&self) -> usize {
        (1..=self.text.lines().count())
            .filter(|line| !self.test_lines.iter().any(|range| range.contains(line)))
            .count()
    }

    /// Calls `look` with every run of sibling tokens, macros' insides included.
    pub(crate) fn each_token_run(&self, mut look: impl FnMut(&[TokenTree])) {
        walk_runs(self.tokens.clone(), &mut look);
    }
}

fn walk_runs(tokens: TokenStream, look: &mut impl FnMut(&[TokenTree])) {
    let run: Vec<TokenTree> = tokens.into_iter().collect();
    look(&run);
    for token in run {
        if let TokenTree::Group(group) = token {
            walk_runs(group.stream(), look);
        }
    }
}

/// The path has a folder of this name among its parents.
pub(crate) fn is_below(path: &str, folder: &str) -> bool {
    path.rsplit('/').skip(1).any(|parent| parent == folder)
}

/// The attribute is `#[test]`, `#[tokio::test]` or a `#[cfg(…)]` that holds only in tests.
pub(crate) fn is_test_attribute(attribute: &syn::Attribute) -> bool {
    let path = attribute.path();
    if path.is_ident("cfg") {
        return attribute
            .parse_args::<syn::Path>()
            .is_ok_and(|condition| condition.is_ident("test"));
    }
    path.segments
        .last()
        .is_some_and(|last| last.ident == "test")
}

struct TestItems {
    lines: Vec<RangeInclusive<usize>>,
}

impl TestItems {
    /// Keeps the item's lines if it is a test; `true` if so.
    fn keep(&mut self, attributes: &[syn::Attribute], item: &impl Spanned) -> bool {
        let is_test = attributes.iter().any(is_test_attribute);
        if is_test {
            let span = item.span();
            self.lines.push(span.start().line..=span.end().line);
        }
        is_test
    }
}

impl<'ast> Visit<'ast> for TestItems {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !self.keep(attributes_of(item), item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !self.keep(&item.attrs, item) {
            visit::visit_impl_item_fn(self, item);
        }
    }
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "//! Head.\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";

    #[test]
    fn lines_of_a_test_module_do_not_count() {
        let source = Source::parse("src/lib.rs", TEXT).expect("parses");

        assert_eq!(source.lines_besides_tests(), 4);
        assert!(source.is_test_line(6));
        assert!(!source.is_test_line(8));
    }

    #[test]
    fn files_below_tests_are_test_files() {
        let source = Source::parse("crates/a/tests/it/main.rs", TEXT).expect("parses");

        assert!(source.is_test_file());
        assert!(source.is_test_line(2));
    }

    #[test]
    fn a_feature_named_test_is_no_test() {
        let text = "#[cfg(feature = \"test\")]\nmod kit {}\n";
        let source = Source::parse("src/lib.rs", text).expect("parses");

        assert!(!source.is_test_line(2));
    }
}
