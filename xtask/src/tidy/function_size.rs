//! Rule: a function fits a screen, 70 lines from `fn` to its closing brace. Tests are exempt.

use proc_macro2::Span;
use syn::visit::{self, Visit};

use crate::tidy::Finding;
use crate::tidy::source::Source;
use crate::tidy::tree::Tree;

const LINES_MAX: usize = 70;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.sources().flat_map(long_functions).collect()
}

fn long_functions(source: &Source) -> Vec<Finding> {
    let mut functions = Functions { found: Vec::new() };
    functions.visit_file(&source.syntax);
    functions
        .found
        .into_iter()
        .filter(|function| function.lines > LINES_MAX && !source.is_test_line(function.line))
        .map(|Function { name, line, lines }| {
            let message =
                format!("fn {name} has {lines} lines, {LINES_MAX} at most: name its steps");
            Finding::new(source.path.clone(), line, message)
        })
        .collect()
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

struct Functions {
    found: Vec<Function>,
}

impl Functions {
    fn measure(&mut self, signature: &syn::Signature, close: Span) {
        let line = signature.fn_token.span.start().line;
        let lines = close.end().line + 1 - line;
        self.found.push(Function {
            name: signature.ident.to_string(),
            line,
            lines,
        });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig, item.block.brace_token.span.close());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig, item.block.brace_token.span.close());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block.brace_token.span.close());
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function of so many lines, its braces included.
    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
    }

    fn findings(path: &str, text: &str) -> Vec<Finding> {
        check(&Tree::of(&[(path, text)]))
    }

    #[test]
    fn a_function_of_71_lines_is_reported_by_name() {
        let found = findings("src/a.rs", &function(71));

        assert_eq!(found.len(), 1);
        assert!(found[0].message.starts_with("fn long has 71 lines"));
    }

    #[test]
    fn a_function_of_70_lines_fits() {
        assert_eq!(findings("src/a.rs", &function(70)), []);
    }

    #[test]
    fn methods_and_default_methods_count() {
        let in_impl = format!("impl A {{\n{}}}\n", function(71));
        let in_trait = format!("trait A {{\n{}}}\n", function(71));

        assert_eq!(findings("src/a.rs", &in_impl).len(), 1);
        assert_eq!(findings("src/a.rs", &in_trait).len(), 1);
    }

    #[test]
    fn tests_may_be_longer() {
        let module = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(90));

        assert_eq!(findings("src/a.rs", &module), []);
        assert_eq!(findings("tests/it/a.rs", &function(90)), []);
    }
}
